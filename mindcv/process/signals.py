"""Signals: ctrl-C, the request to stop, and the end of related processes.

MindSpore's input pipelines set their own handler for SIGINT at every step, which turns it into a
SIGTERM, and a KeyboardInterrupt during the import of its C++ modules aborts the process. So all
threads block SIGINT, and one thread receives it, even while the main thread is inside MindSpore,
which may take minutes.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

_DEATH_SIGNAL, _ADOPT = 1, 36  # PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER of prctl
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only

_handle: Callable[[int], None] | None = None  # None: leave at once
_before_leaving: list[Callable[[], None]] = []
_is_taken_over = False


def take_over() -> None:
    """Take over SIGINT; it ends the process at once, unless a function is set by `handled_by`.

    Call it before other threads start, such as numpy's: threads inherit what is blocked.
    """
    global _is_taken_over
    if not _is_taken_over:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=_wait, name="interrupts", daemon=True).start()
        _is_taken_over = True


def handled_by(handle: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """Let a function handle SIGINT, in another thread; return the previous one."""
    global _handle
    _handle, before = handle, _handle
    return before


def before_leaving(call: Callable[[], None]) -> None:
    """Register a call to make before SIGINT ends the process without its main thread."""
    _before_leaving.append(call)


def _wait() -> None:
    while True:
        number = signal.sigwait({signal.SIGINT})
        if _handle is not None:
            _handle(number)
        else:
            _leave()


def _leave() -> None:
    for call in _before_leaving:
        with contextlib.suppress(Exception):
            call()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed
        sys.stdout.flush()
        print("stopped by the user", file=sys.stderr, flush=True)
    os._exit(130)  # a regular exit during MindSpore's import would abort


class StopSignal:
    """Remembers a request to stop in `received`.

    A second signal ends the process at once, unless `only_remembers`; then `is_urgent` is set.
    """

    def __init__(self, only_remembers: bool = False):
        self.received: signal.Signals | None = None
        self.is_urgent, self._only_remembers = False, only_remembers

    @contextlib.contextmanager
    def listening(self, *more: signal.Signals) -> Iterator[None]:
        """Handle SIGTERM and `more` in the body, and SIGINT if `take_over` was called."""
        before = {one: signal.signal(one, self._remember) for one in (signal.SIGTERM, *more)}
        interrupt_before = handled_by(self._remember)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            handled_by(interrupt_before)

    def _remember(self, number: int, frame=None) -> None:
        self.is_urgent = self.received is not None
        if self.is_urgent and not self._only_remembers:
            os._exit(128 + number)
        self.received = signal.Signals(number)


def end_with_launcher() -> None:
    """Send this rank SIGTERM when its msrun ends, since msrun forwards no signal.

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
    """Have the system send this process a signal when its parent ends, in whatever way.

    If the parent has already ended, this process ends at once.
    """
    if _prctl is not None:
        _prctl(_DEATH_SIGNAL, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> bool:
    """Become the parent of every descendant that loses its own; False: this is not Linux."""
    if _prctl is None or status_of(os.getpid()) is None:
        return False
    _prctl(_ADOPT, 1)
    return True


def status_of(pid: int | str) -> tuple[str, str, int] | None:
    """Return name, state (a letter) and parent of a process; None: it has ended, or not Linux."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    start, _, end = text.rpartition(")")
    state, parent = end.split()[:2]
    return start.partition("(")[2], state, int(parent)
