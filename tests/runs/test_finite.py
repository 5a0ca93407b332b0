"""Losses, gradients and weights that are not finite: told by step and files, skipped, not saved."""

import csv
import types
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from conftest import launcher, run_command, write_images
from mindspore import Tensor, nn, ops
from PIL import Image
from test_resume import tensors

from mindcv import create_loss, create_optimizer, engine
from mindcv.checkpoint import CheckpointStore, CheckpointWriter, Position
from mindcv.engine import loop
from mindcv.errors import NonFiniteLossError
from mindcv.ranks import read_records
from mindcv.weights import Metadata

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)
NAN, INF = float("nan"), float("inf")


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4, pad_mode="same")
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Dense(4, 5)
        rng = np.random.default_rng(0)
        for parameter in self.trainable_params():
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape) / 3, ms.float32))

    def construct(self, x):
        return self.fc(ops.relu(self.bn(self.conv(x))).mean((2, 3)))


def build(**options) -> engine.TrainStep:
    network = Net()
    optimizer = create_optimizer(network, "momentum", lr=0.1, weight_decay=1e-2, momentum=0.9)
    average = engine.WeightAverage(network, 0.9)
    return engine.TrainStep(network, create_loss(), optimizer, average=average, **options)


def everything(step) -> dict[str, np.ndarray]:
    parameters = [*step.network.get_parameters(), *step.state, *step.own_state]
    return {parameter.name: parameter.asnumpy().copy() for parameter in parameters}


def batch(seed: int, value: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return a batch one of whose pixels has the value added."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    images[1, 0, 4, 4] += value
    return Tensor(images), Tensor(rng.integers(0, 5, 4), ms.int32)


def changed(before: dict, after: dict) -> list[str]:
    return [name for name in before if before[name].tobytes() != after[name].tobytes()]


def test_a_skipped_step_leaves_everything_as_if_it_had_not_been(mode):
    """Weights, optimizer, averages and running statistics, to the last bit."""
    plain, skipping = build(), build(skip_overflow=True)
    losses = []
    for seed, value in [(1, 0.0), (2, NAN), (3, 0.0), (4, INF), (5, -INF), (6, 0.0)]:
        loss, applied = skipping(*batch(seed, value))
        assert bool(applied.asnumpy()) == (value == 0.0)
        if value == 0.0:
            losses.append((loss.asnumpy(), plain(*batch(seed))[0].asnumpy()))
    assert all(one == other for one, other in losses)
    found, expected = everything(skipping), everything(plain)
    assert changed(expected, found) == []
    assert len(expected) > 15 and np.abs(expected["bn.moving_mean"]).max() > 0


def test_of_an_update_of_two_batches_a_bad_one_spoils_both_and_the_good_ones_statistics_stay():
    step = build(skip_overflow=True, accumulation=2)
    before = everything(step)
    for values in ((NAN, 0.0), (0.0, INF)):
        done = [bool(step(*batch(seed, value))[1].asnumpy()) for seed, value in enumerate(values)]
        assert done == [True, False]
        names = changed(before, everything(step))
        assert all(name.startswith(("accumulated", "bn.moving")) for name in names), names
        assert np.isfinite(everything(step)["bn.moving_mean"]).all()
    assert "bn.moving_mean" in names
    for seed in (1, 2):
        step(*batch(seed))
    after = everything(step)
    assert "fc.weight" in changed(before, after)
    assert all(np.isfinite(values).all() for values in after.values())


def test_a_loss_that_hides_it_does_not_save_the_statistics(mode):
    """A network may turn a NaN into a finite loss behind its normalisation."""
    network = Net()
    network.fc = nn.SequentialCell(Hide(), nn.Dense(4, 5))
    optimizer = create_optimizer(network, "momentum", lr=0.1)
    step = engine.TrainStep(network, create_loss(), optimizer, skip_overflow=True)
    before = everything(step)
    loss, applied = step(*batch(1, NAN))
    assert np.isfinite(loss.asnumpy()) and not bool(applied.asnumpy())
    assert changed(before, everything(step)) == []


class Hide(nn.Cell):
    def construct(self, x):
        return ops.where(ops.isfinite(x), x, ops.zeros_like(x))


STEPS = 4  # of an epoch


def progress_of(rates, log_interval=100, **options) -> engine.Progress:
    return engine.Progress(engine.FiniteWatch(rates, STEPS, **options), 8, log_interval)


def add(progress: engine.Progress, step: int, loss: float, applied: bool = True) -> None:
    """Take a step of the run."""
    at = Position((step - 1) // STEPS + 1, (step - 1) % STEPS + 1)
    progress.add(at, Tensor(loss, ms.float32), Tensor(applied))


def images(epoch: int, step: int) -> list[str]:
    return [f"e{epoch}s{step}i{number}.jpg" for number in range(12)]


def test_a_non_finite_loss_names_step_rate_and_files(log_lines):
    rates = [round(0.1 * step, 1) for step in range(1, 17)]
    progress = progress_of(rates, accumulation=2, images=images)
    progress.begin(Position())
    with pytest.raises(NonFiniteLossError) as told:
        for step in range(1, 9):
            add(progress, step, NAN if step > 5 else 1.0)
    words = str(told.value)
    assert "loss is nan at step 6 (epoch 2, step 2 of 4, update 3), learning rate 0.6" in words
    assert "e1s1i0.jpg, e1s1i1.jpg" in words and "e1s1i9.jpg, … 2 more in the log" in words
    assert "drop_overflow_update True" in words and "e1s1i11.jpg" not in words
    assert "e1s1i11.jpg" in log_lines[-1]


def test_skipped_updates_are_told_and_do_not_use_up_a_rate(log_lines):
    rates = [0.1 * step for step in range(1, 9)]
    progress = progress_of(rates, log_interval=1, max_skipped=2, images=images)
    progress.begin(Position())
    progress.begin_epoch()
    for step, loss, applied in [(1, 2.0, True), (2, INF, False), (3, 1.0, False), (4, 4.0, True)]:
        add(progress, step, loss, applied)
    progress.end_epoch()
    progress.watch.log_skipped()
    assert progress.epoch_loss == pytest.approx((2.0 + 1.0 + 4.0) / 3)
    assert progress.watch.rate == pytest.approx(0.2)  # of the second update that was made
    lines = "\n".join(log_lines)
    assert "loss is inf at step 2 (epoch 1, step 2 of 4, update 2)" in lines
    assert "e0s1i0.jpg" in lines and "gradients overflowed at step 3" in lines
    assert "4/4 loss 4.0000 lr 0.2" in lines and "2 updates skipped" in lines
    assert log_lines[-1].startswith("2 of 8 updates were skipped")


def test_too_many_skipped_in_a_row_end_the_run_also_over_a_resume():
    progress = progress_of([0.1] * 8, log_interval=1, max_skipped=2)
    progress.watch.skipped, progress.watch.in_a_row = 7, 1
    progress.begin(Position(1, 2))
    add(progress, 3, 1.0, applied=False)
    with pytest.raises(NonFiniteLossError, match="3 updates in a row .* max_skipped_steps 2"):
        add(progress, 4, NAN, applied=False)


def test_a_state_that_is_not_finite_is_not_saved_though_its_losses_are(tmp_path):
    """The last update may have spoiled what its loss does not show yet."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    step = build(accumulation=2)
    run = engine.Run(
        runtime=RUNTIME,
        network=step.network,
        step=step,
        batches=types.SimpleNamespace(steps=STEPS),
        progress=progress_of([0.1] * 8, images=images),
        table=engine.MetricsTable(has_average=True),
        division=engine.Division(images=8, batches=2, images_of_epoch=4 * STEPS),
        epochs=2,
        evaluate=lambda: engine.Accuracy(images=1, loss=1.0, top1=99.0, top5=None),
        checkpoints=CheckpointWriter(tmp_path, "net"),
        metadata=Metadata("net", 5),
        save_points=engine.SavePoints(steps=1),
    )
    outputs = Tensor(1.0, ms.float32), Tensor(True)
    loop.after_step(run, Position(1, 1), *outputs)
    run.checkpoints.wait()
    for name in ("fc.weight", "bn.moving_variance", "ema.fc.weight", "moments.fc.weight"):
        own = {one.name: one for one in [*step.network.get_parameters(), *step.state]}
        own |= {one.name: one for one in step.own_state}
        parameter = own[name]
        before = parameter.asnumpy().copy()
        spoiled = before.copy()
        spoiled.flat[1] = NAN
        parameter.set_data(Tensor(spoiled))
        with pytest.raises(NonFiniteLossError, match=f"1 of .* not finite, e.g. {name}, .*step 1 "):
            loop.after_step(run, Position(1, 1), *outputs)
        with pytest.raises(NonFiniteLossError):
            loop.after_epoch(run, 1)
        with pytest.raises(NonFiniteLossError):
            loop.save(run, Position(1, STEPS, is_evaluated=False))
        parameter.set_data(Tensor(before))
    run.checkpoints.wait()
    assert CheckpointStore(tmp_path).names() == [Position(1, 1).name("net")]
    assert not list(tmp_path.glob("*best*"))


# A white image makes the loss NaN.
MODEL = """
from mindspore import nn, ops
from mindcv import register_model

class Fragile(nn.Cell):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4, pad_mode="same")
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Dense(4, num_classes)

    def construct(self, x):
        white = ops.cast(ops.amin(x, (1, 2, 3)) > 2.0, x.dtype).reshape((-1, 1))
        x = ops.relu(self.bn(self.conv(x))).mean((2, 3))
        return self.fc(x) / (1.0 - white)

@register_model
def fragile(num_classes=1000, in_channels=3):
    return Fragile(num_classes)
"""
OPTIONS = dict(
    model="fragile",
    import_module="fragile.py",
    data_dir="images",
    image_resize=32,
    batch_size=4,
    epoch_size=2,
    warmup_epochs=0,
    opt="momentum",
    lr=0.01,
    log_interval=100,
    color_jitter="null",
    shuffle="False",
    ckpt_save_steps=1,
    num_parallel_workers=1,
)


def place_with_a_white_image(root: Path) -> Path:
    """Write 16 images, of which the white one makes the loss of the model beside them infinite."""
    write_images(root / "images/train", 16, 2)
    Image.new("RGB", (40, 40), (255,) * 3).save(root / "images/train/class_1/0003.jpg")
    (root / "fragile.py").write_text(MODEL)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return place_with_a_white_image(tmp_path_factory.mktemp("finite"))


def train(place: Path, folder: str, launched_by=None, **options):
    options = OPTIONS | {"ckpt_save_dir": folder, "log_samples": f"{folder}.csv"} | options
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    return run_command("train.py", *words, cwd=place, launcher=launched_by)


def assert_same_bits(folder: Path, whole: Path) -> None:
    found, expected = tensors(folder), tensors(whole)
    assert set(found) == set(expected) and len(expected) > 20
    assert [name for name in expected if found[name].tobytes() != expected[name].tobytes()] == []
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_run_ends_with_3_and_its_last_finite_checkpoint_goes_on_by_skipping(place):
    whole = train(place, "whole", drop_overflow_update=True)
    assert whole.returncode == 0, whole.stderr
    ended = train(place, "ended")
    assert ended.returncode == 3, ended.stderr
    words = ended.stderr.strip().splitlines()[-1]
    assert "loss is nan at step 3 (epoch 1, step 3 of 4, update 3), learning rate 0.008" in words
    assert "images/train/class_1/0003.jpg" in words
    newest, problems = CheckpointStore(place / "ended").newest()
    assert newest.path.name == "fragile-1_2.json" and not problems
    done = train(place, "ended", resume="auto", drop_overflow_update=True, max_skipped_steps=1)
    assert done.returncode == 0, done.stderr
    assert_same_bits(place / "ended", place / "whole")
    assert (place / "ended.csv").read_bytes() == (place / "whole.csv").read_bytes()
    with (place / "ended/metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["skipped"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(row["train_loss"])) for row in rows)
    log = (place / "ended/train.log").read_text(encoding="utf-8")
    assert "2 of 8 updates were skipped" in log and log.count("the update is skipped") == 2


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_two_ranks_skip_together_and_each_tells_its_own_files(place):
    """The white image is in a batch of rank 0."""
    options = dict(distribute=True, batch_size=2)
    ended = train(place, "two", launcher(2), **options)
    assert ended.returncode != 0
    records = read_records(place / "two")
    assert len(records) == 2
    own = [one for one in records if one.ending is not None and one.ending.of_rank is None]
    assert own, "the first to notice ends by itself, the other one too if it was quick enough"
    for record in own:
        cause, log = record.ending.cause, (place / f"worker_{record.rank}.log").read_text()
        assert record.ending.exit_code == 3 and cause in log
        assert "loss is nan at step 3" in cause
        assert ("class_1/0003.jpg" in cause) == (record.rank == 0)
    options |= dict(drop_overflow_update=True)
    done = train(place, "two", launcher(2), resume="auto", **options)
    assert done.returncode == 0, (place / "worker_0.log").read_text()
    whole = train(place, "two_whole", launcher(2), **options)
    assert whole.returncode == 0
    assert_same_bits(place / "two", place / "two_whole")
    assert "2 of 8 updates were skipped" in (place / "two/train.log").read_text(encoding="utf-8")
