"""SIGTERM and SIGINT end a run soon, with a checkpoint; all processes after the same step."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..process import signals
from .runtime import Runtime

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Processes ask each other after so many seconds, or so many steps if that is sooner.
_SECONDS, _STEPS = 5.0, 100


class EvaluationStopped(Exception):
    """An evaluation was left because of a signal."""


class StopSignal:
    """Remembers that the process was asked to stop; the second signal ends it at once.

    Attributes:
        received: the signal; None: none came.
    """

    def __init__(self):
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for the body; SIGINT where `mindcv.process.signals` has it."""
        before = signal.signal(signal.SIGTERM, self._remember)
        interrupt_before = signals.handled_by(self._remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            signals.handled_by(interrupt_before)

    def _remember(self, number: int, frame=None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)


class Agreement:
    """Lets all processes stop, or save by the clock, after the same step.

    To ask the others takes a collective operation outside the graph and waits for the device, so
    several processes ask every N steps only. The first process measures the steps and chooses N for
    all: about 5 seconds, at most 100 steps. One process asks nobody, and knows after every step.

    Args:
        runtime: the processes; each must make the same calls.
        stop: knows of this process's signals.
    """

    def __init__(self, runtime: Runtime, stop: StopSignal):
        self._runtime, self._stop = runtime, stop
        self._steps = 1  # N
        self._asked: tuple[int, float] | None = None  # step and time

    def after_step(self, step: int, is_time: bool) -> tuple[signal.Signals | None, bool]:
        """Return the signal to stop by, and whether to save; both nothing between two questions.

        Args:
            step: of the run, from 1.
            is_time: the clock of this process wants a save; that of the first process counts.
        """
        if self._runtime.world_size > 1 and self._asked is not None:
            asked_at, began = self._asked
            if step < asked_at + self._steps:
                return None, False
            pace = (time.monotonic() - began) / (step - asked_at)
            # Doubled at most: one quick step must not put the next question off for minutes.
            self._steps = max(1, min(2 * self._steps, int(_SECONDS / max(pace, 1e-6)), _STEPS))
        return self.now(step, is_time)

    def now(self, step: int, is_time: bool) -> tuple[signal.Signals | None, bool]:
        """Return the same at a step at which all processes ask anyhow, the end of an epoch."""
        if self._runtime.world_size == 1:
            return self._stop.received, is_time
        own = [self._stop.received == number for number in _SIGNALS]
        # Small whole numbers of which one process has all: their sum is exact in any order.
        own += [is_time, self._steps] if self._runtime.is_main else [False, 0]
        *counts, saves, steps = self._runtime.sum_over_ranks(np.array(own, np.float32))
        self._steps, self._asked = int(steps), (step, time.monotonic())
        return next((number for number, count in zip(_SIGNALS, counts) if count), None), bool(saves)
