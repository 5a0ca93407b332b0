"""A weight file may describe its network only by listed options, checked by type and range."""

import json
import random
from dataclasses import asdict, replace

import numpy as np
import pytest
from commands import call
from test_foreign_folders import mutated
from weight_files import known_weights, register_tiny, tiny

from mindcv.errors import ConfigError, WeightsError
from mindcv.models import create_described, create_model, create_model_from_file, from_file
from mindcv.weights import Metadata, WeightFile, read_weights, write_weights
from mindcv.weights.guards import ENTRY

SMALL = Metadata("regnet_x_200mf", num_classes=5)
FORBIDDEN = {
    "pretrained": [True, "torchvision_v2"],
    "checkpoint_path": ["/etc/hostname", "../secret.ckpt"],
    "features_only": [True],
    "num_classes": [10],
    "model_name": ["regnet_y_128gf"],
    "ema": [True],
    "w_b": [1],
    "__class__": ["x"],
}
WRONG = {
    "d": [10**9, 0, -1, 2.5, "13", None, True, [13]],
    "w_0": [2**40, 7, "a"],
    "w_a": [-1, 1e300, 10**400, float("nan"), float("inf")],
    "w_m": [0.5, "2", float("nan")],
    "group_w": [0, 2**40, [8]],
    "head_w": [2**40, 1.5],
    "se_r": [-0.25, {}, 1e9],
    "stem_type": ["none", ["res_stem_in"], 1],
    "activation": ["os.system", None],
    "stride": [0, 100],
}
ATTACKS = [(key, value) for table in (FORBIDDEN, WRONG) for key in table for value in table[key]]


@pytest.fixture
def nothing_built(monkeypatch):
    """Fail if a network is built."""

    def build(*args, **kwargs):
        pytest.fail(f"a network was built: {args} {kwargs}")

    monkeypatch.setattr(from_file, "create_model", build)


def numbers(count: int = 3_000_000) -> WeightFile:
    return WeightFile("a.ckpt", "npz", {"w": np.broadcast_to(np.float32(0), (count,))})


@pytest.mark.parametrize("key, value", ATTACKS, ids=lambda each: repr(each)[:30])
def test_no_other_option_or_value_reaches_the_builder(nothing_built, key, value):
    with pytest.raises(WeightsError, match=f"weight file 'a.ckpt' sets the option '?{key}'? of"):
        create_described(replace(SMALL, options={key: value}), numbers())


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
@pytest.mark.parametrize("options", [{"pretrained": True}, {"checkpoint_path": "SECRET"}])
def test_a_file_starts_no_transfer_and_opens_no_other_file(tmp_path, capsys, suffix, options):
    secret = tmp_path / "secret"
    secret.write_text("the first bytes of a secret")
    options = {key: str(secret) if value == "SECRET" else value for key, value in options.items()}
    path = tmp_path / f"a{suffix}"
    write_weights(path, {"w": np.ones(4, np.float32)}, replace(SMALL, options=options))
    with pytest.raises(WeightsError, match="sets the option") as caught:
        create_model_from_file(path)
    code, _, errors = call(capsys, "convert", path, tmp_path / "b.npz", "--model", "regnet_x_200mf")
    assert code == 5 and "sets the option" in errors
    assert "secret" not in str(caught.value).replace(str(path), "") and "first bytes" not in errors


def test_options_that_shape_a_network_are_taken(tmp_path):
    shape = {"se_r": 0.5, "activation": "silu", "stem_w": 16, "stem_type": "res_stem_cifar"}
    network = create_model("regnet_x_200mf", num_classes=5, **shape)
    write_weights(tmp_path / "a.npz", known_weights(network), replace(SMALL, options=shape))
    built, _ = create_model_from_file(tmp_path / "a.npz")
    assert built.plan == network.plan


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 3_000_000},
        {"in_channels": 10_000_000},
        {"model": "regnet_y_128gf"},
        {"options": {"d": 1000, "w_0": 4096}},
        {"model": "tiny_regnet", "num_classes": 3_000_000},
        {"model": "tiny_regnet", "in_channels": 3_000_000},
    ],
    ids=str,
)
def test_a_network_far_larger_than_its_file_is_refused_before_it_is_built(
    nothing_built, monkeypatch, change
):
    register_tiny(monkeypatch)
    with pytest.raises(WeightsError, match=r"holds 900 numbers, but its description is of a"):
        create_described(replace(SMALL, **change), numbers(900))


def test_options_that_make_no_network_are_the_files_fault():
    for options in ({"w_0": 9}, {"global_pool": "avg", "w_m": 1}, {"bot_mul": 2.5}):
        with pytest.raises(WeightsError, match="a.ckpt' describes no regnet_x_200mf"):
            create_described(replace(SMALL, options=options), numbers())
    with pytest.raises(ConfigError, match="'resnet50' is not registered"):
        create_described(Metadata("resnet50"), numbers())


def encoded(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": "5"},
        {"num_classes": -1},
        {"num_classes": True},
        {"num_classes": 10**400},
        {"in_channels": 0},
        {"class_names": ["a"]},
        {"class_names": "abcde"},
        {"class_names": [1, 2, 3, 4, 5]},
        {"options": [["pretrained", True]]},
        {"model": None},
        {"preprocessing": None},
        {"preprocessing": {"image_size": 10**6}},
        {"preprocessing": {"image_size": 224, "crop_pct": 1e-9}},
        {"preprocessing": {"crop_pct": float("nan")}},
        {"preprocessing": {"std": [0, 0, 0]}},
        {"preprocessing": {"mean": [1e400, 0, 0]}},
        {"preprocessing": {"mean": []}},
        {"preprocessing": {"mean": [1.0]}},
        {"preprocessing": {"interpolation": 3}},
    ],
    ids=str,
)
def test_metadata_of_wrong_types_or_ranges_are_refused(change):
    text = json.dumps(asdict(SMALL) | change)
    with pytest.raises(WeightsError, match=f"'a.ckpt': its entry {ENTRY} cannot be read"):
        Metadata.from_array(encoded(text), "a.ckpt")


@pytest.mark.parametrize(
    "array",
    [
        SMALL.to_array().astype(np.float32),
        SMALL.to_array()[None],
        np.frombuffer(b"\xff\xfe", np.uint8),
        np.frombuffer(b"[" * 60_000, np.uint8),
        np.zeros(2**23, np.uint8),
        np.uint8(7),
    ],
    ids=["float", "axes", "no text", "deep", "long", "scalar"],
)
def test_an_entry_that_is_no_metadata_is_refused(array):
    with pytest.raises(WeightsError, match="cannot be read"):
        Metadata.from_array(np.asarray(array), "a.ckpt")


@pytest.mark.parametrize("rounds", [500, pytest.param(50_000, marks=pytest.mark.slow)])
def test_mutated_metadata_is_read_or_refused(monkeypatch, rounds):
    """Metadata that can be read reach the builder with listed options only."""
    built = []
    monkeypatch.setattr(from_file, "create_model", lambda name, **kwargs: built.append(kwargs))
    whole = asdict(replace(SMALL, class_names=tuple("abcde"), options={"se_r": 0.25, "d": 13}))
    outcomes = set()
    for seed in range(rounds):
        rng = random.Random(seed)
        text = json.dumps(mutated(whole, rng))
        if rng.random() < 0.2:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice('{}[]",:0x\\') + text[at + rng.randrange(2) :]
        try:
            create_described(Metadata.from_array(encoded(text), "a.ckpt"), numbers())
            outcomes.add("read")
        except (WeightsError, ConfigError):
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    allowed = {"num_classes", "in_channels", "se_r", "d"}
    assert {key for kwargs in built for key in kwargs} <= allowed


def test_a_file_of_empty_tensors_gives_no_network(tmp_path, monkeypatch, nothing_built):
    register_tiny(monkeypatch)
    weights = known_weights(tiny()) | {"head.fc.weight": np.zeros((3_000_000, 0), np.float32)}
    write_weights(tmp_path / "a.npz", weights)
    assert read_weights(tmp_path / "a.npz").tensors["head.fc.weight"].size == 0
    with pytest.raises(WeightsError, match="with 3000000 classes"):
        create_model_from_file(tmp_path / "a.npz", "regnet_x_200mf")
