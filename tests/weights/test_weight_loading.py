"""Files of other libraries in a network: all of it, with one line that says what was done."""

import mindspore as ms
import numpy as np
import pytest
from golden.fill import fill, images
from mindspore import nn
from weight_files import (
    GOLDEN,
    equal,
    features,
    known_weights,
    refused,
    register_tiny,
    state,
    tiny,
)

from mindcv.errors import WeightsError
from mindcv.models import FeatureNet, create_model_from_file, load_weights
from mindcv.weights import Metadata, Preprocessing, read_weights, write_weights


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    register_tiny(monkeypatch)


def pycls_file(path, weights=None, **more):
    """Write a file as pycls names it: BGR stem, and all under model_state."""
    weights = weights or known_weights(tiny())
    write_weights(path, weights, names="pycls")
    named = read_weights(path).tensors
    np.savez(path, **{f"model_state.{name}": value for name, value in named.items()}, **more)
    return path


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.mark.parametrize("name", ["zip", "legacy", "one_storage", "half", "training"])
def test_a_torch_file_fills_the_network(network, log_lines, name):
    report = load_weights(network, GOLDEN / f"{name}.pth")
    found = state(network)
    for key, value in known_weights(network).items():
        expected = value.astype(np.float16).astype(np.float32) if name == "half" else value
        assert np.array_equal(found[key], expected)
    assert (report.loaded, report.reinitialized) == (50, ())
    assert report.scheme == "torchvision"
    assert log_lines == [report.line]
    assert f"loaded 50 tensors from {GOLDEN / name}.pth, names of torchvision" in report.line
    # 34 momenta and a counter; the averages are told apart
    assert ("ignored 35 entries" in report.line) == (name == "training")
    assert ("ema True takes the averaged ones" in report.line) == (name == "training")
    assert ("cast from float16" in report.line) == (name == "half")


def test_averages_of_a_torch_file_are_taken_on_demand(network):
    load_weights(network, GOLDEN / "training.pth", ema=True)
    assert equal(state(network), {k: v + 1 for k, v in known_weights(network).items()})


def test_a_pycls_file_gives_the_network_that_sees_rgb(tmp_path, network, log_lines):
    weights = known_weights(network)
    report = load_weights(network, pycls_file(tmp_path / "a.npz", **{"optimizer_state.x": 1}))
    assert equal(state(network), weights)
    assert report.scheme == "pycls" and report.set_aside == ("optimizer_state.x",)
    assert "turned from BGR to RGB" in log_lines[-1]
    stem = read_weights(tmp_path / "a.npz").tensors["model_state.stem.conv.weight"]
    np.testing.assert_array_equal(stem[:, [2, 1, 0]], weights["stem.conv.weight"])


def test_one_channel_gives_what_three_equal_ones_give(network, log_lines):
    load_weights(network, GOLDEN / "zip.pth")
    grey = tiny(in_channels=1)
    report = load_weights(grey, GOLDEN / "zip.pth")
    assert report.notes == ("the stem's 3 input channels summed to 1",)
    assert report.notes[0] in log_lines[-1]
    picture = images((2, 1, 32, 32))
    expected = network.set_train(False)(ms.Tensor(np.repeat(picture, 3, axis=1))).asnumpy()
    found = grey.set_train(False)(ms.Tensor(picture)).asnumpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Own(nn.Cell):
    """A network that declares its ends as AnyNet does, under other names."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.begin = nn.Conv2d(in_channels, 4, 3)
        self.hidden, self.end = nn.Dense(4, 4), nn.Dense(4, num_classes)

    @property
    def first_conv(self) -> nn.Conv2d:
        return self.begin

    @property
    def classifier(self) -> nn.Dense:
        return self.end


def test_a_network_of_ones_own_that_declares_its_ends_is_fitted_alike(tmp_path):
    weights = known_weights(Own(3, 5))
    write_weights(tmp_path / "own.npz", weights)
    network = Own(1, 7)
    report = load_weights(network, tmp_path / "own.npz")
    found = state(network)
    assert report.reinitialized == ("end.weight", "end.bias")
    summed = weights["begin.weight"].sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(found["begin.weight"], summed)
    np.testing.assert_array_equal(found["hidden.weight"], weights["hidden.weight"])


def test_more_channels_repeat_the_stem_and_keep_the_scale(tmp_path):
    stem = fill("stem.conv.weight", (8, 3, 3, 3))
    for channels in (2, 4, 7):
        wide = tiny(in_channels=channels)
        report = load_weights(wide, GOLDEN / "zip.pth")
        found = wide.stem.conv.weight.asnumpy()
        expected = np.concatenate([stem, stem, stem], axis=1)[:, :channels] * (3 / channels)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert f"repeated to {channels}, scaled by 3/{channels}" in report.line
    # A BGR stem is turned first: its copies then stand for R, G, B, R.
    four = tiny(in_channels=4)
    load_weights(four, pycls_file(tmp_path / "a.npz"))
    np.testing.assert_allclose(four.stem.conv.weight.asnumpy()[:, 3], stem[:, 0] * 0.75, rtol=1e-6)


def test_a_stem_for_other_than_rgb_fits_its_own_channels_only(tmp_path):
    weights = known_weights(tiny(in_channels=4))
    write_weights(tmp_path / "a.npz", weights)
    load_weights(tiny(in_channels=4), tmp_path / "a.npz")
    message = refused(tiny(), tmp_path / "a.npz")
    assert "stem.conv.weight (8, 4, 3, 3) for (8, 3, 3, 3)" in message


def test_a_network_without_classifier_leaves_the_file_s():
    network = features()
    report = load_weights(network, GOLDEN / "zip.pth", new_head=False)
    assert report.loaded == 48 and report.reinitialized == ()
    assert set(report.set_aside) == {"head.fc.weight", "head.fc.bias"}
    assert "ignored the file's classifier of 5 classes" in report.line
    weights = known_weights(tiny())
    assert all(np.array_equal(value, weights[name]) for name, value in state(network).items())


def test_a_file_without_classifier_renews_it_where_nothing_can_be_cut_off(tmp_path):
    headless = {k: v for k, v in known_weights(tiny()).items() if not k.startswith("head.")}
    write_weights(tmp_path / "a.safetensors", headless)
    report = load_weights(tiny(), tmp_path / "a.safetensors")
    assert "classifier re-initialised: none in the file, 5 here" in report.line
    assert "2 missing" in refused(tiny(), tmp_path / "a.safetensors", new_head=False)
    # MindSpore reads a checkpoint that was cut between two tensors as if it were whole.
    write_weights(tmp_path / "a.ckpt", headless)
    assert "2 missing" in refused(tiny(), tmp_path / "a.ckpt")
    write_weights(tmp_path / "b.ckpt", headless, Metadata("tiny_regnet", num_classes=0))
    assert load_weights(tiny(), tmp_path / "b.ckpt").loaded == 48


def test_another_architecture_is_told_in_our_terms(tmp_path):
    message = refused(tiny(se_r=0.0), GOLDEN / "zip.pth")
    assert "8 unknown to the model: stages.0.blocks.0.f.se" in message
    assert "of a RegNet with depths 2, widths 8, with SE; the model has" in message
    assert "widths 8, without SE" in message


def test_whole_numbers_are_no_weights(tmp_path, network):
    tensors = read_weights(GOLDEN / "zip.pth").tensors
    np.savez(tmp_path / "a.npz", **{**tensors, "fc.bias": np.ones(5, np.int8)})
    message = refused(network, tmp_path / "a.npz")
    assert "1 that are not floating point: head.fc.bias int8" in message


def test_a_weight_given_twice_is_an_error(tmp_path, network):
    tensors = read_weights(GOLDEN / "zip.pth").tensors
    np.savez(tmp_path / "double.npz", **tensors, **{"stages.0.blocks.0.f.a.weight": 1})
    assert "gives stages.0.blocks.0.f.a.weight twice" in refused(network, tmp_path / "double.npz")
    place = "regnet.encoder.stages.0.layers.0.layer"
    np.savez(
        tmp_path / "a.npz",
        **{f"{place}.2.convolution.weight": 1, f"{place}.3.convolution.weight": 1},
    )
    message = refused(network, tmp_path / "a.npz")
    assert "gives stages.0.blocks.0.f.c.weight twice" in message


def test_a_file_of_another_library_makes_a_model_of_its_own_head(tmp_path):
    network, metadata = create_model_from_file(GOLDEN / "zip.pth", "tiny_regnet")
    pillow = Preprocessing(antialias=True)  # torchvision's names, and so its image library
    assert metadata == Metadata("tiny_regnet", num_classes=5, preprocessing=pillow)
    assert equal(state(network), known_weights(network)) and not network.training
    with pytest.raises(WeightsError, match="does not name its model"):
        create_model_from_file(GOLDEN / "zip.pth")
    with pytest.raises(WeightsError, match="of another shape"):
        create_model_from_file(GOLDEN / "zip.pth", "tiny_regnet", num_classes=6)
    grey = known_weights(tiny(in_channels=1))
    write_weights(tmp_path / "grey.npz", grey, names="timm")
    network, metadata = create_model_from_file(tmp_path / "grey.npz", "tiny_regnet")
    assert metadata.in_channels == 1 and equal(state(network), grey)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
def test_a_file_of_ours_makes_its_model_by_itself(tmp_path, suffix):
    metadata = Metadata("tiny_regnet", num_classes=2, class_names=("a", "b"))
    weights = known_weights(tiny(num_classes=2))
    write_weights(tmp_path / f"a{suffix}", weights, metadata)
    network, found = create_model_from_file(tmp_path / f"a{suffix}")
    assert found == metadata and equal(state(network), weights)
    with pytest.raises(WeightsError, match="is of model tiny_regnet"):
        create_model_from_file(tmp_path / f"a{suffix}", "regnet_x_200mf")


class Backbone(FeatureNet):
    """A head of one's own on feature maps, with a child that has the name of a declaration."""

    def __init__(self, network):
        super().__init__(network)
        self.classifier = nn.Dense(self.channels[-1], 1)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_head_of_ones_own_on_a_backbone_starts_fresh_and_the_files_is_ignored(tmp_path, suffix):
    file = tmp_path / f"whole{suffix}"
    whole = tiny()
    write_weights(file, known_weights(whole))
    network = Backbone(tiny())
    report = load_weights(network, file)
    assert set(report.reinitialized) == {"classifier.weight", "classifier.bias"}
    assert set(report.set_aside) >= {"head.fc.weight", "head.fc.bias"}
    assert (state(network)["stem.conv.weight"] == known_weights(whole)["stem.conv.weight"]).all()
