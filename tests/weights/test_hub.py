"""The table of published weights: every row is what it should be."""

import importlib
import json
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from conftest import ROOT

from mindcv.design_space.published import family_name, source_of_tag
from mindcv.errors import ConfigError
from mindcv.hub import find_weights, published_weights, weights_at
from mindcv.weights import Preprocessing

COSTS = json.loads((ROOT / "tests/golden/complexity.json").read_text())
LICENCES = {"Apache-2.0", "BSD-3-Clause", "MIT", "CC-BY-NC-4.0", "LicenseRef-SEER"}
HOSTS = {
    "download.mindspore.cn",
    "download-mindspore.osinfra.cn",
    "download.pytorch.org",
    "dl.fbaipublicfiles.com",
    "github.com",
    "huggingface.co",
}
ROWS = published_weights()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}-{row.source}")
def test_every_row_is_sound(row):
    address = urlsplit(row.url)
    assert address.scheme == "https" and address.hostname in HOSTS
    assert not address.query and ".." not in row.url and "{" not in row.url
    assert row.model in COSTS
    assert row.licence in LICENCES and row.owner
    assert row.channel_order == ("BGR" if row.source == "pycls" else "RGB")
    in_name = re.search(r"-([0-9a-f]{8})[.-]", address.path.rsplit("/", 1)[1])
    if in_name:
        assert row.sha256 == in_name.group(1)
    else:
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
    if row.num_classes == 1000:
        assert 65 < row.top1 < 90 and 88 < row.top5 < 99
    else:
        assert row.num_classes in (0, 11821) and row.top1 is row.top5 is None
    if row.params is not None and row.model in COSTS:
        assert row.params * 1e6 == pytest.approx(COSTS[row.model]["params"], rel=2e-3)
    used = row.preprocessing
    assert used.image_size in (224, 288, 320, 384) and 0.8 < used.crop_pct <= 1
    assert used.interpolation in ("bilinear", "bicubic")
    assert (used.mean, used.std) == (Preprocessing().mean, Preprocessing().std)


def test_no_row_is_there_twice_and_none_is_lost():
    keys = [(row.model, row.source) for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert len({row.url for row in ROWS}) == len(ROWS)
    text = (ROOT / "mindcv/hub/published.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r"^ {4}regnet_", text, re.M)) == len(ROWS)


def test_every_paper_model_has_weights_and_free_ones_come_first():
    paper = [model for model in COSTS if re.fullmatch(r"regnet_[xy]_\w+f", model)]
    paper.remove("regnet_y_128gf")
    assert len(paper) == 24
    for model in paper:
        assert find_weights(model).licence in ("Apache-2.0", "BSD-3-Clause", "MIT"), model


def test_mindcvs_wrong_address_is_given_to_the_model_it_is_of():
    assert find_weights("regnet_y_16gf").url.endswith("/mindcv/regnet/regnet_y_16gf-c30a856f.ckpt")
    assert "mindcv" not in [row.source for row in published_weights("regnet_x_16gf")]
    assert sum(row.source == "mindcv" for row in ROWS) == 9


def test_networks_of_torchvision_that_differ_are_not_offered_under_the_papers_name():
    for model in ("regnet_x_400mf", "regnet_y_800mf", "regnet_y_8_0gf"):
        assert not [row for row in published_weights(model) if "torchvision" in row.source]
        assert find_weights(f"{model}_tv").source == "torchvision_v2"


def test_a_source_is_found_and_an_unknown_one_told_with_those_there_are():
    row = find_weights("regnet_y_16gf", "torchvision_swag")
    assert (
        row.preprocessing == Preprocessing(384, 1.0, "bicubic", antialias=True)
        and row.top1 == 86.012
    )
    with pytest.raises(ConfigError, match="mindcv, torchvision_v2, .*timm_sw_in12k$"):
        find_weights("regnet_y_16gf", "torchvision_v3")
    with pytest.raises(ConfigError, match="no published weights of regnet_q"):
        find_weights("regnet_q")
    assert published_weights("regnet_q") == ()


@pytest.mark.parametrize(
    ("file", "digits"),
    [
        ("net-0a1b2c3d.ckpt", "0a1b2c3d"),
        ("net-0a1b2c3d-224.ckpt", "0a1b2c3d"),
        ("net-20240115.ckpt", None),  # a date
        ("net-20240115-0a1b2c3d.ckpt", "0a1b2c3d"),
        ("net.ckpt", None),
    ],
)
def test_an_address_of_ones_own_may_tell_the_start_of_its_hash_and_a_date_is_none(file, digits):
    row = weights_at(f"https://example.org/run-deadbeef.d/{file}?raw=1")
    assert (row.model, row.sha256, row.source) == ("net", digits, "example.org")


def test_the_table_is_read_without_mindspore():
    words = "import sys, mindcv.hub as hub; hub.find_weights('regnet_x_200mf'); "
    words += "sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT).returncode == 0


@pytest.mark.peers
def test_torchvision_publishes_the_same():
    regnet = peer("torchvision.models.regnet")
    theirs = {}
    for kind in vars(regnet).values():
        if isinstance(kind, type) and issubclass(kind, regnet.WeightsEnum):
            theirs |= {entry.url: entry for entry in kind}
    ours = {row.url: row for row in ROWS if row.source.startswith("torchvision")}
    assert theirs.keys() == ours.keys()
    for url, entry in theirs.items():
        row, used, transforms = ours[url], ours[url].preprocessing, entry.transforms()
        accuracy = entry.meta["_metrics"]["ImageNet-1K"]
        assert (row.top1, row.top5) == (accuracy["acc@1"], accuracy["acc@5"])
        assert [used.image_size] == transforms.crop_size
        assert [int(used.image_size / used.crop_pct)] == transforms.resize_size
        assert used.interpolation == transforms.interpolation.value
        assert used.antialias is transforms.antialias is True


@pytest.mark.peers
def test_timm_publishes_the_same_for_our_models():
    models = peer("timm.models")
    entries = {name: models.get_pretrained_cfg(name) for name in models.list_pretrained("regnet*")}
    entries = {name: entry for name, entry in entries.items() if family_name(name)}
    by_address = {entry.url: entry for entry in entries.values()}
    names = {row.url.removeprefix("https://huggingface.co/timm/").split("/")[0] for row in ROWS}
    addresses = {row.url for row in ROWS}
    for name, entry in entries.items():
        assert name in names or entry.url in addresses, name
    for row in ROWS:
        if row.source.startswith("timm") or row.source == "deit":
            name = row.url.removeprefix("https://huggingface.co/timm/").split("/")[0]
            entry = entries.get(name) or by_address[row.url]
            tag = name.partition(".")[2] or entry.tag
            assert source_of_tag(tag) == row.source
            used = row.preprocessing
            assert used.image_size == (entry.test_input_size or entry.input_size)[1]
            assert used.crop_pct == (entry.test_crop_pct or entry.crop_pct)
            assert used.interpolation == entry.interpolation
            assert row.num_classes == entry.num_classes


def peer(module: str):
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision's operators may not load
        pytest.skip(f"{module}: {error}")
