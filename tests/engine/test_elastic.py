"""A run saved on some ranks continues on others with the same updates, or is refused with why."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindcv import create_loss, create_optimizer, engine
from mindcv.checkpoint import CheckpointStore, CheckpointWriter, Position
from mindcv.config import Config, continue_config, describe_config
from mindcv.data.order import sample_order, steps_of_epoch
from mindcv.engine import loop, resume
from mindcv.engine.elastic import Division, losses_on, position_on, rows_on, state_on
from mindcv.errors import ConfigError, Interrupted
from mindcv.weights import Metadata

IMAGES = 1000  # an epoch of 62 updates of 16 and a rest of 8
CONFIG = Config(model="net", batch_size=2)


def batches_of(ranks: int, batch_size: int = 2, epoch: int = 3, **sampling) -> np.ndarray:
    """Return the indices of an epoch's whole batches, (step, rank, batch_size)."""
    steps = steps_of_epoch(IMAGES, ranks, batch_size, True)
    shards = [
        sample_order(IMAGES, 42, epoch, True, None, ranks, rank, batch_size=batch_size, **sampling)
        for rank in range(ranks)
    ]
    return np.stack([own[: steps * batch_size].reshape(steps, batch_size) for own in shards], 1)


def record_of(config: Config, ranks: int, batches: int = 1, steps: int = 0) -> dict:
    update = {"images": ranks * config.batch_size * batches, "batches": batches}
    return {
        "config": describe_config(config),
        "runtime": {"world_size": ranks},
        "update": {**update, "images_of_epoch": IMAGES // 16 * 16},
        "epoch": 1,
        "steps": steps,
    }


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_the_batches_of_an_epoch_are_the_same_on_any_number_of_ranks(ranks):
    alone = sample_order(IMAGES, 42, 3, True)
    found = batches_of(ranks).reshape(-1)
    np.testing.assert_array_equal(found, alone[: len(found)])
    # What fills no batch of every rank is still read once where nothing is dropped.
    shards = [sample_order(IMAGES, 42, 3, True, None, ranks, r, batch_size=7) for r in range(ranks)]
    assert len({len(own) for own in shards}) == 1
    assert set(np.concatenate(shards)) == set(range(IMAGES))


def test_8_ranks_become_4_then_2_then_8_within_an_epoch_and_read_each_image_once():
    """Each time the command is the same; the steps follow from where the ranks before stopped."""
    read, order = [], sample_order(IMAGES, 42, 3, True)
    at, ranks_before, before = Position(4, 0), 8, 1
    for ranks, updates in ((8, 10), (4, 11), (2, 1), (8, 40)):
        record = record_of(CONFIG, ranks_before, before, at.step)
        batches = continue_config("net", record, CONFIG, ranks).gradient_accumulation_steps
        assert ranks * batches == 8
        at = position_on(at, before, batches)
        whole = batches_of(ranks)
        assert len(whole) // batches == IMAGES // 16
        end = at.step + updates * batches
        read.append(whole[at.step : end].ravel())
        at, ranks_before, before = replace(at, step=end), ranks, batches
    np.testing.assert_array_equal(np.concatenate(read), order[: 62 * 16])


def test_ranks_that_cannot_keep_an_update_are_refused_with_those_that_can():
    config = Config(model="net", batch_size=64)
    with pytest.raises(ConfigError) as told:
        continue_config("run/net-3_4.json", record_of(config, 8), config, 3)
    assert str(told.value) == (
        "resume: run/net-3_4.json is of a run of 8 ranks with 512 images an update, which 3 ranks "
        "with batch_size 64 cannot keep; possible (ranks x batch_size x "
        "gradient_accumulation_steps): 2 x 64 x 4, 4 x 64 x 2, 1 x 64 x 8, 8 x 64 x 1"
    )
    with pytest.raises(ConfigError, match="possible .*: 16 x 32 x 1, 16 x 16 x 2, 16 x 8 x 4, "):
        continue_config("net", record_of(config, 8), config, 16)
    smaller = continue_config("net", record_of(config, 8), replace(config, batch_size=16), 16)
    assert (smaller.batch_size, smaller.gradient_accumulation_steps) == (16, 2)
    with pytest.raises(ConfigError, match="none with batch_size 64 or less"):
        continue_config("net", record_of(replace(config, batch_size=7), 1), config, 3)


def test_the_option_stays_as_it_was_or_says_what_follows():
    record = record_of(CONFIG, 8)
    for given, ranks in ((1, 4), (2, 4), (1, 8)):
        asked = replace(CONFIG, gradient_accumulation_steps=given)
        assert (
            continue_config("net", record, asked, ranks).gradient_accumulation_steps == 8 // ranks
        )
    for given, ranks in ((4, 4), (2, 8)):
        with pytest.raises(ConfigError, match=f"gradient_accumulation_steps: 1 -> {given}"):
            asked = replace(CONFIG, gradient_accumulation_steps=given)
            continue_config("net", record, asked, ranks)
    with pytest.raises(ConfigError, match="batch_size: 2 -> 4"):  # on as many ranks
        continue_config("net", record, replace(CONFIG, batch_size=4), 8)
    with pytest.raises(ConfigError, match="lr: "):
        continue_config("net", record, replace(CONFIG, lr=0.7), 4)
    # Again on 4 ranks, after a run there: the command line still has no such option.
    record = record_of(CONFIG, 4, batches=2)
    assert continue_config("net", record, CONFIG, 4).gradient_accumulation_steps == 2


def test_within_an_update_only_ranks_that_divide_it_may_begin():
    record = record_of(CONFIG, 2, batches=4, steps=9)
    assert continue_config("net", record, CONFIG, 1).gradient_accumulation_steps == 8
    with pytest.raises(ConfigError, match="after 1 of the 4 batches of an update, where 8 ranks"):
        continue_config("net", record, CONFIG, 8)


def test_a_checkpoint_of_an_earlier_version_stays_on_its_ranks():
    record = record_of(CONFIG, 2)
    del record["update"]
    assert continue_config("net", record, CONFIG, 2) == CONFIG
    with pytest.raises(ConfigError, match="resume on 2 ranks until the next checkpoint"):
        continue_config("net", record, CONFIG, 1)


def test_an_earlier_version_that_counted_other_steps_in_an_epoch_is_refused():
    """1001 images of 2 ranks in batches of 167: 501 images a rank made 3 steps, now 2 are whole."""
    steps = steps_of_epoch(1001, 2, 167, True)
    assert (steps, -(-1001 // 2) // 167) == (2, 3)

    def check(step, is_midway):
        record = {"is_midway": is_midway}
        resume._check_steps(SimpleNamespace(path="c", position=Position(1, step), record=record), 2)

    check(2, False), check(1, True)
    for step, is_midway in ((3, False), (3, True), (1, False)):
        with pytest.raises(ConfigError, match=f"is of step {step} of an epoch of 2 now"):
            check(step, is_midway)


def test_an_epoch_whose_last_update_is_smaller_stays_on_its_ranks():
    whole = Division(images=16, batches=1, images_of_epoch=IMAGES // 16 * 16)
    replace(whole, batches=2).check_follows(whole)
    for other in (replace(whole, images_of_epoch=IMAGES), replace(whole, images_of_epoch=960)):
        with pytest.raises(ConfigError, match="resume on as many ranks as before"):
            replace(whole, batches=2).check_follows(other)


def test_losses_and_rows_keep_their_means_and_places():
    losses = np.random.default_rng(0).random(6).astype(np.float32)
    np.testing.assert_array_equal(losses_on(losses, 1, 3), np.repeat(losses, 3))
    np.testing.assert_array_equal(losses_on(losses_on(losses, 1, 3), 3, 1), losses)
    np.testing.assert_allclose(losses_on(losses, 3, 2).mean(), losses.mean(), rtol=1e-6)
    rows = [["1", "6", "0.5"], ["2", "12", "0.25"]]
    assert rows_on(rows, 1, 2) == [["1", "12", "0.5"], ["2", "24", "0.25"]]
    assert rows_on(rows_on(rows, 1, 2), 2, 1) == rows


def test_checkpoints_within_an_epoch_whose_steps_are_others_make_room(tmp_path):
    """One rank saved after its steps 6, 9 and 12; of two ranks these are 3, none and 6."""

    def save(writer, at, is_midway=True):
        content = {suffix: lambda file: file.write(b"") for suffix in (".ckpt", ".state.npz")}
        writer.save(at, content, {}, is_midway=is_midway)
        writer.wait()
        return writer.store.names()

    alone = CheckpointWriter(tmp_path, "net")
    save(alone, Position(1, 20), is_midway=False)
    for step in (6, 9, 12):
        names = save(alone, Position(2, step))
    assert names == ["net-2_12", "net-2_9", "net-1_20"]
    two = CheckpointWriter(tmp_path, "net")
    two.resume(alone.store.verify("net-2_12"), counts_anew=True)
    assert save(two, Position(2, 6)) == ["net-2_6", "net-1_20"]
    assert save(two, Position(2, 9)) == ["net-2_9", "net-2_6", "net-1_20"]


def test_a_signal_is_obeyed_between_two_updates(monkeypatch):
    """So that any ranks that keep the update can continue from what is saved then."""
    saved, runtime = [], engine.Runtime("CPU", 1, "O1", 0, 1)
    monkeypatch.setattr(loop, "save", lambda run, at: saved.append(at.step))
    run = engine.Run(
        runtime=runtime,
        network=nn.Cell(),
        step=SimpleNamespace(state=[], own_state=[], accumulation=3),
        batches=SimpleNamespace(steps=12),
        progress=SimpleNamespace(add=lambda *outputs: None),
        table=engine.MetricsTable(),
        division=Division(images=12, batches=3, images_of_epoch=48),
        epochs=1,
        save_points=engine.SavePoints(steps=4),
        stop=SimpleNamespace(received=signal.SIGTERM),
    )
    for step in (1, 2, 4):  # ckpt_save_steps is obeyed where it says
        loop.after_step(run, Position(1, step), None, None)
    with pytest.raises(Interrupted, match="after step 6 of epoch 1"):
        loop.after_step(run, Position(1, 6), None, None)
    assert saved == [4, 6]


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(12, 5)
        for parameter in self.get_parameters():
            values = np.random.default_rng(0).standard_normal(parameter.shape)
            parameter.set_data(Tensor(values / 3, ms.float32))

    def construct(self, x):
        return self.dense(ops.tanh(x))


def step_of(batches: int) -> engine.TrainStep:
    network = Net()
    optimizer = create_optimizer(network, "momentum", lr=0.1, momentum=0.9)
    return engine.TrainStep(network, create_loss(), optimizer, accumulation=batches)


def state_of(step: engine.TrainStep) -> dict:
    return {one.name: one for one in (*step.network.get_parameters(), *step.own_state)}


def test_an_update_begun_in_batches_of_2_ends_in_batches_of_1(pynative_mode):
    """As on one rank with half the images of a batch, or on half the ranks."""
    rng = np.random.default_rng(1)
    images, labels = rng.standard_normal((8, 12)), rng.integers(0, 5, 8)
    x, y = Tensor(images, ms.float32), Tensor(labels, ms.int32)
    large, small, whole = step_of(4), step_of(8), step_of(1)
    whole(x, y)
    for start in (0, 2):
        large(x[start : start + 2], y[start : start + 2])
    begun = {name: one.asnumpy() for name, one in state_of(large).items()}
    carried = state_on(begun, state_of(small), 4, 8)
    assert set(carried) == set(begun) and carried["accumulated_batches"] == 4
    for name, parameter in state_of(small).items():
        parameter.set_data(Tensor(carried[name], parameter.dtype))
    for start in range(4, 8):
        small(x[start : start + 1], y[start : start + 1])
    expected = state_of(whole)
    found = state_of(small)
    np.testing.assert_allclose(
        found["dense.weight"].asnumpy(), expected["dense.weight"].asnumpy(), atol=1e-6
    )
    # Between two updates the sums may come and go with the accumulation.
    done = {name: one.asnumpy() for name, one in found.items()}
    assert set(state_on(done, expected, 8, 1)) == set(expected)
    again = state_on({name: one.asnumpy() for name, one in expected.items()}, found, 1, 8)
    assert {name: values.shape for name, values in again.items()} == {
        name: tuple(one.shape) for name, one in found.items()
    }


def test_per_rank_statistics_continue_as_their_mean_on_other_ranks(tmp_path, pynative_mode):
    network = nn.SequentialCell(nn.BatchNorm2d(3), nn.Flatten(), nn.Dense(3, 2))
    optimizer = create_optimizer(network, "momentum", lr=0.1)
    step = engine.TrainStep(network, create_loss(), optimizer)
    own = {one.name: one.asnumpy() for one in network.get_parameters()}
    statistics = [name for name in own if name.endswith(("moving_mean", "moving_variance"))]
    ranks = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    watch = SimpleNamespace(skipped=0, in_a_row=0, check=lambda tensors: None)
    progress = SimpleNamespace(watch=watch, take_losses=lambda: [], restore=lambda losses: None)
    table = engine.MetricsTable()

    def run_state(world_size, rank):
        runtime = engine.Runtime("CPU", 1, "O1", rank, world_size)
        return engine.RunState(network, step, progress=progress, table=table, runtime=runtime)

    snapshot = run_state(1, 0).capture(within_epoch=True)
    state = {**snapshot.state, **{f"of ranks: {name}": ranks for name in statistics}}
    record = record_of(CONFIG, 4) | snapshot.figures
    files = replace(snapshot, state=state).files(Metadata("net", 2))
    writers = {f"net-1_2{suffix}": writer for suffix, writer in files.items()}
    manifest = CheckpointStore(tmp_path).save("net-1_2", writers, record)
    for world_size, rank, expected in ((4, 2, ranks[2]), (2, 1, ranks.mean(0)), (1, 0, None)):
        run_state(world_size, rank).restore(manifest)
        expected = ranks.mean(0) if expected is None else expected
        for name in statistics:
            found = {one.name: one.asnumpy() for one in network.get_parameters()}[name]
            np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)
