"""Start a job, and start it again while that helps."""

import contextlib
import itertools
import shlex
import signal
import socket
import sys
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO

from ...checkpoint import CheckpointStore, Position, position_of
from ...errors import ConfigError, RunFolderError
from ...process.files import make_folder, open_regular
from ...ranks import Record, first_failure, first_last_words, read_records
from .job import Job
from .processes import Processes

FOLDER = "attempts"
_GRACE = 30.0  # seconds in which ranks that lost their launcher may save
_LONGEST_DELAY = 600.0
_INTERVAL = 0.1
_HOPELESS = {2: "options or configuration are wrong", 3: "the loss is not finite"}
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def supervise(job: Job, max_restarts: int, backoff: float, max_stalls: int) -> int:
    """Run a job until it is done or restarting does not help; return its exit code.

    That is the code of the rank that failed first, since msrun returns 1 for each.

    Args:
        max_restarts: how often at most.
        backoff: seconds before a restart; twice as long after each further attempt that came to no
            newer checkpoint, up to 10 minutes.
        max_stalls: so many attempts in a row may come to no newer checkpoint.

    Raises:
        ConfigError: the command or the run folder is not there, or the command does not wait for
            its training.
        RunFolderError: the logs of an attempt cannot be written.
    """
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        make_folder(job.folder / FOLDER)
    except OSError as error:
        raise ConfigError(
            f"supervise: ckpt_save_dir {job.folder} cannot be written: {error.strerror}"
        ) from None
    return _Supervisor(job, max_restarts, backoff, max_stalls).run()


class _Supervisor:
    def __init__(self, job: Job, max_restarts: int, backoff: float, max_stalls: int):
        self.job, self.max_restarts = job, max_restarts
        self.backoff, self.max_stalls = backoff, max_stalls
        self._asked: signal.Signals | None = None  # to stop
        self._hurries = False  # asked twice

    def run(self) -> int:
        numbers = {*_SIGNALS}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
            numbers.remove(signal.SIGHUP)
        before = {number: signal.signal(number, self._remember) for number in numbers}
        try:
            return self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        newest, stalls, restarts = self._newest(), 0, 0
        while True:
            code = self._attempt(newest)
            place = self._newest()
            stalls = 0 if _is_newer(place, newest) else stalls + 1
            newest = place
            reason = self._reason_to_end(code, restarts, stalls)
            if reason is not None:
                self._tell(f"{reason}; exit code {code}")
                return code
            restarts += 1
            delay = min(self.backoff * 2**stalls, _LONGEST_DELAY)
            self._tell(f"restart {restarts} of {self.max_restarts} in {delay:g} s")
            deadline = time.monotonic() + delay
            while time.monotonic() < deadline and self._asked is None:
                time.sleep(min(_INTERVAL, delay))
            if self._asked is not None:
                self._tell(f"stopped by {self._asked.name} before restart {restarts}")
                return 128 + self._asked

    def _attempt(self, newest: Position | None) -> int:
        """Run the job once; return its exit code, when nothing of it is left."""
        logs = self._new_folder()
        words = self.job.words(logs, newest is not None)
        runs_before = {record.run for record in read_records(self.job.folder)}
        self._tell(f"attempt {logs.name} begins {_from(newest)}: {shlex.join(words)}")
        started = time.monotonic()
        with _opened(logs / "output.log") as output:
            processes = Processes(words, output, logs)
            found = self._wait(processes)
            leaves_ranks = found == 0 and self._asked is None and processes.has_ranks()
            asked = self._stopped(runs_before)
            stopped = 128 + self._asked if self._asked else asked and asked.ending.exit_code
            left = processes.end(_GRACE, lambda: self._hurries)  # of ranks without their msrun
        cause = first_failure(self.job.folder, runs_before) or first_last_words(logs)
        code = _exit_code(found, cause, stopped)
        who = asked if code in _STOPPED else cause
        told = f": {who.describe()}" if who else ""
        swept = f", {left} processes were left and are ended" if left else ""
        after = time.monotonic() - started
        self._tell(f"attempt {logs.name} ended after {after:.0f} s with {code}{swept}{told}")
        if leaves_ranks:
            raise ConfigError(
                "supervise: the command ended with 0 while its training was running, and nobody "
                f"could tell how that ends: {shlex.join(words)}; use a command that waits for it"
            )
        return code

    def _wait(self, processes: Processes) -> int:
        """Return what the command ends with; meanwhile hand a signal on, and kill at the second."""
        is_told = False
        while (code := processes.poll()) is None:
            if self._hurries:
                processes.end(0, lambda: True)
            elif self._asked is not None and not is_told:
                self._tell(f"{self._asked.name}: the job is asked to stop and may save")
                processes.signal(self._asked)
                is_told = True
            time.sleep(_INTERVAL)
        return code

    def _stopped(self, runs_before: Container[int]) -> Record | None:
        """Return the first rank that was asked to stop; None: nobody asked."""
        records = [one for one in read_records(self.job.folder) if one.run not in runs_before]
        stopped = [one for one in records if one.ending and one.ending.exit_code in _STOPPED]
        return min(stopped, key=lambda one: one.ending.time, default=None)

    def _reason_to_end(self, code: int, restarts: int, stalls: int) -> str | None:
        if code == 0:
            return "done"
        if self._asked is not None:
            return f"stopped by {self._asked.name}; the same command goes on"
        if code in _STOPPED:
            return "the job was asked to stop; the same command goes on"
        if code in _HOPELESS:
            return f"not restarted, since that would not help: {_HOPELESS[code]}"
        if stalls > self.max_stalls:
            return f"not restarted: {stalls} attempts in a row came to no newer checkpoint"
        if restarts >= self.max_restarts:
            return f"not restarted: {restarts} restarts were allowed"
        return None

    def _remember(self, number: int, frame) -> None:
        if self._asked is not None:
            self._hurries = True
        # A terminal that goes away asks to stop as well.
        self._asked = signal.SIGTERM if number == signal.SIGHUP else signal.Signals(number)

    def _newest(self) -> Position | None:
        """Return the place of the newest checkpoint that verifies."""
        manifest, _ = CheckpointStore(self.job.folder).newest()
        return manifest and position_of(manifest.path.stem)

    def _new_folder(self) -> Path:
        """Create the folder for the logs of an attempt; several hosts may share the run folder."""
        for number in itertools.count(1):
            folder = self.job.folder / FOLDER / f"{socket.gethostname()}-{number}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
            except OSError as error:
                raise _no_room(folder, error) from None

    def _tell(self, event: str) -> None:
        line = f"supervise: {time.strftime('%Y-%m-%d %H:%M:%S')} {event}"
        # A full disk, or a terminal that is gone, does not end the job.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)
        path = self.job.folder / FOLDER / "supervise.log"
        with (
            contextlib.suppress(OSError),
            open(path, "a", encoding="utf-8", opener=open_regular) as log,
        ):
            log.write(line + "\n")


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a log of an attempt; a full disk later on does not end the attempt."""
    try:
        file = path.open("wb", buffering=0)
    except OSError as error:
        raise _no_room(path, error) from None
    with file:
        yield file


def _no_room(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"supervise: {path} cannot be written: {error.strerror}; the checkpoints are untouched. "
        "Make room or put the folder back; the same command goes on"
    )


def _is_newer(place: Position | None, before: Position | None) -> bool:
    return place is not None and (before is None or place > before)


def _from(place: Position | None) -> str:
    return f"from epoch {place.epoch}, step {place.step}" if place else "without a checkpoint"


def _exit_code(found: int, cause: Record | None, stopped: int | None) -> int:
    """Return the code of the whole: the first failing rank's, a signal's, or the command's.

    Args:
        found: of the command, negative for a signal; msrun has 1 for every failure.
        cause: the rank that failed first.
        stopped: code of a training that was asked to stop.
    """
    if found == 0 and cause is None:
        return 0
    if stopped is not None and (cause is None or cause.ending is None):
        return stopped  # msrun kills those that are still on their way out
    if cause is not None:
        return cause.ending.exit_code if cause.ending else 1
    return found if found > 0 else 128 - found
