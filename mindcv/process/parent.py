"""A process that does not outlive the one that started it."""

import ctypes
import os
import signal
from itertools import pairwise
from pathlib import Path

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only


def end_with_launcher() -> None:
    """Let a rank be asked to stop when its msrun ends, which hands no signal on.

    An msrun that does not wait for its ranks (without `--join True`) ends at once, and they go on.
    """
    launcher = os.getppid()
    try:
        words = Path(f"/proc/{launcher}/cmdline").read_bytes().lower().split(b"\0")
    except OSError:  # not Linux, or it has ended
        return
    if b"--join=true" in words or (b"--join", b"true") in pairwise(words):
        end_with_parent(launcher, signal.SIGTERM)


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
