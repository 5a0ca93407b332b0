"""Feature maps for downstream networks: described correctly, cut, loaded and trained."""

import math

import mindspore as ms
import numpy as np
import pytest
from golden.fill import images
from mindspore import nn, ops

from mindcv import create_model
from mindcv.errors import ConfigError
from mindcv.models import AnyNet, FeatureInfo, FeatureNet, RegNet, register_model, registry

SHAPE = (2, 3, 64, 96)


@pytest.fixture
def tiny(monkeypatch):
    """Register a RegNet of four blocks in three stages of 24, 48 and 96 channels."""
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))

    @register_model
    def tiny(num_classes: int = 1000, in_channels: int = 3, **kwargs):
        sizes = {"num_classes": num_classes, "in_channels": in_channels}
        return RegNet(20.0, 24, 2.0, 4, 8, **sizes, se_r=0.25, **kwargs)

    return "tiny"


def run(network: nn.Cell, shape=SHAPE) -> list[np.ndarray]:
    return [one.asnumpy() for one in network(ms.Tensor(images(shape)))]


def in_mode(mode: int, act):
    before = ms.get_context("mode")
    try:
        ms.set_context(mode=mode)
        return act()
    finally:
        ms.set_context(mode=before)


def test_regnet_x_200mf_tells_the_maps_that_timm_tells():
    """timm 1.0: create_model('regnetx_002', features_only=True).feature_info."""
    network = create_model("regnetx_002", features_only=True)
    assert network.channels == (32, 24, 56, 152, 368)
    assert network.strides == (2, 4, 8, 16, 32)
    assert network.feature_info[0] == FeatureInfo(0, 32, 2, "stem")
    assert network.feature_info[4] == FeatureInfo(4, 368, 32, "stages.3")
    assert not any("head" in parameter.name for parameter in network.get_parameters())


@pytest.mark.parametrize(
    "stem, strides, reductions",
    [
        ("simple_stem_in", [2, 2], (2, 4, 8)),
        ("res_stem_in", [1, 2], (4, 4, 8)),
        ("res_stem_cifar", [1, 4], (1, 1, 4)),
    ],
)
def test_any_stem_and_stride_is_told_as_it_comes_out(stem, strides, reductions):
    network = AnyNet([1, 2], stem_type=stem, stem_w=8, widths=[16, 24], strides=strides, head_w=32)
    features = FeatureNet(network)
    assert (features.channels, features.strides) == ((8, 16, 24), reductions)
    for info, one in zip(features.feature_info, run(features), strict=True):
        assert one.shape == (2, info.channels, 64 // info.reduction, 96 // info.reduction)


def test_each_map_is_what_the_named_cell_gives(tiny):
    network = create_model(tiny, num_classes=5).set_train(False)
    x = ms.Tensor(images(SHAPE))
    expected = [x := cell(x) for cell in (network.stem, *network.stages)]
    features = FeatureNet(network)
    for info, one, wanted in zip(features.feature_info, run(features), expected, strict=True):
        assert np.array_equal(one, wanted.asnumpy())
        cells = dict(network.cells_and_names())
        assert info.module in cells


@pytest.mark.parametrize(
    "asked, given", [((1, -1), (1, 3)), ([2], (2,)), ((-4,), (0,)), ((3, 0), (0, 3)), (None, None)]
)
def test_indices_choose_maps_and_cut_the_rest(tiny, asked, given):
    network = create_model(tiny, features_only=True, out_indices=asked)
    given = (0, 1, 2, 3) if given is None else given
    assert network.out_indices == given
    assert network.channels == tuple((32, 24, 48, 96)[index] for index in given)
    assert [one.shape[1] for one in run(network)] == list(network.channels)
    assert len(network.stages) == given[-1]


def test_parameters_keep_their_names_and_take_a_parents(tiny):
    whole = {p.name for p in create_model(tiny).get_parameters()}
    backbone = create_model(tiny, features_only=True, out_indices=(2,))
    names = [p.name for p in backbone.get_parameters()]
    assert names and set(names) < whole
    assert not any(name.startswith(("head.", "stages.2.")) for name in names)

    class Detector(nn.Cell):
        def __init__(self):
            super().__init__()
            self.backbone = backbone

        def construct(self, x):
            return self.backbone(x)[0]

    assert [p.name for p in Detector().get_parameters()] == [f"backbone.{name}" for name in names]


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_gradients_reach_every_parameter_in_both_modes(tiny, mode):
    ms.set_seed(1)
    network = create_model(tiny, features_only=True, out_indices=(1, 2)).set_train()
    parameters = network.trainable_params()

    def loss(batch):
        first, second = network(batch)
        return ops.mean(first**2) + ops.mean(second**2)

    step = ms.value_and_grad(loss, None, parameters)
    batch = ms.Tensor(images(SHAPE))
    value, gradients = in_mode(mode, lambda: step(batch))
    assert math.isfinite(float(value.asnumpy()))
    assert len(gradients) == len(parameters) > 20
    for parameter, gradient in zip(parameters, gradients):
        assert np.abs(gradient.asnumpy()).max() > 0, parameter.name


def test_graph_mode_gives_the_maps_of_pynative_mode(tiny):
    network = create_model(tiny, features_only=True, out_indices=(0, 3)).set_train(False)
    eager = in_mode(ms.PYNATIVE_MODE, lambda: run(network))
    graph = in_mode(ms.GRAPH_MODE, lambda: run(network))
    for one, other in zip(eager, graph, strict=True):
        assert np.abs(one - other).max() <= 5e-6 * np.abs(one).max()


def test_weights_of_the_whole_model_load_into_a_backbone(tiny, tmp_path, caplog):
    ms.set_seed(2)
    source = create_model(tiny, num_classes=7).set_train(False)
    path = str(tmp_path / "whole.ckpt")
    ms.save_checkpoint(source, path)
    ms.set_seed(3)
    with caplog.at_level("INFO"):
        options = {"features_only": True, "out_indices": (1, 2)}
        backbone = create_model(tiny, checkpoint_path=path, **options).set_train(False)
    assert "ignored the file's classifier of 7 classes" in caplog.text
    wanted = run(FeatureNet(source, (1, 2)))
    for one, other in zip(run(backbone), wanted, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("indices", [(), (4,), (-5,), (0, 0), (3, -1)])
def test_indices_that_choose_nothing_or_twice_are_refused(tiny, indices):
    with pytest.raises(ConfigError, match="4 feature maps"):
        create_model(tiny, features_only=True, out_indices=indices)


def test_indices_without_features_are_refused(tiny):
    with pytest.raises(ConfigError, match="features_only"):
        create_model(tiny, out_indices=(1,))


def test_a_model_without_stages_offers_no_features(tiny):
    @register_model
    def dense(num_classes: int, in_channels: int):
        return nn.Dense(in_channels, 4)

    with pytest.raises(ConfigError, match="Dense offers no feature maps"):
        create_model("dense", features_only=True)
