"""The training step, the evaluation and what watches a run, without a command around them."""

import types

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindcv import create_loss, create_optimizer, engine
from mindcv.checkpoint import CheckpointWriter, Position
from mindcv.errors import DataError, NonFiniteLossError, WeightsError
from mindcv.models import RegNet
from mindcv.weights import Metadata

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)
NET = Metadata("net", num_classes=6)


@pytest.fixture(autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def small_regnet(num_classes=6, **kwargs):
    ms.set_seed(3)
    return RegNet(8, 8, 2.0, 3, 8, num_classes=num_classes, **kwargs)


def batches(count=5, size=8, classes=6):
    rng = np.random.default_rng(0)
    return [
        (
            Tensor(rng.standard_normal((size, 3, 32, 32)), ms.float32),
            Tensor(rng.integers(0, classes, size), ms.int32),
        )
        for _ in range(count)
    ]


def train(network=None, amp_level="O0", lr=0.05, **options):
    network = network or small_regnet()
    optimizer = create_optimizer(network, "momentum", lr=lr, weight_decay=1e-4)
    mixed = ms.amp.auto_mixed_precision(network, amp_level)
    step = engine.TrainStep(mixed, create_loss(label_smoothing=0.1), optimizer, **options)
    losses = [float(step(*batch)[0].asnumpy()) for batch in batches()]
    return losses, network, step


@pytest.fixture(scope="module")
def plain():
    """Losses and weights of a training without further options, in graph mode."""
    ms.set_context(mode=ms.GRAPH_MODE)
    losses, network, _ = train()
    return losses, weights(network)


def weights(network):
    return {name: value.asnumpy().copy() for name, value in network.parameters_dict().items()}


def test_the_step_equals_mindspores_own_to_the_last_bit(plain):
    reference = small_regnet()
    optimizer = create_optimizer(reference, "momentum", lr=0.05, weight_decay=1e-4)
    loss_cell = nn.WithLossCell(reference, create_loss(label_smoothing=0.1))
    own = nn.TrainOneStepCell(loss_cell, optimizer).set_train()
    expected = [float(own(*batch).asnumpy()) for batch in batches()]
    losses, ours = plain
    assert losses == expected
    theirs = weights(reference)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_graph_and_pynative_mode_give_the_same_losses(plain):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    pynative, _, _ = train()
    np.testing.assert_allclose(plain[0], pynative, rtol=1e-6)


@pytest.mark.parametrize("amp_level", ["O2", "O3"])
def test_float16_levels_follow_the_float32_losses(plain, amp_level):
    full, _ = plain
    half, network, _ = train(amp_level=amp_level, loss_scale=128.0)
    assert half != full  # float16 was really used
    np.testing.assert_allclose(half, full, rtol=2e-2)
    assert all(value.dtype == np.float32 for value in weights(network).values())


def test_a_power_of_two_loss_scale_changes_nothing_in_float32(plain):
    assert train(loss_scale=128.0)[0] == train(dynamic=True)[0] == plain[0]


def overflowing_step(**options):
    """Float16 gradients of a loss scaled by 2**24 exceed float16's range."""
    network = small_regnet()
    optimizer = create_optimizer(network, "momentum", lr=0.05)
    mixed = ms.amp.auto_mixed_precision(network, "O2")
    step = engine.TrainStep(mixed, create_loss(), optimizer, loss_scale=2.0**24, **options)
    return network, step


def trained(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.trainable_params()}


def test_a_dynamic_scale_skips_overflowing_steps_and_recovers():
    network, step = overflowing_step(dynamic=True)
    before, batch = trained(network), batches(1)[0]
    loss, applied = step(*batch)
    assert np.isfinite(loss.asnumpy()) and not bool(applied.asnumpy())
    for name, value in trained(network).items():
        np.testing.assert_array_equal(before[name], value, err_msg=name)
    assert float(step.scaler.scale_value.asnumpy()) == 2.0**23
    skipped = [not bool(step(*batch)[1].asnumpy()) for _ in range(20)]
    assert skipped == sorted(skipped, reverse=True) and not skipped[-1]
    after = trained(network)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any(not np.array_equal(before[name], value) for name, value in after.items())


def test_a_fixed_scale_may_skip_overflows_too():
    network, step = overflowing_step(skip_overflow=True)
    before = trained(network)
    for _ in range(2):
        assert not bool(step(*batches(1)[0])[1].asnumpy())
    for name, value in trained(network).items():
        np.testing.assert_array_equal(before[name], value, err_msg=name)


class Lookup(nn.Cell):
    """Return logits that the image itself carries: the first classes' values of its first row."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def construct(self, image):
        return image[:, 0, 0, : self.num_classes]


def evaluation_case(count, classes, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, 1, 1, 16)).astype(np.float32)
    labels = rng.integers(0, classes, count).astype(np.int32)
    logits = images[:, 0, 0, :classes].astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    order = np.argsort(-logits, 1)
    return (
        images,
        labels,
        {
            "loss": -log_softmax[np.arange(count), labels].mean(),
            "top1": 100 * (order[:, 0] == labels).mean(),
            "top5": 100 * (order[:, :5] == labels[:, None]).any(1).mean(),
        },
    )


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 45])
def test_every_image_counts_exactly_once(count):
    images, labels, expected = evaluation_case(count, 10)
    loader = ds.NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False).batch(8)
    step = engine.EvaluationStep(Lookup(10), 10)
    accuracy = engine.evaluate(step, loader, 8, RUNTIME)
    assert accuracy.images == count
    assert accuracy.top1 == pytest.approx(expected["top1"], abs=1e-9)
    assert accuracy.top5 == pytest.approx(expected["top5"], abs=1e-9)
    assert accuracy.loss == pytest.approx(expected["loss"], rel=1e-6)
    assert len(step.compile_cache) == 1  # the partial batch needs no second graph


def test_top5_needs_five_classes():
    images, labels, expected = evaluation_case(9, 4)
    loader = ds.NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False).batch(8)
    accuracy = engine.evaluate(engine.EvaluationStep(Lookup(4), 4), loader, 8, RUNTIME)
    assert accuracy.top5 is None and list(accuracy.as_dict()) == ["Top_1_Accuracy", "loss"]
    assert accuracy.top1 == pytest.approx(expected["top1"])


def test_the_figures_under_mindcvs_names_are_its_fractions():
    """MindCV reports 40,412 hits among 50,000 images as 0.80824."""
    figures = engine.Accuracy(50_000, 0.5, 100 * 40_412 / 50_000, 100 * 47_656 / 50_000).as_dict()
    assert figures == {"Top_1_Accuracy": 0.80824, "Top_5_Accuracy": 0.95312, "loss": 0.5}
    assert engine.Accuracy(3, 0.5, 100 / 3, None).as_dict()["Top_1_Accuracy"] == 1 / 3


def test_the_parts_of_all_processes_add_up():
    """Two processes with 6 and 5 images: sums, not a mean of means."""
    images, labels, expected = evaluation_case(11, 10)
    step = engine.EvaluationStep(Lookup(10), 10)
    sums = []
    recorder = types.SimpleNamespace(sum_over_ranks=lambda v: sums.append(v.copy()) or v)
    for rank in range(2):
        part = (images[rank::2], labels[rank::2])
        loader = ds.NumpySlicesDataset(part, ["image", "label"], shuffle=False).batch(4)
        engine.evaluate(step, loader, 4, recorder)
    everything = types.SimpleNamespace(sum_over_ranks=lambda v: v + sums[0] + sums[1])
    accuracy = engine.evaluate(step, None, 4, everything)  # a third process without an image
    assert accuracy.images == 11
    assert accuracy.top1 == pytest.approx(expected["top1"])
    assert accuracy.loss == pytest.approx(expected["loss"], rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_leaves_no_accuracy_in_any_process(value):
    """The image of the second process; class 0, which argmax answers to NaN, is its label."""
    images, labels, _ = evaluation_case(11, 10)
    images[7, 0, 0, 3], labels[7] = value, 0
    step = engine.EvaluationStep(Lookup(10), 10)
    sums = []
    recorder = types.SimpleNamespace(sum_over_ranks=lambda v: sums.append(v.copy()) or v)
    for rank in range(2):
        part = (images[rank::2], labels[rank::2])
        loader = ds.NumpySlicesDataset(part, ["image", "label"], shuffle=False).batch(4)
        if rank == 0:
            engine.evaluate(step, loader, 4, recorder)
        else:
            with pytest.raises(NonFiniteLossError, match="for 1 of 5 validation images"):
                engine.evaluate(step, loader, 4, recorder)
    everything = types.SimpleNamespace(sum_over_ranks=lambda v: v + sums[0] + sums[1])
    with pytest.raises(NonFiniteLossError, match="for 1 of 11 validation images"):
        engine.evaluate(step, None, 4, everything)
    labels[7] = -1  # a bad image that is left out
    loader = ds.NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False).batch(8)
    assert engine.evaluate(step, loader, 8, RUNTIME).images == 10


def test_no_image_and_wrong_labels_are_errors():
    step = engine.EvaluationStep(Lookup(4), 4)
    with pytest.raises(DataError, match="no image"):
        engine.evaluate(step, None, 8, RUNTIME)
    images, labels, _ = evaluation_case(9, 10, seed=1)
    loader = ds.NumpySlicesDataset((images, labels), ["image", "label"], shuffle=False).batch(8)
    with pytest.raises(DataError, match="outside the 4 classes"):
        engine.evaluate(step, loader, 8, RUNTIME)


def save(writer, epoch: int, score: float | None = None) -> None:
    """Save a checkpoint with the score as its only weight."""
    weight = np.full((2, 2), score or 0.0, np.float32)
    files = engine.Snapshot({"weight": weight}, {}, {}).files(NET)
    writer.save(Position(epoch, 7), files, {}, score=score)


def test_latest_checkpoints_are_kept_and_the_best_beside_them(tmp_path):
    writer = CheckpointWriter(tmp_path, "net", "latest_k", 2)
    for epoch, score in enumerate([10.0, 40.0, 30.0], 1):
        save(writer, epoch, score)
    writer.wait()
    names = sorted(path.stem for path in tmp_path.glob("*.ckpt"))
    assert names == ["net-2_7", "net-3_7", "net_best"]
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == names
    assert ms.load_checkpoint(str(tmp_path / "net_best.ckpt"))["weight"].asnumpy()[0, 0] == 40.0


@pytest.mark.parametrize("policy", ["latest_k", "top_k"])
def test_policies_and_the_best_survive_a_resumed_run(tmp_path, policy):
    """The scores of 5 epochs, by one process and by one that is replaced after each."""
    scores = [10.0, 40.0, 30.0, 20.0, 35.0]
    folders = ("one", "five")
    for folder, is_resumed in zip(folders, (False, True)):
        (tmp_path / folder).mkdir()
        writer = CheckpointWriter(tmp_path / folder, "net", policy, 2)
        for epoch, score in enumerate(scores, 1):
            if is_resumed and epoch > 1:
                manifest = writer.store.newest()[0]
                writer = CheckpointWriter(tmp_path / folder, "net", policy, 2)
                writer.resume(manifest)
            save(writer, epoch, score)
            writer.wait()
    one, five = (
        {p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("one", "five")
    )
    assert one == five
    kept = {"latest_k": {"net-4_7.ckpt", "net-5_7.ckpt"}, "top_k": {"net-2_7.ckpt", "net-5_7.ckpt"}}
    assert kept[policy] < set(one)


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_harms_none(tmp_path):
    writer = CheckpointWriter(tmp_path / "gone", "net")
    (tmp_path / "gone").write_text("a file where the folder should be")
    save(writer, 1)
    with pytest.raises(WeightsError, match="net-1_7.ckpt cannot be written: Not a directory"):
        writer.wait()
