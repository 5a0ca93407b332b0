"""Options of the training step and of an epoch's end, each against plain NumPy."""

import csv
import types

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindcv import create_loss, create_optimizer, engine
from mindcv.checkpoint import CheckpointWriter, Position
from mindcv.errors import ConfigError, DataError
from mindcv.models import RegNet, freeze, load_weights
from mindcv.weights import Metadata

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)


@pytest.fixture(autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)


class Dense(nn.Cell):
    """A network without batch statistics, so a batch's mean is the mean over its halves."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(12, 8), nn.Dense(8, 5)
        rng = np.random.default_rng(0)
        for parameter in self.get_parameters():
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape) / 3, ms.float32))

    def construct(self, x):
        return self.second(ops.tanh(self.first(x)))


def batches(count, size, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (
            Tensor(rng.standard_normal((size, 12)), ms.float32),
            Tensor(rng.integers(0, 5, size), ms.int32),
        )
        for _ in range(count)
    ]


def build(network, opt="momentum", lr=0.5, momentum=0.9, **options):
    optimizer = create_optimizer(network, opt, lr=lr, weight_decay=1e-2, momentum=momentum)
    return engine.TrainStep(network, create_loss(), optimizer, **options)


def weights(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


def assert_close(first, second, rtol=1e-6):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol, 1e-7, err_msg=name)


def halves(batch):
    return [tuple(part[start : start + 4] for part in batch) for start in (0, 4)]


@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"clip_mode": "global_norm"}], ids=str)
def test_accumulated_batches_are_one_large_batch(options):
    large, small = Dense(), Dense()
    one = build(large, clip_value=0.1, **options)
    several = build(small, clip_value=0.1, accumulation=2, **options)
    for batch in batches(3, 8):
        one(*batch)
        before = weights(small)
        first, second = halves(batch)
        assert bool(several(*first)[1].asnumpy())
        assert_close(before, weights(small), 0)  # nothing moves before the sum is complete
        several(*second)
        assert_close(weights(large), weights(small))


def test_a_rate_belongs_to_an_update_not_to_a_batch():
    network = Dense()
    step = build(network, opt="sgd", lr=[0.5, 0.0, 0.0], accumulation=2)
    batch = batches(1, 4)[0]
    for _ in range(2):
        step(*batch)
    moved = weights(network)
    for _ in range(4):
        step(*batch)
    assert_close(moved, weights(network), 0)


def test_an_overflow_spoils_its_own_update_only():
    network, reference = Dense(), Dense()
    step = build(network, accumulation=2, dynamic=True)
    plain = build(reference, accumulation=2)
    good, bad = (
        batches(1, 4)[0],
        (Tensor(np.full((4, 12), np.inf), ms.float32), batches(1, 4)[0][1]),
    )
    before = weights(network)
    step(*bad)
    assert not bool(step(*good)[1].asnumpy())
    assert_close(before, weights(network), 0)
    assert float(step.scaler.scale_value.asnumpy()) == 2.0**15
    for _ in range(2):
        assert bool(step(*good)[1].asnumpy())
        plain(*good)
    assert_close(weights(network), weights(reference))


@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_clipping_sees_unscaled_gradients(loss_scale):
    plain, clipped = Dense(), Dense()
    start = weights(plain)
    batch = batches(1, 8)[0]
    build(plain, opt="sgd", lr=1.0)(*batch)
    build(clipped, "sgd", 1.0, clip_mode="global_norm", clip_value=0.05, loss_scale=loss_scale)(
        *batch
    )
    # sgd adds the decay after clipping: take it out of both steps
    gradient = {k: start[k] - v - 1e-2 * start[k] for k, v in weights(plain).items()}
    norm = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in gradient.values()))
    assert norm > 0.05
    for name, value in weights(clipped).items():
        expected = start[name] - gradient[name] * (0.05 / norm) - 1e-2 * start[name]
        np.testing.assert_allclose(value, expected, 1e-5, 1e-7, err_msg=name)


def small_regnet(**options):
    ms.set_seed(3)
    return RegNet(8, 8, 2.0, 2, 8, num_classes=5, **options)


def image_batches(count, size=4):
    rng = np.random.default_rng(1)
    return [
        (
            Tensor(rng.standard_normal((size, 3, 16, 16)) + 0.5, ms.float32),
            Tensor(rng.integers(0, 5, size), ms.int32),
        )
        for _ in range(count)
    ]


def test_the_average_is_the_formula_statistics_included():
    network = small_regnet()
    average = engine.WeightAverage(network, 0.9)
    step = build(network, lr=0.1, average=average)
    expected = {name: value.astype(np.float64) for name, value in weights(network).items()}
    for update, batch in enumerate(image_batches(5), 1):
        step(*batch)
        decay = 0.9 * (1.0 - np.exp(-update / 2000.0))
        for name, value in weights(network).items():
            expected[name] = decay * expected[name] + (1.0 - decay) * value
    found = {p.name.removeprefix("ema."): p.asnumpy() for p in average.averages}
    assert any(name.endswith("moving_variance") for name in found)
    assert_close(found, expected, 1e-5)
    assert all(p.name.startswith("ema.") for p in average.averages)


def test_the_average_moves_with_updates_not_with_batches_or_skipped_steps():
    network = Dense()
    average = engine.WeightAverage(network)
    step = build(network, accumulation=2, dynamic=True, average=average)
    good = batches(1, 4)[0]
    bad = (Tensor(np.full((4, 12), np.inf), ms.float32), good[1])
    for batch in (good, good, bad, bad, good):
        step(*batch)
    assert float(average.updates.asnumpy()) == 1.0


def test_weights_and_averages_change_places_and_come_back_bit_for_bit():
    network = small_regnet()
    average = engine.WeightAverage(network, 0.5)
    step = build(network, lr=0.1, average=average)
    for batch in image_batches(2):
        step(*batch)
    own, averaged = weights(network), [p.asnumpy().copy() for p in average.averages]
    with pytest.raises(KeyError), average.in_place_of_the_weights():
        for value, expected in zip(weights(network).values(), averaged):
            np.testing.assert_array_equal(value, expected)
        raise KeyError
    assert_close(own, weights(network), 0)
    for parameter, expected in zip(average.averages, averaged):
        np.testing.assert_array_equal(parameter.asnumpy(), expected)


def test_a_checkpoint_holds_both_and_each_can_be_loaded(tmp_path):
    network = small_regnet()
    average = engine.WeightAverage(network, 0.5)
    step = build(network, lr=0.1, average=average)
    step(*image_batches(1)[0])
    entries = {p.name: p.asnumpy() for p in (*network.get_parameters(), *step.state)}
    writer = CheckpointWriter(tmp_path, "net")
    writer.save(Position(1, 1), engine.Snapshot(entries, {}, {}).files(Metadata("net", 5)), {})
    writer.wait()
    path = tmp_path / "net-1_1.ckpt"
    raw, averaged = small_regnet(), small_regnet()
    load_weights(raw, path)
    load_weights(averaged, path, ema=True)
    assert_close(weights(raw), weights(network), 0)
    assert_close(weights(averaged), {p.name[4:]: p.asnumpy() for p in average.averages}, 0)
    assert not np.array_equal(weights(raw)["head.fc.weight"], weights(averaged)["head.fc.weight"])


def batches_of(images, size=4):
    labels = np.zeros(len(images), np.int32)
    rows = ds.NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False)
    batches = rows.batch(size, drop_remainder=True)
    return lambda: batches.create_tuple_iterator(num_epochs=1, output_numpy=True)


class Normalized(nn.Cell):
    """A user's own network, with normalisation after the pooling."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def construct(self, x):
        return self.bn(x.mean((2, 3)))


@pytest.mark.parametrize(
    "build_network, side, layer", [(small_regnet, 8, r"stages\S+"), (Normalized, 16, "bn")]
)
def test_a_batch_without_variance_is_refused_before_the_first_step(build_network, side, layer):
    network = build_network()
    network.set_train()
    before = weights(network)
    words = f"a batch of one image, of which {layer} sees one value .*; "
    with pytest.raises(DataError, match=f"{words}set drop_remainder True, or a batch_size other"):
        engine.check_batch_statistics(network, (3, side, side), 1, 7)
    with pytest.raises(DataError, match=f"{words}make batch_size 2 or more"):
        engine.check_batch_statistics(network, (3, side, side), 1, 1)
    engine.check_batch_statistics(network, (3, side, side), 2, 7)
    assert network.training and ms.get_context("mode") == ms.GRAPH_MODE
    assert_close(weights(network), before, 0)
    # That two images are fine, and one is not, is no opinion.
    for images, is_finite in ((2, True), (1, False)):
        network(
            Tensor(np.random.default_rng(0).standard_normal((images, 3, side, side)), ms.float32)
        )
        found = weights(network).values()
        assert all(np.isfinite(value).all() for value in found) is is_finite


def test_one_image_is_enough_for_larger_maps_and_for_frozen_layers():
    engine.check_batch_statistics(small_regnet(), (3, 64, 64), 1, 1)
    network = small_regnet()
    freeze(network, len(network.stages))
    engine.check_batch_statistics(network, (3, 8, 8), 1, 1)


def test_precise_statistics_are_those_of_the_batches():
    images = np.random.default_rng(2).standard_normal((20, 3, 16, 16)).astype(np.float32) * 2 + 1
    network = small_regnet()
    measured = engine.PreciseBatchNorm(network, None, batches_of(images), 3)
    assert measured() == 12
    outputs = network.stem.conv(Tensor(images[:12])).asnumpy().astype(np.float64)
    groups = outputs.reshape(3, 4, *outputs.shape[1:])
    mean, variance = groups.mean((1, 3, 4)).mean(0), groups.var((1, 3, 4), ddof=1).mean(0)
    np.testing.assert_allclose(network.stem.bn.moving_mean.asnumpy(), mean, 1e-5, 1e-6)
    np.testing.assert_allclose(network.stem.bn.moving_variance.asnumpy(), variance, 1e-5)
    first = weights(network)
    assert measured() == 12
    assert_close(first, weights(network), 0)  # they do not depend on what was there before
    assert engine.PreciseBatchNorm(network, None, batches_of(images), 99)() == 20


def test_layers_in_evaluation_keep_their_statistics():
    images = np.random.default_rng(2).standard_normal((8, 3, 16, 16)).astype(np.float32)
    network = small_regnet()
    freeze(network, 0)
    before = weights(network)
    engine.PreciseBatchNorm(network, None, batches_of(images), 2)()
    changed = {n for n, v in weights(network).items() if not np.array_equal(v, before[n])}
    assert changed and not any(name.startswith("stem.bn") for name in changed)
    assert all(name.endswith(("moving_mean", "moving_variance")) for name in changed)


def strong_regnet():
    """Weights large enough that float16 shows in each layer's output."""
    network = small_regnet()
    rng = np.random.default_rng(5)
    for parameter in network.trainable_params():
        if parameter.ndim > 1:
            values = rng.standard_normal(parameter.shape) / np.sqrt(np.prod(parameter.shape[1:]))
            parameter.set_data(Tensor(values, ms.float32))
    return network.set_train()


def outputs(level, **options):
    network = engine.mixed_precision(strong_regnet(), level, **options)
    logits = network(image_batches(1)[0][0])
    assert logits.dtype == ms.float32
    return logits.asnumpy()


def test_each_precision_computes_something_else():
    ms.set_context(mode=ms.PYNATIVE_MODE)  # nothing to compile; the layers are the same
    found = {
        "O0": outputs("O0"),
        "O1": outputs("O1"),
        "O1 dense": outputs("O1", cast_list=["nn.Dense"]),
        "O2": outputs("O2"),
        "O2 dense": outputs("O2", cast_list=["BatchNorm2d", "Dense"]),
        "auto": outputs("auto"),
    }
    for name, logits in found.items():
        np.testing.assert_allclose(logits, found["O0"], atol=0.02, err_msg=name)
    kinds = {logits.tobytes() for logits in found.values()}
    assert len(kinds) >= 5
    np.testing.assert_array_equal(outputs("O3", keep_bn_fp32=True), found["O2"])
    np.testing.assert_array_equal(outputs("O2", keep_bn_fp32=False), outputs("O3"))
    np.testing.assert_array_equal(outputs("O1", cast_list=["Conv2d", "Dense"]), found["O1"])
    # As in MindCV's own example, some of the layers may be absent.
    absent = ["nn.Conv1d", "nn.Conv2d", "nn.Dense"]
    np.testing.assert_array_equal(outputs("O1", cast_list=absent), found["O1"])


@pytest.mark.parametrize(
    "name, words", [("Convv", "has no layer 'Convv'"), ("LSTM", "the network has no layer LSTM")]
)
def test_a_cast_list_of_unknown_layers_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        engine.mixed_precision(small_regnet(), "O1", [name])


def test_synchronised_layers_keep_names_values_and_output():
    network, plain = small_regnet(), small_regnet()
    assert engine.synchronize_batch_norm(network, 2) == sum(
        isinstance(cell, nn.BatchNorm2d) for _, cell in plain.cells_and_names()
    )
    assert [p.name for p in network.get_parameters()] == [p.name for p in plain.get_parameters()]
    assert_close(weights(network), weights(plain), 0)
    image = image_batches(1)[0][0]
    np.testing.assert_allclose(
        network.set_train(False)(image).asnumpy(), plain.set_train(False)(image).asnumpy(), 1e-5
    )


@pytest.mark.parametrize(
    "val_weights, raw, averaged, best",
    [
        ("both", ["10.0000", "80.0000"], ["90.0000", "20.0000"], 90.0),
        ("averaged", ["", ""], ["10.0000", "90.0000"], 90.0),
        ("raw", ["10.0000", "90.0000"], ["", ""], 90.0),
    ],
)
def test_the_epochs_end_evaluates_what_was_chosen_and_ranks_by_the_average(
    tmp_path, val_weights, raw, averaged, best
):
    network = Dense()
    average = engine.WeightAverage(network, 0.5)
    figures = iter([(1, 10.0), (2, 90.0), (3, 80.0), (4, 20.0)])

    def evaluate():
        loss, top1 = next(figures)
        return engine.Accuracy(images=1, loss=float(loss), top1=top1, top5=None)

    batch = np.ones((4, 12), np.float32), np.zeros(4, np.int32)
    run = engine.Run(
        runtime=RUNTIME,
        network=network,
        step=build(network, average=average),
        batches=types.SimpleNamespace(
            steps=1, listeners=[], epoch=lambda *_: iter([batch]), close=lambda: None
        ),
        progress=engine.Progress(engine.FiniteWatch([0.1] * 2, 1), 4, 1),
        table=engine.MetricsTable(tmp_path / "m.csv", has_average=True),
        division=engine.Division(images=4, batches=1, images_of_epoch=4),
        epochs=2,
        evaluate=evaluate,
        val_weights=val_weights,
        checkpoints=CheckpointWriter(tmp_path, "net", keep=2),
        metadata=Metadata("net", 5),
    )
    engine.train(run, Position())
    with (tmp_path / "m.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_top1"] for row in rows] == raw
    assert [row["ema_val_top1"] for row in rows] == averaged
    assert run.checkpoints.best_score == best
    lines = engine.describe_end(run.table, run.progress, tmp_path)
    whose = "" if val_weights == "raw" else ", averaged weights"
    assert any(line.startswith("done in 0:00:") for line in lines)
    epoch = 1 if val_weights == "both" else 2
    assert f"best top-1 90.000 % in epoch {epoch}{whose}" in lines
