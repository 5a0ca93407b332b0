"""The processes that a job started, directly or indirectly."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ...errors import ConfigError
from ...process.signals import StopSignal, adopt_orphans, end_with_parent, status_of
from ...ranks import FOLDER_VARIABLE

_INTERVAL = 0.1


class Processes:
    """An attempt of a job, in a session of its own, so that ctrl-C does not reach it.

    The ranks of msrun have their own sessions as well. A process that loses its parent becomes a
    child of this process, so none is overlooked. When this process dies, the command gets a
    SIGTERM.

    Args:
        output: receives what the command prints, as does the terminal.
        last_words: folder where ranks that end before they have a record write the cause.
    """

    def __init__(self, words: Sequence[str], output: BinaryIO, last_words: Path):
        if not adopt_orphans():
            raise ConfigError("supervise: needs Linux, to find all processes of a job")
        try:
            self._child = subprocess.Popen(
                words,
                env={**os.environ, FOLDER_VARIABLE: str(last_words.resolve())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
            )
        except OSError as error:
            raise ConfigError(f"supervise: {words[0]} cannot be run: {error.strerror}") from None
        self._reader = threading.Thread(target=self._copy, args=(output,), daemon=True)
        self._reader.start()

    def poll(self) -> int | None:
        """Return the command's exit code, negative for a signal; None: it is running."""
        return self._child.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the ranks, or to the command if there are none."""
        # Not to msrun, which would end its ranks by kill -9.
        send(number, ranks(descendants(os.getpid())) or {self._child.pid})

    def has_ranks(self) -> bool:
        return bool(ranks(self._left()))

    def end(self, grace: float, signals: StopSignal) -> int:
        """End the remaining processes; return how many there were.

        Args:
            grace: seconds in which ranks may save before kill -9.
            signals: a second one cuts the grace short.
        """
        left = self._left()
        deadline = time.monotonic() + grace
        send(signal.SIGTERM, ranks(left))
        while time.monotonic() < deadline and ranks(self._left()) and not signals.is_urgent:
            time.sleep(_INTERVAL)
        while remaining := self._left():
            send(signal.SIGKILL, remaining)
            time.sleep(_INTERVAL)
        self._reader.join(1.0)
        return len(left)

    def _left(self) -> set[int]:
        """Return the living processes of the job and reap the dead ones."""
        with contextlib.suppress(ChildProcessError):
            while self._child.poll() is not None and os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return descendants(os.getpid())

    def _copy(self, output: BinaryIO) -> None:
        while block := os.read(self._child.stdout.fileno(), 2**16):
            for stream in (output, sys.stdout.buffer):
                with contextlib.suppress(OSError, ValueError):  # full or closed: the job goes on
                    stream.write(block)
                    stream.flush()


def descendants(pid: int) -> set[int]:
    """Return the living processes that a process started, directly or indirectly."""
    children: dict[int, set[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        _, state, parent = _status(path.name)
        if state not in "ZX":
            children.setdefault(parent, set()).add(int(path.name))
    found, rest = set(), {pid}
    while rest:
        rest = set().union(*(children.get(one, set()) for one in rest)) - found
        found |= rest
    return found


def ranks(pids: Iterable[int]) -> set[int]:
    """Return the processes that msrun started as ranks, without the children of these.

    msrun also gives the ranks' environment to the `tail` that shows their logs.
    """
    workers = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if b"MS_ROLE=MS_WORKER" in environment and _status(pid)[0] != "tail":
                workers.add(pid)
    return {pid for pid in workers if _status(pid)[2] not in workers}


def _status(pid: int | str) -> tuple[str, str, int]:
    return status_of(pid) or ("", "X", 0)


def send(number: int, pids: Iterable[int]) -> None:
    """Send a signal to those of the processes that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
