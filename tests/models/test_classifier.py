"""The head: pooling, replacing or omitting the classifier; blocks that start as shortcuts."""

import math

import mindspore as ms
import numpy as np
import pytest
from golden.fill import images
from mindspore import nn

from mindcv.models import AnyNet, RegNet, create_model

SHAPE = (2, 3, 64, 96)


def tiny(**options) -> RegNet:
    """Build a RegNet of four blocks in three stages of 24, 48 and 96 channels."""
    return RegNet(20.0, 24, 2.0, 4, 8, **{"num_classes": 10} | options).set_train(False)


def run(network: nn.Cell) -> np.ndarray:
    return network(ms.Tensor(images(SHAPE))).asnumpy()


def trainable(network: nn.Cell) -> int:
    return sum(math.prod(parameter.shape) for parameter in network.trainable_params())


@pytest.mark.parametrize("head_w", [0, 32])
@pytest.mark.parametrize("pool, reduce", [("avg", np.mean), ("max", np.max)])
def test_no_classes_give_the_pooled_vector(head_w, pool, reduce):
    ms.set_seed(1)
    network = tiny(num_classes=0, global_pool=pool, head_w=head_w)
    network.head.reset(0, "none")
    feature_map = run(network)
    network.head.reset(0, pool)
    assert network.num_features == (head_w or 96) == feature_map.shape[1]
    assert np.allclose(run(network), reduce(feature_map, (2, 3)), rtol=1e-5, atol=1e-6)
    assert not any("fc" in parameter.name for parameter in network.get_parameters())
    assert network.complexity().params == trainable(network)


@pytest.mark.parametrize("name", ["none", ""])
def test_no_pooling_leaves_the_feature_map(name):
    network = tiny(num_classes=0, global_pool=name)
    assert run(network).shape == (2, 96, 4, 6)
    assert np.array_equal(
        run(network), network.forward_features(ms.Tensor(images(SHAPE))).asnumpy()
    )


@pytest.mark.parametrize("name", ["none", ""])
def test_a_classifier_on_a_feature_map_is_refused(name):
    with pytest.raises(ValueError, match="num_classes=0"):
        tiny(global_pool=name)
    network = tiny()
    with pytest.raises(ValueError, match="num_classes=0"):
        network.reset_classifier(10, global_pool=name)
    with pytest.raises(ValueError, match="median.*avg, max, none"):
        network.reset_classifier(10, global_pool="median")
    with pytest.raises(ValueError, match="num_classes"):
        network.reset_classifier(-1)
    assert run(network).shape == (2, 10) and network.num_classes == 10


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pre_logits_then_classifier_is_the_whole_model(pool):
    network = tiny(global_pool=pool, head_w=32)
    features = network.forward_features(ms.Tensor(images(SHAPE)))
    vector = network.forward_head(features, pre_logits=True)
    assert vector.shape == (2, network.num_features)
    logits = network.get_classifier()(vector).asnumpy()
    assert np.array_equal(logits, run(network))
    assert np.array_equal(logits, network.forward_head(features).asnumpy())


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_a_replaced_classifier_answers_at_once_in_both_modes(mode):
    before = ms.get_context("mode")
    try:
        ms.set_context(mode=mode)
        network = RegNet(8, 8, 2.0, 2, 8, num_classes=10).set_train(False)
        assert run(network).shape == (2, 10)  # compiled, in graph mode
        network.reset_classifier(3, global_pool="max")
        features = network.forward_features(ms.Tensor(images(SHAPE))).asnumpy().max((2, 3))
        fc = network.get_classifier()
        wanted = features @ fc.weight.asnumpy().T + fc.bias.asnumpy()
        assert np.allclose(run(network), wanted, rtol=1e-4, atol=1e-5)
        network.reset_classifier(0)
        assert np.allclose(run(network), features, rtol=1e-5, atol=1e-6)
    finally:
        ms.set_context(mode=before)


def test_a_replaced_classifier_is_fresh_named_and_counted():
    ms.set_seed(1)
    network = RegNet(20.0, 24, 2.0, 4, 8, num_classes=10, head_w=512)
    names = [parameter.name for parameter in network.get_parameters()]
    rest = {p.name: p.asnumpy() for p in network.get_parameters() if "fc" not in p.name}
    network.reset_classifier(400)
    assert [parameter.name for parameter in network.get_parameters()] == names
    weights = network.get_classifier().weight.asnumpy()
    assert weights.shape == (400, 512)
    assert abs(weights.std() / 0.01 - 1) < 5 / math.sqrt(2 * weights.size)
    assert (network.get_classifier().bias.asnumpy() == 0).all()
    assert network.num_classes == network.plan.num_classes == 400
    assert network.complexity().params == trainable(network)
    for parameter in network.get_parameters():
        if parameter.name in rest:
            assert np.array_equal(parameter.asnumpy(), rest[parameter.name])


def test_a_classifier_comes_back_under_its_name_inside_another_network():
    class Wrapper(nn.Cell):
        def __init__(self):
            super().__init__()
            self.backbone = tiny()

    network = Wrapper()
    names = [parameter.name for parameter in network.get_parameters()]
    network.backbone.reset_classifier(0)
    assert [p.name for p in network.get_parameters()] == [n for n in names if "head" not in n]
    network.backbone.reset_classifier(10)
    assert [parameter.name for parameter in network.get_parameters()] == names


def test_a_registered_model_takes_the_options():
    options = {"num_classes": 0, "global_pool": "max", "activation": "silu"}
    network = create_model("regnet_x_200mf", **options)
    assert (network.head.pool, network.plan.activation, network.num_classes) == ("max", "silu", 0)
    assert network.num_features == 368


def last_gammas(network: AnyNet) -> list[np.ndarray]:
    blocks = [block.f for stage in network.stages for block in stage.blocks]
    return [(f.c_bn if hasattr(f, "c_bn") else f.b_bn).gamma.asnumpy() for f in blocks]


@pytest.mark.parametrize(
    "block_type, last", [("res_basic_block", "b"), ("res_bottleneck_block", "c")]
)
def test_zero_init_makes_every_block_its_shortcut(block_type, last):
    ms.set_seed(1)
    plain, zeroed = (tiny(block_type=block_type, zero_init_last=zero) for zero in (False, True))
    zeros = {
        p.name
        for p in zeroed.get_parameters()
        if p.name.endswith("gamma") and not p.asnumpy().any()
    }
    assert zeros == {
        f"stages.{s}.blocks.{b}.f.{last}_bn.gamma"
        for s, stage in enumerate(zeroed.stages)
        for b in range(len(stage.blocks))
    }
    assert all((gamma == 1).all() for gamma in last_gammas(plain))
    block = zeroed.stages[1].blocks[1]
    x = ms.Tensor(images((2, 48, 8, 8)))
    assert np.array_equal(block(x).asnumpy(), np.maximum(x.asnumpy(), 0))


def test_zero_init_leaves_linear_blocks_without_a_shortcut_alone():
    """A zero there would make all later outputs constant."""
    network = tiny(block_type="res_bottleneck_linear_block", zero_init_last=True)
    adds = [block.adds for stage in network.stages for block in stage.blocks]
    assert True in adds and False in adds
    assert [not gamma.any() for gamma in last_gammas(network)] == adds
