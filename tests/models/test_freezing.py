"""Frozen stages: no step changes their weights or statistics; everything else still learns."""

import mindspore as ms
import numpy as np
import pytest
from golden.fill import images
from mindspore import nn

from mindcv.errors import ConfigError
from mindcv.loss import create_loss
from mindcv.models import FeatureNet, RegNet, freeze
from mindcv.optim import create_optimizer
from mindcv.optim.groups import layer_scales


def tiny() -> RegNet:
    """Build a RegNet of four blocks in three stages."""
    ms.set_seed(1)
    return RegNet(20.0, 24, 2.0, 4, 8, num_classes=5, se_r=0.25)


def values(network: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


@pytest.mark.parametrize(
    "stages, mode", [(0, ms.PYNATIVE_MODE), (2, ms.PYNATIVE_MODE), (2, ms.GRAPH_MODE)]
)
def test_a_step_with_momentum_and_decay_moves_the_rest_and_nothing_frozen(stages, mode):
    network = tiny()
    names = freeze(network, stages)
    parts = ("stem.", *(f"stages.{stage}." for stage in range(stages)))
    assert names == [p.name for p in tiny().trainable_params() if p.name.startswith(parts)]
    optimizer = create_optimizer(
        network.trainable_params(), opt="momentum", lr=0.1, momentum=0.9, weight_decay=0.1
    )
    step = nn.TrainOneStepCell(nn.WithLossCell(network, create_loss()), optimizer)
    step.set_train()
    before, context = values(network), ms.get_context("mode")
    try:
        ms.set_context(mode=mode)
        step(ms.Tensor(images((4, 3, 32, 32))), ms.Tensor([0, 1, 2, 3], ms.int32))
    finally:
        ms.set_context(mode=context)
    for name, value in values(network).items():
        moved = not np.array_equal(value, before[name])
        assert moved is not name.startswith(parts), name


def test_a_network_that_has_run_already_is_frozen_too():
    network, batch = tiny().set_train(), ms.Tensor(images((4, 3, 32, 32)))
    context = ms.get_context("mode")
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        network(batch)
        freeze(network, 1)
        before = values(network)
        network(batch)
    finally:
        ms.set_context(mode=context)
    for name, value in values(network).items():
        if "moving" in name:
            frozen = name.startswith(("stem.", "stages.0."))
            assert np.array_equal(value, before[name]) is frozen, name


def test_frozen_parameters_leave_the_trainable_ones():
    network = tiny()
    everything = {parameter.name for parameter in network.trainable_params()}
    frozen = freeze(network, 3)
    assert {parameter.name for parameter in network.trainable_params()} == everything - set(frozen)
    assert everything - set(frozen) == {"head.fc.weight", "head.fc.bias"}
    assert freeze(network, 3) == []


def test_what_was_frozen_learns_again_and_nothing_else_does():
    network = tiny()
    network.stem.trainable_params()[0].requires_grad = False  # as a user chose
    before = {p.name: p.requires_grad for p in network.get_parameters()}
    layers = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    frozen = freeze(network, 1)
    assert sum(layer.use_batch_statistics is False for layer in layers) > 3
    frozen.unfreeze()
    assert {p.name: p.requires_grad for p in network.get_parameters()} == before
    assert {layer.use_batch_statistics for layer in layers} == {None}


def test_a_backbone_of_features_is_frozen_alike():
    network = FeatureNet(tiny(), (2, 3))
    names = freeze(network, 1)
    assert names and all(name.startswith(("stem.", "stages.0.")) for name in names)


class Own(nn.Cell):
    """A network with different names for its parts, which declares them."""

    def __init__(self):
        super().__init__()
        self.entry, self.middle = nn.Conv2d(3, 4, 3), nn.SequentialCell(nn.Conv2d(4, 4, 3))
        self.out = nn.Dense(4, 2)

    def layer_groups(self):
        return [[self.entry], list(self.middle)]


def test_a_network_of_ones_own_declares_its_layers():
    rates = layer_scales(Own(), 0.5)
    assert rates == {"entry.weight": 0.25, "middle.0.weight": 0.5} | dict.fromkeys(
        ("out.weight", "out.bias"), 1.0
    )
    assert freeze(Own(), 1) == ["entry.weight", "middle.0.weight"]


@pytest.mark.parametrize("stages", [-1, 4])
def test_more_stages_than_there_are_is_refused(stages):
    network = tiny()
    with pytest.raises(ConfigError, match="0 .the stem. to 3"):
        freeze(network, stages)
    assert all(parameter.requires_grad for parameter in network.stem.trainable_params())


def test_a_network_without_stages_is_refused():
    with pytest.raises(ConfigError, match="Dense"):
        freeze(nn.Dense(2, 3), 0)
