"""The networks compute the same as timm's and torchvision's: logits, gradients and training.

Weights and images are functions of names and shapes (golden/fill.py), so no weight file is needed.
golden/logits.json (make_logits.py) and golden/training.json (make_training.py) hold the peers'
results in float64. test_identity_live.py runs the peers themselves.
"""

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from golden.fill import direction, fill, images, labels
from mindspore import nn, ops

from mindcv import create_model, create_optimizer
from mindcv.engine import TrainStep
from mindcv.loss import create_loss
from mindcv.models.blocks import batch_norm

pytestmark = pytest.mark.xdist_group("large")
GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "logits.json").read_text())
TRAINING = json.loads((GOLDEN / "training.json").read_text())
NAMES = list(EXPECTED["logits"])
TRAINED = [  # Y has all of X and squeeze-and-excitation
    pytest.param(name, marks=pytest.mark.slow if "_x_" in name else ())
    for name in TRAINING
    if name.startswith("regnet")
]
SMALL = "64x96"
# More of the layers that the smaller ones of their family have.
BIG = ("1_6gf", "3_2gf", "4_0gf", "6_4gf", "8_0gf", "8_0gf_tv", "12gf", "16gf", "32gf", "128gf")


def names_slow_unless(default) -> list:
    return [pytest.param(name, marks=() if default(name) else pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def network(request) -> Iterator[tuple[str, nn.Cell]]:
    """Build a network by name, once for both of its tests."""
    yield request.param, filled(request.param)
    gc.collect()  # before the next: the largest has 2.6 GB


def filled(name: str) -> nn.Cell:
    network = create_model(name)
    for parameter in network.get_parameters():
        parameter.set_data(ms.Tensor(fill(parameter.name, parameter.shape)))
    return network.set_train(False)


def check_summary(values: np.ndarray, golden: list[float], tolerance: float, name: str) -> None:
    """Compare norm and projection; both errors are relative to the norm."""
    norm, projection = golden
    values = values.astype(np.float64)
    assert abs(np.linalg.norm(values.ravel()) - norm) <= tolerance * norm, name
    sampled = (values * direction(name, values.shape)).sum()
    assert abs(sampled - projection) <= tolerance * norm, name


def test_the_golden_fill_is_the_one_the_logits_were_made_with():
    probe = fill("stem.conv.weight", (32, 3, 3, 3)).ravel()[:4]
    assert [float(value) for value in probe] == EXPECTED["fill_probe"]


def test_the_peers_gave_the_same_logits_wherever_both_have_the_network():
    both = [peers for peers in EXPECTED["peers"].values() if "torchvision" in peers]
    assert len(EXPECTED["peers"]) == 28 and len(both) == 15
    assert all(peers["difference"] <= 1e-12 for peers in both)


@pytest.mark.parametrize(
    "network", names_slow_unless(lambda name: not name.endswith(BIG)), indirect=True
)
def test_logits_are_the_peers_on_a_small_oblong_image(network):
    check_logits(*network, SMALL)


@pytest.mark.parametrize(
    "network",
    names_slow_unless(lambda name: name.endswith(("_200mf", "_400mf_tv", "_500mf"))),
    indirect=True,
)
def test_logits_are_the_peers_at_training_and_validation_sizes(network):
    for size in EXPECTED["logits"][network[0]].keys() - {SMALL}:
        check_logits(*network, size)


def check_logits(name: str, network: nn.Cell, size: str) -> None:
    golden = EXPECTED["logits"][name][size]
    height, width = (int(side) for side in size.split("x"))
    pictures = ms.Tensor(images((2 if size == SMALL else 1, 3, height, width)))
    logits = network(pictures).asnumpy()[-1].astype(np.float64)
    largest = golden["max_abs"]
    # A sum's error is that of one logit times the root of their number.
    tolerance, tolerance_of_sums = 5e-6 * largest, 5e-6 * largest * math.sqrt(logits.size)
    projection = logits @ direction("logits", logits.shape)
    assert np.abs(logits[:8] - golden["first"]).max() <= tolerance, size
    assert abs(np.abs(logits).max() - largest) <= tolerance, size
    assert abs(logits.sum() - golden["sum"]) <= tolerance_of_sums, size
    assert abs(projection - golden["projection"]) <= tolerance_of_sums, size


@pytest.mark.parametrize("name", EXPECTED["gradients"])
def test_the_gradient_of_every_parameter_is_torchs(name):
    golden = EXPECTED["gradients"][name]
    network = filled(name).set_train(True)
    parameters = network.trainable_params()
    target = ms.Tensor(labels(4))

    def forward(batch):
        return ops.cross_entropy(network(batch), target)

    loss, gradients = ms.value_and_grad(forward, None, parameters)(
        ms.Tensor(images((4, 3, 64, 64)))
    )
    assert abs(float(loss.asnumpy()) / golden["loss"] - 1) < 1e-5
    assert {parameter.name for parameter in parameters} == set(golden["parameters"])
    for parameter, gradient in zip(parameters, gradients):
        gradient = gradient.asnumpy()
        norm, projection, *entries = golden["parameters"][parameter.name]
        check_summary(gradient, [norm, projection], 1e-4, parameter.name)
        flat = gradient.ravel().astype(np.float64)
        ours = [flat[0], flat[flat.size // 2], flat[-1]]
        assert np.abs(np.subtract(ours, entries)).max() <= 1e-4 * norm, parameter.name


@pytest.mark.parametrize("name", TRAINED)
def test_twenty_steps_of_sgd_with_momentum_follow_torchs(name):
    """Compare losses, moving statistics and weights.

    The scale is the distance of torch's own float32 from its float64: with another order of
    summation, rounding switches other ReLUs, so our distance may be a few times as large. That
    hides a weight decay of 5e-5, which test_optim.py compares.
    """
    golden = TRAINING[name]
    allowed = {key: 5 * np.array(gap) + 2e-6 for key, gap in golden["float32_gap"].items()}
    losses, tensors = train(name, TRAINING["steps"])
    # A step is not expected to be nearer than an earlier one.
    tolerances = np.maximum.accumulate(allowed.pop("loss"))
    assert np.all(np.abs(np.divide(losses, golden["loss"]) - 1) <= tolerances)
    assert max(losses[-2:]) < 0.75 * min(losses[:2])
    assert set(tensors) == set(allowed)
    for key, tolerance in allowed.items():
        assert set(tensors[key]) == set(golden[key])
        for parameter, values in tensors[key].items():
            check_summary(values, golden[key][parameter], tolerance, parameter)


def train(name: str, steps: int) -> tuple[list[float], dict[str, dict]]:
    """Return the losses, and tensors by their kind and the number of steps."""
    batch, batches, side = TRAINING["images"].values()
    pictures, targets = images((batch * batches, 3, side, side)), labels(batch * batches)
    losses, tensors = [], {}
    before = ms.get_context("mode")
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        network = filled(name)
        weights = network.trainable_params()
        optimizer = create_optimizer(network, "momentum", **TRAINING["sgd"])
        step = TrainStep(network, create_loss(), optimizer)
        for index in range(steps):
            which = slice(batch * (index % batches), batch * (index % batches + 1))
            loss, _ = step(ms.Tensor(pictures[which]), ms.Tensor(targets[which]))
            losses.append(float(loss.asnumpy()))
            if index + 1 in (1, steps):
                moving = [p for p in network.get_parameters() if ".moving_" in p.name]
                tensors[f"statistics {index + 1}"] = copies(moving)
        return losses, tensors | {f"weights {steps}": copies(weights)}
    finally:
        ms.set_context(mode=before)


def copies(parameters: list) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().astype(np.float64) for p in parameters}


@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
@pytest.mark.parametrize("shape", [(2, 3, 2, 1), (64, 3, 7, 7)], ids=str)
def test_moving_statistics_take_a_tenth_of_the_batch_mean_and_unbiased_variance(mode, shape):
    values = images(shape) + 0.5
    before = ms.get_context("mode")
    try:
        ms.set_context(mode=mode)
        layer = batch_norm(3).set_train(True)
        layer(ms.Tensor(values))
    finally:
        ms.set_context(mode=before)
    mean = values.mean((0, 2, 3), np.float64)
    variance = values.var((0, 2, 3), np.float64, ddof=1)
    assert layer.moving_mean.asnumpy() == pytest.approx(0.1 * mean, rel=1e-5)
    assert layer.moving_variance.asnumpy() == pytest.approx(0.9 + 0.1 * variance, rel=1e-6)
