"""Weights at an address: a hub's repository in timm's form, and a file with its hash."""

import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import misbehaving_server as answers
import numpy as np
import pytest
from commands import call
from conftest import ROOT
from misbehaving_server import Server
from PIL import Image

from mindcv import Classifier, create_model, hub
from mindcv.config import Config, load_config, model_contradictions
from mindcv.errors import ConfigError, WeightsError
from mindcv.hub.sources import _names
from mindcv.validate import of_other_weights, told_by_the_weights
from mindcv.weights import write_weights

TIMM = json.loads((ROOT / "tests/golden/hub_configs.json").read_text(encoding="utf-8"))
MODELS = {name: row for name, row in TIMM.items() if name[0] != "_"}
NAME = "regnetx_002.pycls_in1k"


@pytest.fixture(scope="module")
def network():
    return create_model("regnet_x_200mf").set_train(False)


@pytest.fixture(scope="module")
def safetensors(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    values = {p.name: p.asnumpy() for p in network.get_parameters()}
    write_weights(path, values, names="timm")
    return path.read_bytes()


class Repository:
    """Both hubs' answers for one repository, from `files`: path -> content."""

    def __init__(self, files):
        self.files, self.asked = files, []
        self.server = Server(b"")
        self.server.plan = [self.answer]
        self.root = self.server.root

    def answer(self, handler):
        self.asked.append(handler.path)
        place = urlsplit(handler.path)
        if place.path == "/api/models/timm/net/tree/main":
            listed = [
                {"type": "file", "path": path, "lfs": {"oid": hashlib.sha256(content).hexdigest()}}
                if path.endswith(".safetensors")
                else {"type": "file", "path": path, "oid": "1f"}
                for path, content in self.files.items()
            ]
            answers.body(json.dumps(listed).encode(), Content_Type="application/json")(handler)
        elif place.path == "/api/v1/models/timm/net/repo/files":
            assert parse_qs(place.query) == {"Revision": ["master"]}
            rows = [
                {"Path": path, "Sha256": hashlib.sha256(content).hexdigest()}
                for path, content in self.files.items()
            ]
            answers.body(json.dumps({"Code": 200, "Data": {"Files": rows}}).encode())(handler)
        elif place.path.split("/resolve/")[0] in ("/timm/net", "/models/timm/net"):
            answers.body(self.files[place.path.rsplit("/", 1)[1]])(handler)
        else:
            answers.status(404)(handler)


@pytest.fixture
def repository(safetensors, monkeypatch, tmp_path):
    config = json.dumps(TIMM[NAME]["config"]).encode()
    made = Repository({"config.json": config, "model.safetensors": safetensors, "README.md": b"x"})
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINDCV_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", made.root)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", made.root)
    yield made
    made.server.close()


@pytest.mark.parametrize("name", MODELS)
def test_a_repository_is_prepared_as_timm_prepares_it(repository, name):
    row = MODELS[name]
    repository.files["config.json"] = json.dumps(row["config"]).encode()
    found, theirs = hub.choose_weights("", "", "hf-hub:timm/net"), row["evaluation"]
    used = found.preprocessing
    assert [3, *used.sides] == theirs["input_size"] and used.crop_pct == theirs["crop_pct"]
    assert used.interpolation == theirs["interpolation"] and used.antialias
    assert np.divide(used.mean, 255) == pytest.approx(theirs["mean"])
    assert np.divide(used.std, 255) == pytest.approx(theirs["std"])
    assert (found.num_classes, found.class_names[0]) == (1000, "tench")


@pytest.mark.parametrize("tag", ["a_in12k", "mine", None])
def test_a_thousand_classes_have_imagenets_names_only_if_the_tag_says_so(repository, tag):
    config = TIMM[NAME]["config"]
    other = config | {"pretrained_cfg": config["pretrained_cfg"] | {"tag": tag}}
    repository.files["config.json"] = json.dumps(other).encode()
    found = hub.choose_weights("", "", "hf-hub:timm/net")
    assert (found.num_classes, found.class_names) == (1000, None)
    assert config["pretrained_cfg"]["tag"] == "pycls_in1k"  # as timm writes it
    # A model that others fine-tuned may keep it.
    assert _names({"tag": "pycls_in1k"}, 1000, "timm/net")[0] == "tench"
    assert _names({"tag": "pycls_in1k"}, 1000, "mine/net") is None


@pytest.mark.parametrize("kind", ["hf-hub", "modelscope"])
def test_a_repository_is_fetched_once_verified_and_classifies(repository, network, kind, tmp_path):
    address = f"{kind}:timm/net"
    classifier = Classifier.from_pretrained(address)
    assert repr(classifier).endswith(f"weights {address})") and "regnet_x_200mf" in repr(classifier)
    for own, theirs in zip(network.get_parameters(), classifier.network.get_parameters()):
        assert np.array_equal(own.asnumpy(), theirs.asnumpy())
    assert classifier(np.zeros((40, 40, 3), np.uint8)).name in hub.imagenet_classes()
    assert len(repository.asked) == 3  # list, config.json, weights
    create_model("regnet_x_200mf", pretrained=address)
    assert len(repository.asked) == 3
    (path,) = (tmp_path / "cache").rglob("model.safetensors")
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="is not the published one"):
        Classifier.from_pretrained(address)


def test_timms_spelling_of_a_model_is_understood(repository, network):
    for built in (
        create_model("hf-hub:timm/net", pretrained=True),
        create_model("regnetx_002", pretrained="hf-hub:timm/net"),
    ):
        for own, theirs in zip(network.get_parameters(), built.get_parameters()):
            assert np.array_equal(own.asnumpy(), theirs.asnumpy())
    create_model("hf-hub:timm/net", num_classes=7)
    assert not any("safetensors" in path for path in repository.asked[3:])


def test_predict_names_the_classes_of_a_repository(repository, tmp_path, capsys):
    Image.new("RGB", (40, 40), "navy").save(tmp_path / "a.png")
    for words in (["--pretrained", "hf-hub:timm/net"], ["--model", "hf-hub:timm/net"]):
        code, out, err = call(capsys, "predict", tmp_path / "a.png", *words)
        assert (code, err) == (0, "")
        assert out.startswith("regnet_x_200mf: weights hf-hub:timm/net of timm, mit\n")
        name = out.splitlines()[2].split(maxsplit=2)[2]
        assert name in hub.imagenet_classes()


def test_train_and_validate_take_an_address(repository):
    given = {"model": "regnet_x_200mf", "pretrained": "hf-hub:timm/net"}
    assert (
        load_config(overrides=given, rules=model_contradictions).pretrained == given["pretrained"]
    )
    config = load_config(overrides=given, rules=model_contradictions)
    known, place = told_by_the_weights(config)
    assert known["num_classes"] == 1000 and known["interpolation"] == "bicubic"
    assert place == "published weights hf-hub:timm/net"
    other = of_other_weights(Config(model="m", ckpt_path="m.ckpt"), ["model"], "hf-hub:timm/net")
    assert other.ckpt_path == known["ckpt_path"] and other.interpolation == "bicubic"
    assert (other.model, other.num_classes) == ("regnet_x_200mf", 1000)
    with pytest.raises(ConfigError, match="is a regnet_x_200mf, not a regnet_y_200mf"):
        load_config(overrides=given | {"model": "regnet_y_200mf"}, rules=model_contradictions)


def test_a_file_at_an_address_is_verified_by_the_hash_in_it(repository, safetensors, network):
    digest = hashlib.sha256(safetensors).hexdigest()
    url = f"{repository.root}/timm/net/resolve/main/model.safetensors"
    built = create_model("regnet_x_200mf", pretrained=f"{url}#sha256={digest}")
    for own, theirs in zip(network.get_parameters(), built.get_parameters()):
        assert np.array_equal(own.asnumpy(), theirs.asnumpy())
    classifier = Classifier.from_pretrained("regnet_x_200mf", f"{url}#sha256={digest}")
    assert classifier.metadata.num_classes == 1000
    known, _ = told_by_the_weights(
        Config(model="regnet_x_200mf", pretrained=f"{url}#sha256={digest}")
    )
    assert known["antialias"] and known["ckpt_path"].endswith("model.safetensors")
    with pytest.raises(WeightsError, match="is not the published one"):
        create_model("regnet_x_200mf", pretrained=f"{url}#sha256={'0' * 64}")


@pytest.mark.parametrize(
    "address, message",
    [
        ("hf-hub:net", "expected hf-hub:owner/name"),
        ("hf-hub:../net", "expected hf-hub:owner/name"),
        ("https://example.org/net.pth", "expected https://…#sha256= and 64 digits"),
        (f"https://example.org/net.pth#sha256={'0' * 64}", "name the model as well"),
    ],
)
def test_a_wrong_address_is_refused_before_the_network(repository, address, message):
    with pytest.raises(ConfigError, match=message.replace("…", ".")):
        hub.choose_weights("", "", address)
    assert repository.asked == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"architecture": "resnet50"}, "is a resnet50; this library has only RegNets"),
        ({"architecture": None}, "is a None; this library has only RegNets"),
        ({"num_classes": "many"}, "config.json is not timm's"),
        ({"label_names": ["a"]}, "1 label_names for 1000 classes"),
        ({"pretrained_cfg": {"mean": [0.5]}}, "config.json is not timm's: no entry"),
    ],
)
def test_what_is_no_regnet_of_timms_is_refused(repository, change, message):
    repository.files["config.json"] = json.dumps(TIMM[NAME]["config"] | change).encode()
    with pytest.raises((ConfigError, WeightsError), match=message):
        hub.choose_weights("", "", "hf-hub:timm/net")


def test_a_repository_that_is_not_there_is_told(repository):
    with pytest.raises(WeightsError, match="weights cannot be found: HTTP 404"):
        hub.choose_weights("", "", "hf-hub:timm/other")
    content = repository.files.pop("model.safetensors")
    with pytest.raises(WeightsError, match="has no model.safetensors; expected a model of timm"):
        hub.choose_weights("", "", "hf-hub:timm/net")
    repository.files["model.safetensors"] = content  # as its owner adds it
    assert hub.choose_weights("", "", "hf-hub:timm/net").model == "regnet_x_200mf"


@pytest.mark.parametrize("listing", [{"Code": 200, "Data": None}, [1, "a"], {"Data": "x"}, [[]], 7])
def test_what_is_no_list_of_files_is_refused_and_not_kept(repository, listing, tmp_path):
    answer = repository.answer

    def list_badly(handler):
        is_list = "/tree/" in handler.path or "/repo/files" in handler.path
        (answers.body(json.dumps(listing).encode()) if is_list else answer)(handler)

    repository.server.plan = [list_badly]
    for kind in ("hf-hub", "modelscope"):
        with pytest.raises(WeightsError, match="has no config.json and no model.safetensors"):
            hub.choose_weights("", "", f"{kind}:timm/net")
    assert not list((tmp_path / "cache").rglob("*.json"))
    repository.server.plan = [answer]
    assert hub.choose_weights("", "", "hf-hub:timm/net").num_classes == 1000


def test_a_revision_may_be_a_path(repository):
    with pytest.raises(WeightsError, match="HTTP 404"):
        hub.choose_weights("", "", "hf-hub:timm/net@refs/pr/1")
    assert repository.asked == ["/api/models/timm/net/tree/refs%2Fpr%2F1"]
