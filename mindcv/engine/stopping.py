"""SIGTERM and SIGINT: end the run after the step, with a checkpoint."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .. import interrupts
from .runtime import Runtime

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
        """Take the signals over for the body; SIGINT where `mindcv.interrupts` has it."""
        before = signal.signal(signal.SIGTERM, self._remember)
        interrupt_before = interrupts.handled_by(self._remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            interrupts.handled_by(interrupt_before)

    def agreed(self, runtime: Runtime) -> signal.Signals | None:
        """Return the signal that any process received; every process must call it."""
        if runtime.world_size == 1:
            return self.received
        own = np.array([self.received == number for number in _SIGNALS], np.float32)
        counts = runtime.sum_over_ranks(own)
        return next((number for number, count in zip(_SIGNALS, counts) if count), None)

    def _remember(self, number: int, frame=None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)
