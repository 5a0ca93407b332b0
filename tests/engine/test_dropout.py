"""Draws of dropout are a function of seed, layer and batch, in every mode and precision."""

import itertools
from collections import OrderedDict

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindcv import create_loss, create_optimizer, engine
from mindcv.engine.replaced_layers import _numbers, count_dropout
from mindcv.models import RegNet

pytestmark = pytest.mark.usefixtures("pynative_mode")


def draws(p=0.25, shape=(64, 100), seed=1, ranks=(1, 0), count=0, layers=1) -> list[np.ndarray]:
    """Return which elements each layer drops."""
    network = nn.SequentialCell([nn.Dropout(p=p) for _ in range(layers)])
    counter = count_dropout(network, seed, *ranks)
    counter.set_data(Tensor(count, ms.int32))
    network.set_train()
    ones = Tensor(np.ones(shape, np.float32))
    return [layer(ones).asnumpy() == 0 for layer in network]


def test_draws_are_a_function_of_seed_layer_and_batch_whatever_the_rank():
    (first, second), again = draws(layers=2), draws(layers=2)
    np.testing.assert_array_equal(first, again[0])
    for world_size, rank, count in ((2, 1, 2), (5, 0, 1), (4, 1, 1)):
        alone = draws(count=count * world_size + rank)[0]
        np.testing.assert_array_equal(draws(ranks=(world_size, rank), count=count)[0], alone)
    others = [second, draws(seed=2)[0], draws(count=1)[0], draws(count=2**16)[0]]
    for one, other in itertools.combinations([first, *others], 2):
        # Independent draws of 0.25 agree in 0.25 ** 2 + 0.75 ** 2 of the elements.
        assert (one == other).mean() == pytest.approx(0.625, abs=0.03)


@pytest.mark.parametrize(("p", "shape"), [(0.1, (32, 16)), (0.5, (8, 4, 1, 16))])
def test_draws_are_independent_and_as_probable_as_asked(p, shape):
    """Over layers, steps and elements: means, their spread, correlations of two and of four."""
    network = nn.SequentialCell([nn.Dropout(p=p) for _ in range(3)])
    count = count_dropout(network, seed=5)
    network.set_train()
    ones, drops = Tensor(np.ones(shape, np.float32)), []
    for layer in network:
        for step in range(12):
            count.set_data(Tensor(step, ms.int32))
            drops.append(layer(ones).asnumpy() == 0)
    drops = np.squeeze(np.stack(drops).reshape(3, 12, *shape))
    deviation = np.sqrt(p * (1 - p))
    assert abs(drops.mean() - p) < 4 * deviation / np.sqrt(drops.size)
    standard = (drops - p) / deviation
    steps = {}  # products of neighbours along an axis
    for axis, length in enumerate(drops.shape):
        means = drops.mean(tuple(other for other in range(drops.ndim) if other != axis))
        assert np.abs(means - p).max() < 4.5 * deviation / np.sqrt(drops.size / length)
        one = np.take(standard, range(1, length), axis)
        steps[axis] = one * np.take(standard, range(length - 1), axis)
        assert abs(steps[axis].mean()) < 4.5 / np.sqrt(one.size), axis
    # The numbers of two axes are added up: four corners of a rectangle must not depend either.
    for axis, other in itertools.combinations(steps, 2):
        sides, length = steps[axis], drops.shape[other]
        corners = np.take(sides, range(1, length), other) * np.take(sides, range(length - 1), other)
        assert abs(corners.mean()) < 4.5 / np.sqrt(corners.size), (axis, other)


def test_an_early_feature_map_needs_no_constant_of_its_size():
    numbers = _numbers((64, 32, 112, 112), (1, 0, 0))
    assert sum(half.size for halves in numbers for half in halves) == 2 * (1 + 64 + 32 + 112 + 112)
    network = nn.SequentialCell(nn.Dropout(p=0.3))
    count_dropout(network, seed=1)
    drops = network.set_train()(ops.ones((2, 3, 64, 65), ms.float32)).asnumpy() == 0
    assert drops.mean() == pytest.approx(0.3, abs=4.5 * np.sqrt(0.21 / drops.size))
    assert len({row.tobytes() for row in drops.reshape(-1, 65)}) == 2 * 3 * 64


def test_kept_elements_are_scaled_and_nothing_is_dropped_in_evaluation():
    network = nn.SequentialCell(nn.Dropout(p=0.2))
    count_dropout(network, seed=1)
    x = Tensor(np.full((100, 100), 2.0, np.float32))
    found = network.set_train()(x).asnumpy()
    assert set(np.unique(found)) == {0.0, np.float32(2.5)}
    assert found.mean() == pytest.approx(2.0, rel=0.02)
    np.testing.assert_array_equal(network.set_train(False)(x).asnumpy(), x.asnumpy())


def test_graph_mode_and_float16_draw_the_same():
    network = RegNet(8, 8, 2.0, 3, 8, num_classes=6, drop_rate=0.5, drop_path_rate=0.5)
    names = [parameter.name for parameter in network.get_parameters()]
    count_dropout(network, seed=1)
    # The count is no parameter of the network: weight files hold what they held before.
    assert [parameter.name for parameter in network.get_parameters()] == names
    layer = network.head.dropout
    layer.set_train()
    x = np.ones((8, 16), np.float32)
    expected = layer(Tensor(x)).asnumpy()
    half = layer(Tensor(x, ms.float16))
    assert half.dtype == ms.float16
    np.testing.assert_array_equal(half.asnumpy(), expected)
    ms.set_context(mode=ms.GRAPH_MODE)
    np.testing.assert_array_equal(layer(Tensor(x)).asnumpy(), expected)


@pytest.mark.parametrize("level", ["O1", "O2", "O3", "auto"])
def test_every_precision_drops_the_same_and_keeps_the_names(level, losses_in_float32):
    np.testing.assert_allclose(losses_of_precision(level), losses_in_float32, rtol=5e-3)


@pytest.fixture(scope="module")
def losses_in_float32():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return losses_of_precision("O0")


def losses_of_precision(level) -> list[float]:
    ms.set_seed(3)
    network = RegNet(8, 8, 2.0, 3, 8, num_classes=6, drop_rate=0.3, drop_path_rate=0.3)
    names = [parameter.name for parameter in network.get_parameters()]
    count = count_dropout(network, seed=1)
    mixed = engine.mixed_precision(network, level)
    assert [parameter.name for parameter in network.get_parameters()] == names
    optimizer = create_optimizer(network, "momentum", lr=0.01)
    step = engine.TrainStep(mixed, create_loss(), optimizer, dropout_count=count)
    rng = np.random.default_rng(0)
    image = Tensor(rng.standard_normal((4, 3, 32, 32)), ms.float32)
    label = Tensor([0, 1, 2, 3], ms.int32)
    return [float(step(image, label)[0].asnumpy()) for _ in range(3)]


def test_layers_of_named_and_shared_sequences_are_replaced_where_they_run():
    shared = nn.Dropout(p=0.5)
    cells = {"norm": nn.BatchNorm2d(4), "one": shared, "conv": nn.Conv2d(4, 4, 1), "two": shared}
    network = nn.SequentialCell(OrderedDict(cells))
    names = [parameter.name for parameter in network.get_parameters()]
    assert engine.synchronize_batch_norm(network, 2) == 1
    count_dropout(network, seed=1)
    engine.mixed_precision(network, "O1")
    assert [parameter.name for parameter in network.get_parameters()] == names
    kinds = [type(cell).__name__ for cell in network.cell_list]
    assert kinds == ["SyncBatchNorm", "CountedDropout", "_Float16", "CountedDropout"]
