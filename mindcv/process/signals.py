"""Ctrl-C, taken by a thread that waits for it.

MindSpore's input pipelines set a handler of their own for SIGINT at every step, which makes a
SIGTERM of it, and a KeyboardInterrupt amid the import of its C++ modules aborts the process. So the
signal is blocked in all threads, and one of them takes it from the system: also while the main
thread is inside MindSpore, which may be minutes.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable

_handle: Callable[[int], None] | None = None  # None: leave at once
_last_words: list[Callable[[], None]] = []
_is_taken_over = False


def take_over() -> None:
    """Take SIGINT over until the process ends; it leaves at once, unless `handled_by` is active.

    Call it before other threads are there, those of numpy among them: they inherit what is blocked.
    """
    global _is_taken_over
    if not _is_taken_over:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=_wait, name="interrupts", daemon=True).start()
        _is_taken_over = True


def handled_by(handle: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """Let a function handle the signal, called in another thread; return the one before."""
    global _handle
    _handle, before = handle, _handle
    return before


def before_leaving(call: Callable[[], None]) -> None:
    """Call this before the process leaves without asking the main thread."""
    _last_words.append(call)


def _wait() -> None:
    while True:
        number = signal.sigwait({signal.SIGINT})
        if _handle is not None:
            _handle(number)
        else:
            _leave()


def _leave() -> None:
    for call in _last_words:
        with contextlib.suppress(Exception):
            call()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed
        sys.stdout.flush()
        print("stopped by the user", file=sys.stderr, flush=True)
    os._exit(130)  # what MindSpore does at a regular end aborts amid its import
