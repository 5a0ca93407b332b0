"""Every second of a run belongs to one activity of the clock."""

import time
from contextlib import nullcontext
from signal import SIGTERM
from types import SimpleNamespace

import pytest

from mindcv.engine import loop
from mindcv.errors import Interrupted, NonFiniteLossError
from mindcv.process.clock import CHECKPOINT, DATA, EVALUATION, START, STEPS, Clock, time_table


@pytest.fixture
def passes(monkeypatch):
    """Return a function that lets seconds pass, on a clock that stands still otherwise."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_an_activity_within_another_takes_its_own_seconds_only(passes):
    clock = Clock()
    passes(2)
    clock.switch(STEPS)
    passes(3)
    with clock.during(EVALUATION):
        passes(5)
        with clock.during(CHECKPOINT):
            passes(7)
        passes(1)
    passes(4)
    found = {name: taken for name, taken in clock.seconds.items() if taken}
    assert found == {START: 2, STEPS: 7, EVALUATION: 6, CHECKPOINT: 7}
    passes(1)
    assert clock.seconds[STEPS] == 8


def test_an_error_ends_its_activity(passes):
    clock = Clock(STEPS)
    with pytest.raises(ValueError), clock.during(EVALUATION):
        passes(1)
        raise ValueError
    passes(2)
    assert (clock.seconds[EVALUATION], clock.seconds[STEPS]) == (1, 2)


def test_waiting_for_the_next_item_is_told_from_using_it(passes):
    def read():
        for item in "abc":
            passes(10)
            yield item

    clock = Clock(STEPS)
    for _ in clock.each(read(), DATA):
        passes(1)
    assert (clock.seconds[DATA], clock.seconds[STEPS]) == (30, 3)


def test_the_table_sums_to_the_wall_time(passes):
    clock = Clock()
    passes(1)
    clock.switch(STEPS)
    passes(3)
    assert time_table(clock.seconds) == [
        "where the time went           seconds  percent",
        "  start                           1.0     25.0",
        "  steps                           3.0     75.0",
        "  sum                             4.0    100.0",
    ]


@pytest.mark.parametrize("error", [Interrupted(SIGTERM, "stopped"), NonFiniteLossError("nan")])
def test_a_run_that_does_not_end_by_itself_shows_the_table_and_closes_its_profile(
    passes, log_lines, error
):
    done, clock = [], Clock()

    def fail(run, at, last):
        clock.switch(STEPS)
        passes(3)
        raise error

    nothing = {"begin": lambda *_: None, "close": lambda: None}
    run = SimpleNamespace(
        batches=SimpleNamespace(**nothing),
        progress=SimpleNamespace(**nothing, clock=clock, first_steps="first step"),
        table=SimpleNamespace(**nothing),
        stop=SimpleNamespace(listening=nullcontext),
        profile=SimpleNamespace(close=lambda: done.append("profile")),
        clock=clock,
        sample_log=None,
        drive=fail,
        ending="",
        unfreeze_epoch=0,
        epochs=1,
    )
    with pytest.raises(type(error)):
        loop.train(run, None)
    assert done == ["profile"] and log_lines[0].startswith("where the time went")
    assert any(line.split()[-2:] == ["3.0", "100.0"] for line in log_lines)
