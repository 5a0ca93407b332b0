"""Several processes stop and save after the same step, and seldom ask each other when."""

import signal
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_agreement import Together

from mindcv import engine
from mindcv.engine import agreement, saving
from mindcv.engine.agreement import Agreement
from mindcv.process.signals import StopSignal

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
    monkeypatch.setattr(saving, "time", fake)
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
    """What `SavePoints` does at the end of a step, with all its options."""
    runtime = Together(2).of(0)
    runtime.exchanges = []
    runtime.sum_over_ranks = lambda values: runtime.exchanges.append(values) or values
    saves = engine.SavePoints(None, None, runtime, steps=2000, minutes=10.0)
    for step in range(1, STEPS + 1):
        clock.now = 0.05 * step
        params = types.SimpleNamespace(cur_step_num=step, batch_num=5000, cur_epoch_num=1)
        saves.on_train_step_end(types.SimpleNamespace(original_args=lambda params=params: params))
    assert 10 <= len(runtime.exchanges) <= STEPS / 100 + 8
