"""Start a job, and restart it while that helps."""

import contextlib
import itertools
import shlex
import signal
import socket
import sys
import time
from collections.abc import Container
from pathlib import Path

from ...checkpoint import CheckpointStore, Position, position_of
from ...errors import ConfigError, RunFolderError
from ...process.files import make_folder, open_regular, writing
from ...ranks import Record, first_failure, first_last_words, read_records
from .command import Job
from .processes import Processes

FOLDER = "attempts"
_GRACE = 30.0  # seconds that ranks without their launcher get to save
_LONGEST_DELAY = 600.0
_INTERVAL = 0.1
_HOPELESS = {2: "options or configuration are wrong", 3: "the loss is not finite"}
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def supervise(job: Job, *, max_restarts: int, backoff: float, max_stalls: int) -> int:
    """Run a job until it is done or restarting does not help; return its exit code.

    msrun exits with 1 for every failure, so the code is that of the rank that failed first.

    Args:
        backoff: seconds before a restart, doubled for each attempt in a row without a newer
            checkpoint, up to 10 minutes.
        max_stalls: attempts in a row that may end without a newer checkpoint.

    Raises:
        ConfigError: the command does not exist or does not wait for its training, or the run folder
            is not writable.
        RunFolderError: the logs of an attempt cannot be written.
    """
    with writing(f"supervise: ckpt_save_dir {job.folder}", ConfigError):
        job.folder.mkdir(parents=True, exist_ok=True)
        make_folder(job.folder / FOLDER)
    supervisor = _Supervisor(job)
    with supervisor.listening():
        return supervisor.run(max_restarts, backoff, max_stalls)


class _Supervisor:
    def __init__(self, job: Job):
        self.job = job
        self._stop: signal.Signals | None = None  # the signal that asked to stop
        self._hurries = False  # a second signal came

    @contextlib.contextmanager
    def listening(self):
        numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
            numbers.remove(signal.SIGHUP)
        before = {number: signal.signal(number, self._remember) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame) -> None:
        self._hurries = self._stop is not None
        # A closed terminal (SIGHUP) counts as a request to stop.
        self._stop = signal.SIGTERM if number == signal.SIGHUP else signal.Signals(number)

    def run(self, max_restarts: int, backoff: float, max_stalls: int) -> int:
        newest, stalls = self._newest(), 0
        for restarts in itertools.count():
            code = self._attempt(newest)
            before, newest = newest, self._newest()
            is_newer = newest is not None and (before is None or newest > before)
            stalls = 0 if is_newer else stalls + 1
            reason = self._reason_to_end(code)
            if reason is None and stalls > max_stalls:
                reason = f"not restarted: {stalls} attempts in a row made no newer checkpoint"
            if reason is None and restarts >= max_restarts:
                reason = f"not restarted: {restarts} restarts were allowed"
            if reason is not None:
                self._log(f"{reason}; exit code {code}")
                return code
            delay = min(backoff * 2**stalls, _LONGEST_DELAY)
            self._log(f"restart {restarts + 1} of {max_restarts} in {delay:g} s")
            deadline = time.monotonic() + delay
            while time.monotonic() < deadline and self._stop is None:
                time.sleep(min(_INTERVAL, delay))
            if self._stop is not None:
                self._log(f"stopped by {self._stop.name} before restart {restarts + 1}")
                return 128 + self._stop

    def _reason_to_end(self, code: int) -> str | None:
        if code == 0:
            return "done"
        if self._stop is not None:
            return f"stopped by {self._stop.name}; the same command goes on"
        if code in _STOPPED:
            return "the job was asked to stop; the same command goes on"
        if code in _HOPELESS:
            return f"not restarted, since that would not help: {_HOPELESS[code]}"
        return None

    def _newest(self) -> Position | None:
        """Return the position of the newest checkpoint that verifies."""
        manifest, _ = CheckpointStore(self.job.folder).newest()
        return manifest and position_of(manifest.path.stem)

    def _attempt(self, newest: Position | None) -> int:
        """Run the job once; return its exit code when all its processes have ended."""
        logs = self._new_folder()
        words = self.job.words(logs, newest is not None)
        runs_before = {record.run for record in read_records(self.job.folder)}
        at = f"from epoch {newest.epoch}, step {newest.step}" if newest else "without a checkpoint"
        self._log(f"attempt {logs.name} begins {at}: {shlex.join(words)}")
        began = time.monotonic()
        path = logs / "output.log"
        with _writing_logs(path):
            output = path.open("wb", buffering=0)
        with output:  # if the disk fills up later, the attempt goes on
            processes = Processes(words, output, logs)
            found = self._wait(processes)
            leaves_ranks = found == 0 and self._stop is None and processes.has_ranks()
            stopped = self._first_stopped(runs_before)
            stop_code = 128 + self._stop if self._stop else stopped and stopped.ending.exit_code
            left = processes.end(_GRACE, lambda: self._hurries)  # such as ranks without their msrun
        cause = first_failure(self.job.folder, runs_before) or first_last_words(logs)
        code = _exit_code(found, cause, stop_code)
        who = stopped if code in _STOPPED else cause
        swept = f", {left} processes were left and are ended" if left else ""
        self._log(
            f"attempt {logs.name} ended after {time.monotonic() - began:.0f} s with {code}{swept}"
            + (f": {who.describe()}" if who else "")
        )
        if leaves_ranks:
            raise ConfigError(
                "supervise: the command ended with 0 while its training was running, so its "
                f"result is unknown: {shlex.join(words)}; use a command that waits for it"
            )
        return code

    def _new_folder(self) -> Path:
        """Create the log folder of an attempt; several hosts may share the run folder."""
        for number in itertools.count(1):
            folder = self.job.folder / FOLDER / f"{socket.gethostname()}-{number}"
            with _writing_logs(folder):
                try:
                    folder.mkdir()
                    return folder
                except FileExistsError:
                    continue

    def _wait(self, processes: Processes) -> int:
        """Return the command's exit code; forward a first signal, kill at a second."""
        is_handed_on = False
        while (code := processes.poll()) is None:
            if self._hurries:
                processes.end(0, lambda: True)
            elif self._stop is not None and not is_handed_on:
                self._log(f"{self._stop.name}: the job is asked to stop and may save")
                processes.signal(self._stop)
                is_handed_on = True
            time.sleep(_INTERVAL)
        return code

    def _first_stopped(self, runs_before: Container[int]) -> Record | None:
        records = [one for one in read_records(self.job.folder) if one.run not in runs_before]
        stopped = [one for one in records if one.ending and one.ending.exit_code in _STOPPED]
        return min(stopped, key=lambda one: one.ending.time, default=None)

    def _log(self, event: str) -> None:
        line = f"supervise: {time.strftime('%Y-%m-%d %H:%M:%S')} {event}"
        # A full disk or a closed terminal does not end the job.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)
        path = self.job.folder / FOLDER / "supervise.log"
        with (
            contextlib.suppress(OSError),
            open(path, "a", encoding="utf-8", opener=open_regular) as log,
        ):
            log.write(line + "\n")


def _writing_logs(path: Path) -> contextlib.AbstractContextManager:
    remedy = (
        "; the checkpoints are untouched. Make room or put the folder back; the same command goes "
        "on"
    )
    return writing(f"supervise: {path}", RunFolderError, remedy)


def _exit_code(found: int, cause: Record | None, stop_code: int | None) -> int:
    """Return the exit code of the job: of the first failed rank, a signal, or the command.

    `found` is the command's code, negative for a signal; msrun returns 1 for every failure. `cause`
    is the rank that failed first, `stop_code` the code of a training that was asked to stop.
    """
    if found == 0 and cause is None:
        return 0
    if stop_code is not None and (cause is None or cause.ending is None):
        return stop_code  # msrun kills ranks that are still stopping
    if cause is not None:
        return cause.ending.exit_code if cause.ending else 1
    return found if found > 0 else 128 - found
