"""The RegNet family: initialisation and options; test_identity.py tests logits and gradients."""

import inspect
import json
import math
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from golden.fill import images
from mindspore import nn, ops

from mindcv import create_model
from mindcv.models import AnyNet, RegNet
from mindcv.models.layers import DropPath

GOLDEN = Path(__file__).parents[1] / "golden"
TABLE = json.loads((GOLDEN / "complexity.json").read_text())
STEMS = ("simple_stem_in", "res_stem_in", "res_stem_cifar")
BLOCKS = (
    "vanilla_block",
    "res_basic_block",
    "res_bottleneck_block",
    "res_bottleneck_linear_block",
)


def tiny(**options) -> RegNet:
    """Build a RegNet of four blocks in three stages of 24, 48 and 96 channels."""
    options = {
        "num_classes": 10,
        "w_a": 20.0,
        "w_0": 24,
        "w_m": 2.0,
        "d": 4,
        "group_w": 8,
    } | options
    return RegNet(**options)


def small_plan(**options) -> dict:
    return {"depths": [1, 2], "widths": [16, 24], "strides": [2, 2], "num_classes": 5} | options


def run(network: nn.Cell, *shape: int) -> np.ndarray:
    return network(ms.Tensor(images(shape))).asnumpy()


def trainable(network: nn.Cell) -> int:
    return sum(math.prod(parameter.shape) for parameter in network.trainable_params())


def test_convolutions_start_normal_with_variance_two_over_kernel_area_times_outputs():
    ms.set_seed(1)
    network = create_model("regnet_y_400mf")
    pooled = []
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            area = cell.kernel_size[0] * cell.kernel_size[1]
            weights = cell.weight.asnumpy() / math.sqrt(2 / (area * cell.out_channels))
            # the standard error of a deviation over n draws is 1 / sqrt(2 n)
            assert abs(weights.std() - 1) < 5 / math.sqrt(2 * weights.size), cell.weight.name
            assert abs(weights.mean()) < 5 / math.sqrt(weights.size), cell.weight.name
            pooled.append(weights.ravel())
    draws = np.concatenate(pooled)
    assert abs((draws**4).mean() - 3) < 0.05  # a normal's; a truncated or uniform one has less
    assert abs(draws).max() > 4.5


def test_normalisation_starts_as_identity_and_the_classifier_small():
    ms.set_seed(1)
    network = create_model("regnet_y_200mf")
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            assert (cell.gamma.asnumpy() == 1).all() and (cell.beta.asnumpy() == 0).all()
            assert (cell.moving_mean.asnumpy() == 0).all()
            assert (cell.moving_variance.asnumpy() == 1).all()
            assert (cell.eps, float(cell.momentum)) == (1e-5, pytest.approx(0.1))
    weights = network.head.fc.weight.asnumpy()
    assert abs(weights.std() / 0.01 - 1) < 5 / math.sqrt(2 * weights.size)
    assert (network.head.fc.bias.asnumpy() == 0).all()


def test_squeeze_excite_biases_start_uniform_within_one_over_root_fan_in():
    ms.set_seed(1)
    network = create_model("regnet_y_800mf")
    pooled = []
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d) and cell.has_bias:
            pooled.append(cell.bias.asnumpy() * math.sqrt(cell.in_channels))
    draws = np.concatenate(pooled)
    assert len(pooled) == 2 * sum(TABLE["regnet_y_800mf"]["stage_depths"])
    assert abs(draws).max() <= 1 and abs(draws).max() > 0.99
    assert abs(draws.std() * math.sqrt(3) - 1) < 0.05


def test_the_seed_decides_the_initial_weights():
    def start(seed):
        ms.set_seed(seed)
        return tiny(se_r=0.25)

    first, same, other = start(3), start(3), start(4)
    for a, b in zip(first.get_parameters(), same.get_parameters()):
        assert np.array_equal(a.asnumpy(), b.asnumpy()), a.name
    a, b = first.stem.conv.weight, other.stem.conv.weight
    assert not np.array_equal(a.asnumpy(), b.asnumpy())


def test_an_image_size_need_not_be_a_multiple_of_32():
    network = tiny().set_train(False)
    assert network.forward_features(ms.Tensor(images((1, 3, 45, 51)))).shape == (1, 96, 3, 4)


def test_grey_images_and_another_number_of_classes():
    network = create_model("regnet_x_200mf", num_classes=7, in_channels=1).set_train(False)
    assert run(network, 2, 1, 32, 32).shape == (2, 7)
    golden = TABLE["regnet_x_200mf"]["params"]
    assert trainable(network) == golden - 2 * 9 * 32 - 993 * (368 + 1)
    assert network.complexity().params == trainable(network)


@pytest.mark.parametrize("option", ["drop_rate", "drop_path_rate"])
def test_dropping_is_for_training_only(option):
    ms.set_seed(5)
    plain, dropping = tiny(), tiny(**{option: 0.5})
    for source, target in zip(plain.get_parameters(), dropping.get_parameters()):
        target.set_data(source.value())
    batch = (8, 3, 32, 32)
    assert np.array_equal(
        run(plain.set_train(False), *batch), run(dropping.set_train(False), *batch)
    )
    plain.set_train(True), dropping.set_train(True)
    reference, first, second = run(plain, *batch), run(dropping, *batch), run(dropping, *batch)
    assert np.array_equal(reference, run(plain, *batch))
    assert not np.allclose(first, reference, atol=1e-4)
    assert not np.allclose(first, second, atol=1e-4)


def test_drop_path_rates_grow_linearly_from_zero_to_the_value():
    network = create_model("regnet_y_400mf", drop_path_rate=0.3)
    blocks = [block for stage in network.stages for block in stage.blocks]
    rates = [block.drop_path.dropout.p if block.drop_path else 0.0 for block in blocks]
    assert rates == pytest.approx([0.3 * i / (len(blocks) - 1) for i in range(len(blocks))])


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    ms.set_seed(7)
    layer = DropPath(0.25).set_train(True)
    kept = layer(ops.ones((4000, 2, 3, 3), ms.float32)).asnumpy()
    samples = kept.reshape(4000, -1)
    assert (samples == samples[:, :1]).all()
    assert np.unique(samples).tolist() == pytest.approx([0, 4 / 3])
    assert abs(samples.mean() - 1) < 0.05


def test_graph_and_pynative_mode_give_the_same_logits():
    network, before = tiny(se_r=0.25).set_train(False), ms.get_context("mode")
    try:
        ms.set_context(mode=ms.PYNATIVE_MODE)
        eager = run(network, 2, 3, 32, 32)
        ms.set_context(mode=ms.GRAPH_MODE)
        graph = run(network, 2, 3, 32, 32)
    finally:
        ms.set_context(mode=before)
    assert np.abs(eager - graph).max() <= 5e-6 * np.abs(eager).max()


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_stem_and_block_runs_and_counts_its_parameters(stem, block):
    options = {"bot_muls": [0.5, 2.0], "group_ws": [4, 8], "se_r": 0.25, "head_w": 32}
    network = AnyNet(**small_plan(stem_type=stem, block_type=block, **options)).set_train(False)
    side = {"simple_stem_in": 4, "res_stem_in": 2, "res_stem_cifar": 8}[stem]
    assert network.forward_features(ms.Tensor(images((2, 3, 32, 32)))).shape == (2, 24, side, side)
    logits = run(network, 2, 3, 32, 32)
    assert logits.shape == (2, 5) and np.isfinite(logits).all()
    assert trainable(network) == network.complexity().params


def test_strides_of_one_keep_the_resolution_and_skip_the_projection():
    network = AnyNet(**small_plan(strides=[1, 1], widths=[32, 32], stem_w=32)).set_train(False)
    assert network.forward_features(ms.Tensor(images((1, 3, 16, 16)))).shape == (1, 32, 8, 8)
    assert not any("proj" in parameter.name for parameter in network.get_parameters())
    assert trainable(network) == network.complexity().params


@pytest.mark.parametrize(
    "change",
    [
        {"stem_type": "patchify"},
        {"block_type": "resnet_block"},
        {"depths": []},
        {"depths": [1]},
        {"depths": [1, 0]},
        {"widths": [16]},
        {"widths": [16, 0]},
        {"widths": [16, -8]},
        {"strides": [2]},
        {"strides": [2, 0]},
        {"bot_muls": [1.0]},
        {"bot_muls": [1.0, 0.0]},
        {"bot_muls": [1.0, -1.0]},
        {"group_ws": [8]},
        {"group_ws": [8, 0]},
        {"group_ws": [8, 7]},
        {"stem_w": 0},
        {"head_w": -1},
        {"se_r": -0.25},
        {"in_channels": 0},
        {"num_classes": -1},
        {"activation": "gelu"},
        {"global_pool": "median"},
        {"global_pool": "none"},
        {"block_type": "vanilla_block", "drop_path_rate": 0.1},
        {"block_type": "vanilla_block", "zero_init_last": True},
        {"drop_rate": 1.5},
        {"drop_rate": -0.1},
        {"drop_path_rate": 1.5},
        {"drop_path_rate": -0.1},
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_refused(change):
    with pytest.raises(ValueError):
        AnyNet(**small_plan(**change))


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_what_is_no_batch_of_images_is_refused_with_its_shape(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MindSpore leaves the graph that it could not compile
    ms.set_context(mode=mode)
    networks = [AnyNet(**small_plan(stem_type=kind)).stem for kind in STEMS]
    networks.append(AnyNet(**small_plan()))
    networks.append(create_model("regnet_x_200mf", features_only=True, out_indices=[0]))
    shapes = ((2, 32, 32, 3), (3, 32, 32), (2, 1, 32, 32), (2, 3))
    for network, wrong in zip(networks, (shapes, *zip(shapes))):
        for shape in wrong:
            with pytest.raises(ValueError) as refusal:
                run(network, *shape)
            told = str(refusal.value).splitlines()[0].strip("'")
            assert told == f"the network takes images as (N, 3, H, W); it was given {shape}"


def test_arguments_may_be_positional_in_mindcvs_order():
    order = "w_a w_0 w_m d group_w stride bot_mul stem_type stem_w block_type head_w num_classes"
    names = [*order.split(), "se_r", "in_channels"]
    found = inspect.signature(RegNet.__init__).parameters.values()
    assert [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD] == ["self", *names]
    stem = ("simple_stem_in", 16, "res_bottleneck_block")
    network = RegNet(8, 8, 2.0, 3, 8, 2, 1.0, *stem, 0, 5, 0.25, 1)
    assert network.get_classifier().weight.shape[0] == 5
    assert network.stem.conv.weight.shape[:2] == (16, 1)
