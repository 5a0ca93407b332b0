"""Ranks with other options, data or bits are named; all stop and save after the same step."""

import copy
import signal
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mindspore import nn

from mindcv import engine
from mindcv.checkpoint import Position
from mindcv.config import Config, describe_config
from mindcv.engine import agreement, check_equal_ranks, loop
from mindcv.engine.agreement import Agreement, check_equal_states
from mindcv.engine.state import Snapshot
from mindcv.engine.update import STATISTICS
from mindcv.errors import ConfigError, DataError, WeightsError
from mindcv.process.clock import Clock
from mindcv.process.signals import StopSignal


class Together:
    """Stands for `Runtime` on several ranks: threads that gather what all of them give."""

    def __init__(self, world_size: int, device_target: str = "CPU"):
        self.world_size, self.given = world_size, [None] * world_size
        self.device_target = device_target
        self.barrier = threading.Barrier(world_size, timeout=20)

    def of(self, rank: int):
        runtime = copy.copy(self)
        runtime.rank, runtime.is_main = rank, rank == 0
        return runtime

    def sum_over_ranks(self, values):
        return self.gather(values).sum(0)

    def gather(self, values):
        values = np.array(values, np.float32)
        assert values.ndim == 1
        self.given[self.rank] = values
        self.barrier.wait()
        found = np.stack(self.given)
        self.barrier.wait()
        return found


def on_ranks(check, arguments, device_target: str = "CPU") -> list[Exception | None]:
    """Call a check once a rank, with arguments of its own; return what each raised."""
    together = Together(len(arguments), device_target)

    def call(rank):
        try:
            return check(together.of(rank), *arguments[rank])
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(call, range(len(arguments))))


def snapshot() -> Snapshot:
    rng = np.random.default_rng(0)
    weights = {"fc.weight": rng.random((3, 4), np.float32), "bn.moving_mean": np.ones(3)}
    state = {"momentum.fc.weight": rng.random((3, 4)).astype(np.float16), "step": np.int32(7)}
    return Snapshot(weights, state, {})


def test_equal_states_pass():
    assert on_ranks(check_equal_states, [(snapshot(),)] * 3) == [None] * 3


@pytest.mark.parametrize("part, name", [("weights", "fc.weight"), ("state", "momentum.fc.weight")])
def test_every_single_bit_that_differs_is_found(part, name):
    """In weights and in the optimizer's state; all ranks raise the same."""
    size = getattr(snapshot(), part)[name].nbytes * 8
    for bit in range(size):
        odd = snapshot()
        getattr(odd, part)[name].view(np.uint8).reshape(-1)[bit // 8] ^= 1 << bit % 8
        found = on_ranks(check_equal_states, [(snapshot(),), (odd,)])
        assert all(isinstance(error, WeightsError) for error in found)
        assert str(found[0]) == str(found[1])
        assert f"rank 0 and rank 1 differ; 1 of 4 tensors, the first of them {name}." in str(
            found[0]
        )


def test_the_one_of_many_that_differs_is_named():
    odd = snapshot()
    odd.state["step"] = np.int32(8)
    found = on_ranks(check_equal_states, [(snapshot(),), (snapshot(),), (odd,), (snapshot(),)])
    for error in found:
        assert "rank 2 differs from the 3 others" in str(error) and error.exit_code == 5


def changed(part: str, name: str, change) -> Snapshot:
    """Return the snapshot with one array changed."""
    odd = snapshot()
    getattr(odd, part)[name] = change(getattr(odd, part)[name])
    return odd


@pytest.mark.parametrize(
    "part, name, change",
    [
        ("weights", "fc.weight", lambda values: values * np.float32(1 + 2e-7)),
        ("weights", "fc.weight", lambda values: values + np.float32(9e-4) * values.max()),
        ("state", "momentum.fc.weight", lambda values: values * 2),  # shows in the weights next
    ],
)
def test_on_ascend_the_order_of_a_sum_is_a_warning_that_names_the_remedy(
    part, name, change, log_lines
):
    states = [(snapshot(),), (changed(part, name, change),), (snapshot(),)]
    assert on_ranks(check_equal_states, states, "Ascend") == [None] * 3
    (line,) = log_lines  # rank 0's
    assert "HCCL_DETERMINISTIC=true" in line and "1 of 4 tensors" in line
    log_lines.clear()
    assert None not in on_ranks(check_equal_states, states, "CPU") and not log_lines


def flipped(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.view(np.uint32).flat[5] ^= 1 << 30  # the highest bit of the exponent
    return values


@pytest.mark.parametrize(
    "part, name, change, what",
    [
        ("weights", "fc.weight", lambda values: values * np.float32(1.002), "by 2.0e-03 of its"),
        ("weights", "fc.weight", lambda values: -values, "by 2.0e[+]00 of its largest value"),
        ("weights", "fc.weight", flipped, "rank 2 differs from rank 0 in fc.weight by"),
        ("weights", "fc.weight", lambda values: values * np.nan, "rank 2 .* fc.weight by nan"),
        ("state", "step", lambda value: value + 1, "step, which holds whole numbers"),
    ],
)
def test_on_ascend_what_no_rounding_explains_is_an_error_on_all_ranks(
    part, name, change, what, log_lines
):
    states = [(snapshot(),), (snapshot(),), (changed(part, name, change),)]
    for error in on_ranks(check_equal_states, states, "Ascend"):
        with pytest.raises(WeightsError, match=what):
            raise error
    assert not log_lines


def test_on_ascend_large_states_are_compared_part_by_part(monkeypatch):
    monkeypatch.setattr(agreement, "_CHUNK", 5)
    odd = changed("weights", "bn.moving_mean", lambda values: values * 1.01)
    odd.weights["fc.weight"][0, 0] *= np.float32(1 + 1e-6)
    for error in on_ranks(check_equal_states, [(snapshot(),), (odd,)], "Ascend"):
        assert "rank 1 differs from rank 0 in bn.moving_mean by 1.0e-02" in str(error)


def test_nan_of_equal_bits_is_equal_and_minus_zero_is_not_zero():
    both = snapshot()
    both.weights["fc.weight"][0, 0] = np.nan
    assert on_ranks(check_equal_states, [(both,), (both,)]) == [None, None]
    plus, minus = snapshot(), snapshot()
    plus.weights["fc.weight"][0, 0], minus.weights["fc.weight"][0, 0] = 0.0, -0.0
    assert None not in on_ranks(check_equal_states, [(plus,), (minus,)])


def test_statistics_may_differ_amid_an_epoch_only():
    odd = snapshot()
    odd.weights["bn.moving_mean"][0] = 2.0
    assert on_ranks(check_equal_states, [(snapshot(), STATISTICS), (odd, STATISTICS)]) == [None] * 2
    assert "bn.moving_mean" in str(on_ranks(check_equal_states, [(snapshot(),), (odd,)])[0])


def facts(**changes):
    """Return the arguments of `check_equal_ranks` but for the runtime."""
    options = describe_config(Config(**changes.pop("options", {})))
    described = {
        "runtime": {"world_size": 2, "device_target": "CPU", "mode": 0, "jit_level": "O1"},
        "versions": {"mindcv": "0.1", "mindspore": "2.10.0"},
        "workers": 2,
        "data": {"class_names": ["cat", "dog"], "images_of_classes": [4, 4], "fingerprint": "a"},
    }
    for part, values in changes.items():
        described[part] = {**described[part], **values}
    return options, described, None


def test_hosts_may_differ_in_where_things_lie():
    other = facts(options={"data_dir": "/mnt/images", "ckpt_save_dir": "/tmp/x", "debug": True})
    assert on_ranks(check_equal_ranks, [facts(), other]) == [None, None]


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"options": {"lr": 0.5}}, ConfigError, "option lr is 0.5 for rank 2 on .*, and 0.001 for"),
        ({"options": {"ckpt_save_steps": 3}}, ConfigError, "option ckpt_save_steps is 3 for rank"),
        ({"versions": {"mindspore": "2.7.0"}}, ConfigError, "version of mindspore is 2.7.0 for"),
        ({"runtime": {"mode": 1}}, ConfigError, "mode is 1 for rank 2"),
        ({"data": {"fingerprint": "b"}}, DataError, "dataset's fingerprint is b for rank 2"),
        ({"data": {"class_names": ["cat"]}}, DataError, "dataset's class_names of rank 2 on .* is"),
    ],
)
def test_a_host_with_another_option_version_or_dataset_is_named(changes, error, message):
    found = on_ranks(check_equal_ranks, [facts(), facts(), facts(**changes)])
    for one in found:
        assert isinstance(one, error)
        with pytest.raises(error, match=message):
            raise one


def test_a_host_with_other_code_is_named(tmp_path):
    paths = [tmp_path / "a.py", tmp_path / "b.py", tmp_path / "c.py"]
    for path, text in zip(paths, ("x = 1", "x = 1", "x = 2")):
        path.write_text(text)
    options, described, _ = facts()
    same = [(options, described, str(path)) for path in paths[:2]]
    assert on_ranks(check_equal_ranks, same) == [None, None]
    other = [(options, described, str(path)) for path in paths[1:]]
    for error in on_ranks(check_equal_ranks, other):
        assert isinstance(error, ConfigError) and "code of import_module is " in str(error)


def test_one_process_is_compared_with_nobody():
    alone = Together(1).of(0)
    check_equal_states(alone, snapshot())
    check_equal_ranks(alone, *facts())


STEPS = 1000


class Counted(Together):
    """Counts the exchanges of the ranks."""

    exchanges = 0

    def gather(self, values):
        self.exchanges += 1
        return super().gather(values)


@pytest.fixture
def clock(monkeypatch):
    """A clock for each thread, which stands until its `now` is changed."""
    clock = threading.local()
    fake = types.SimpleNamespace(monotonic=lambda: getattr(clock, "now", 0.0))
    monkeypatch.setattr(agreement, "time", fake)
    monkeypatch.setattr(loop, "time", fake)
    return clock


def drive(clock, paces, signals=(), minutes=0.0, steps=STEPS):
    """Let ranks take steps; return what each answered, and how often it exchanged something.

    Args:
        paces: seconds of a step, or of each step, of each rank.
        signals: rank, step before which it comes, and number.
        minutes: the option ckpt_save_minutes.
    """
    together = Counted(len(paces))

    def run(rank):
        runtime, stop, answers = together.of(rank), StopSignal(), []
        clock.now = 1000.0 * rank
        asked, saved = Agreement(runtime, stop), clock.now
        for step in range(1, steps + 1):
            pace = paces[rank]
            clock.now += pace[step - 1] if isinstance(pace, list) else pace
            stop.received = next(
                (n for r, at, n in signals if r == rank and at <= step), stop.received
            )
            answer = asked.after_step(step, bool(minutes) and clock.now - saved > 60 * minutes)
            if answer[1]:
                saved = clock.now
            if any(answer):
                answers.append((step, *answer))
            if answer[0]:
                break
        return answers, runtime.exchanges

    with ThreadPoolExecutor(len(paces)) as pool:
        return list(pool.map(run, range(len(paces))))


def test_one_process_knows_after_every_step_and_asks_nobody(clock):
    ((answers, exchanges),) = drive(clock, [0.05], [(0, 7, signal.SIGINT)])
    assert answers == [(7, signal.SIGINT, False)] and exchanges == 0


@pytest.mark.parametrize("paces", [[0.05, 0.05], [0.05, 0.08, 0.001]])
def test_ranks_ask_each_other_every_100_steps_at_most_and_all_at_the_same(clock, paces):
    for answers, exchanges in drive(clock, paces):
        assert answers == [] and exchanges <= STEPS / 100 + 8


@pytest.mark.parametrize("pace, within", [(0.001, 100), (0.05, 100), (1.0, 6), (8.0, 1)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all_after_the_same_step_soon(clock, pace, within, rank):
    (first, _), (second, _) = drive(clock, [pace] * 2, [(rank, 500, signal.SIGTERM)])
    assert first == second
    ((step, number, _),) = first
    assert number == signal.SIGTERM and 500 <= step <= 500 + within


def test_one_quick_step_does_not_put_the_next_question_off_for_minutes(clock):
    """Two steps of a millisecond, then steps of 20 s."""
    paces = [[0.001] * 2 + [20.0] * 20] * 2
    (first, _), (second, _) = drive(clock, paces, [(1, 3, signal.SIGTERM)], steps=20)
    assert first == second and first[0][0] <= 4


def test_the_first_ranks_clock_saves_for_all(clock):
    (first, _), (second, exchanges) = drive(clock, [0.05, 0.9], minutes=0.2)
    assert first == second and 3 <= len(first) <= 1000 * 0.05 / 12 + 1
    assert exchanges <= STEPS / 100 + 8


def test_a_step_of_a_run_costs_no_exchange_of_the_ranks(clock):
    """With all that may save it within an epoch."""
    runtime = Together(2).of(0)
    runtime.exchanges = []
    runtime.sum_over_ranks = lambda values: runtime.exchanges.append(values) or values
    run = engine.Run(
        runtime=runtime,
        network=nn.Cell(),
        step=types.SimpleNamespace(state=[], own_state=[], accumulation=1),
        batches=types.SimpleNamespace(steps=5000),
        progress=types.SimpleNamespace(add=lambda *outputs: None, take_losses=list, clock=Clock()),
        table=engine.MetricsTable(),
        division=engine.Division(images=4, batches=1, images_of_epoch=20_000),
        epochs=1,
        save_points=engine.SavePoints(steps=2000, minutes=10.0),
    )
    for step in range(1, STEPS + 1):
        clock.now = 0.05 * step
        loop.after_step(run, Position(1, step), None, None)
    assert 10 <= len(runtime.exchanges) <= STEPS / 100 + 8
