"""SIGTERM and SIGINT: end the run after the step, with a checkpoint."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

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
        self._is_listening = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for the body."""
        before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        self._is_listening = True
        try:
            yield
        finally:
            self._is_listening = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def poll(self) -> signal.Signals | None:
        """Return the signal received so far.

        Each input pipeline that MindSpore starts takes SIGINT over and makes a SIGTERM of it, so
        the signals are taken back here.
        """
        if self._is_listening:
            for number in _SIGNALS:
                signal.signal(number, self._remember)
        return self.received

    def agreed(self, runtime: Runtime) -> signal.Signals | None:
        """Return the signal that any process received; every process must call it."""
        received = self.poll()
        if runtime.world_size == 1:
            return received
        own = np.array([received == number for number in _SIGNALS], np.float32)
        counts = runtime.sum_over_ranks(own)
        return next((number for number, count in zip(_SIGNALS, counts) if count), None)

    def _remember(self, number: int, frame) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)
