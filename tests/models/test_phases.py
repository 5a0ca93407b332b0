"""Frozen layers that train later, at rates of their own, learn as torch lets them learn."""

import json

import mindspore as ms
import numpy as np
import pytest
from conftest import ROOT
from golden.fill import fill, images, labels
from mindspore import Tensor, nn, ops

from mindcv import create_optimizer, engine
from mindcv.config import load_config, read_factors
from mindcv.engine.build_step import rates_after
from mindcv.errors import ConfigError
from mindcv.loss import create_loss
from mindcv.models import freeze
from mindcv.optim.groups import layer_scales, named_factors

GOLDEN = json.loads((ROOT / "tests/golden/phases.json").read_text(encoding="utf-8"))
# As in make_phases.py.
BATCH, SIDE, CLASSES, FROZEN = 8, 12, 4, 6
OPTIMIZERS = {
    "sgd": dict(lr=0.05, momentum=0.9, weight_decay=0.01),
    "adamw": dict(lr=0.01, weight_decay=0.1),
}
FACTORS = {"stem": 0.1, "stages.0": 0.5, "head": 2.0}
NAMES = {"bn.weight": "bn.gamma", "bn.bias": "bn.beta", "running_mean": "moving_mean"}
NAMES["running_var"] = "moving_variance"


class Block(nn.Cell):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, pad_mode="same")
        self.bn = nn.BatchNorm2d(6)

    def construct(self, x):
        return ops.relu(self.bn(self.conv(x)))


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stem, self.stages = Block(3), nn.SequentialCell(Block(6))
        self.head = nn.Dense(6, CLASSES)
        for name, parameter in self.parameters_and_names():
            if name in ("stem.conv.weight", "stages.0.conv.weight", "head.weight"):
                parameter.set_data(Tensor(fill(name, parameter.shape)))
        self.head.bias.set_data(Tensor(np.zeros(CLASSES, np.float32)))

    def layer_groups(self):
        return [[self.stem], [self.stages[0]]]

    def construct(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_freezes_and_learns_as_in_torch(name):
    ms.set_context(mode=ms.GRAPH_MODE)
    network, golden = Net(), GOLDEN[name]
    pictures, targets = images((2 * BATCH, 3, SIDE, SIDE)), labels(2 * BATCH, CLASSES)
    frozen, losses = freeze(network, 0), []

    def step():
        optimizer = create_optimizer(network, name, layer_lr=FACTORS, **OPTIMIZERS[name])
        return engine.TrainStep(network, create_loss(), optimizer)

    train = step()
    for number in range(len(golden["loss"])):
        if number == FROZEN:
            frozen.unfreeze()
            train = step()
        which = slice(BATCH * (number % 2), BATCH * (number % 2 + 1))
        losses.append(float(train(Tensor(pictures[which]), Tensor(targets[which]))[0].asnumpy()))
    np.testing.assert_allclose(losses, golden["loss"], rtol=2e-5)
    found = {p.name: np.linalg.norm(p.asnumpy().astype(float)) for p in network.get_parameters()}
    for key, norm in golden["norms"].items():
        for theirs, ours in NAMES.items():
            key = key.replace(theirs, ours)
        assert found[key] == pytest.approx(norm, rel=1e-4), key


def test_a_parameter_has_the_factor_of_the_longest_name_beside_that_of_its_layer():
    network, factors = Net(), {"stages": 0.5, "stages.0.conv": 0.25, "head.bias": 0}
    found = named_factors([p.name for p in network.get_parameters()], factors)
    assert found["stages.0.conv.weight"] == 0.25 and found["stages.0.bn.gamma"] == 0.5
    assert (found["head.weight"], found["head.bias"], found["stem.bn.beta"]) == (1, 0, 1)
    layers = layer_scales(network, 0.1)
    optimizer = create_optimizer(network, "sgd", 2.0, layer_decay=0.1, layer_lr=factors)
    rates = dict(zip((p.name for p in optimizer.parameters), optimizer.learning_rate))
    for name, rate in rates.items():
        assert float(rate.asnumpy()) == pytest.approx(2 * found[name] * layers[name]), name


def test_the_rates_go_on_after_those_that_the_frozen_epochs_used():
    rates, rows = [float(n) for n in range(20)], [["1", "0"], ["2", "3"]]
    assert rates_after(rows, rates, updates=5) == rates[7:]  # 3 of 10 were skipped
    assert rates_after([], rates, updates=5) == rates


@pytest.mark.parametrize(
    "text, message",
    [
        ("stem", "expected name=value"),
        ("stem=fast", "stem: expected a number, got 'fast'"),
        ("stem=-1", "stem: -1 is below 0"),
        ("stem=1, stem=2", "stem is set twice"),
    ],
)
def test_a_wrong_factor_is_refused(text, message):
    with pytest.raises(ConfigError, match=f"layer_lr: {message}"):
        load_config(None, {"model": "regnet_x_200mf", "layer_lr": text})


def test_a_part_that_no_name_begins_with_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match="begins with 'stag'; they begin with stem, stages, head"):
        create_optimizer(Net(), "sgd", 0.1, layer_lr={"stag": 0.1})


def test_yaml_gives_factors_as_a_mapping(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: regnet_x_200mf\nlayer_lr:\n  stem: 0.1\n  stages.0: 1e-2\n")
    assert read_factors(load_config(str(recipe)).layer_lr) == {"stem": 0.1, "stages.0": 0.01}


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(unfreeze_epoch=2), "nothing is frozen; add freeze_stages"),
        (dict(unfreeze_epoch=9, freeze_stages=0, epoch_size=9), "9 leaves no epoch of epoch_size"),
    ],
)
def test_an_end_of_freezing_that_never_comes_is_refused(options, message):
    with pytest.raises(ConfigError, match=f"unfreeze_epoch: {message}"):
        load_config(None, {"model": "regnet_x_200mf", **options})
