"""A process that does not outlive the one that started it."""

import ctypes
import os
import signal

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Let the system send this process a signal when its parent ends, however that ends.

    Args:
        parent: its process number; where it has ended already, this process ends at once.
        number: the signal.
    """
    if _prctl is not None:
        _prctl(_DEATH_SIGNAL, number)
    if os.getppid() != parent:
        os._exit(1)
