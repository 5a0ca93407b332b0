"""The record of one process (who it is, how it ended), and the first failure of a run."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..errors import RankError
from ..process import signals
from ..process.files import make_folder, open_regular, read_regular, replacing
from ..process.json_objects import fields_of

FOLDER = "ranks"
SCHEDULER = -1  # in place of a rank: the process of msrun that connects the ranks
_FIRST = "first_failure"  # one file for all: a process that fails writes it, the others read it
_SIZE = 8192  # bytes of a record, padded with spaces
LONGEST_CAUSE = 1000  # characters


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        exit_code: see `mindcv.errors`; 1 for any other error.
        cause: the message of its error; empty if it finished.
        of_rank: the rank whose ending caused this one; None if its own.
        time: seconds since 1970.
    """

    exit_code: int
    cause: str
    of_rank: int | None
    time: float

    @property
    def is_failure(self) -> bool:
        """Whether it is an error: the process neither finished nor was asked to stop."""
        return self.exit_code not in (0, 130, 143)


@dataclass(frozen=True)
class Record:
    """One process of one run.

    Attributes:
        run: number shared by all processes of the run, and by no earlier run in the folder.
        rank: `SCHEDULER` for the process that does not train.
        pid, host, pid_space: the process; its number is valid only within the pid_space.
        ending: None while it is running, or if it was killed.
    """

    run: int
    rank: int
    pid: int
    host: str
    pid_space: str
    ending: Ending | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended without recording it."""
        is_here = self.pid_space == own_pid_space()
        return self.ending is None and is_here and not is_running(self.pid)

    def describe(self) -> str:
        name, log = f"rank {self.rank}", f"worker_{self.rank}.log"
        if self.rank == SCHEDULER:
            name, log = "the scheduler", "scheduler.log"
        who = f"{name} (process {self.pid} on {self.host})"
        if self.ending is None:
            return (
                f"{who} ended without a word: it was killed (kill -9, out of memory) or crashed; "
                f"see its log, with msrun {log}"
            )
        return f"{who} ended with exit code {self.ending.exit_code}: {self.ending.cause}"

    def as_error(self) -> RankError:
        """Return the error of a process that ends because of this one."""
        code = self.ending.exit_code if self.ending else 1
        return RankError(f"stopped, because {self.describe()}", code, self.rank)


class OwnRecord:
    """The record of this process; OSError if it cannot be written.

    The file has its full size from the start and stays open, so that a full disk cannot keep the
    ending out of it.
    """

    def __init__(self, folder: Path, run: int, rank: int):
        self.folder = folder
        self.record = Record(
            run, rank, pid=os.getpid(), host=socket.gethostname(), pid_space=own_pid_space()
        )
        folder.mkdir(parents=True, exist_ok=True)
        make_folder(folder / FOLDER)
        self._path = path_of(folder, rank)
        self._handle = open_regular(self._path, os.O_RDWR | os.O_CREAT)
        self._write()

    def others(self) -> list[Record]:
        run, rank = self.record.run, self.record.rank
        return [one for one in read_records(self.folder) if one.run == run and one.rank != rank]

    def first_failure(self) -> Record | None:
        """Return the process that is recorded as the first of this run to fail."""
        seen = read_record(self.folder / FOLDER / _FIRST)
        return seen if seen is not None and seen.run == self.record.run else None

    def end(self, exit_code: int, cause: str, of_rank: int | None = None) -> None:
        """Record the ending, if none is recorded; record a failure of its own for all processes."""
        if self.record.ending is not None:
            return
        ending = Ending(exit_code, cause[:LONGEST_CAUSE], of_rank, time.time())
        self.record = replace(self.record, ending=ending)
        self._write()
        if ending.is_failure and of_rank is None:
            with contextlib.suppress(OSError):  # this process's own record says so too
                write_first_failure(self.folder, self.record)

    def wait_for_others(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for one in self.others():
            while one.ending is None and one.rank != SCHEDULER and time.monotonic() < deadline:
                time.sleep(0.05)
                one = read_record(path_of(self.folder, one.rank)) or one

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        # A single write to an existing block: nobody reads half of it.
        os.pwrite(self._handle, _block_of(self.record), 0)


_own: OwnRecord | None = None


def begin_record(folder: Path, run: int, rank: int) -> OwnRecord:
    """Record that this process is running; OSError if that cannot be written."""
    global _own
    _own = OwnRecord(folder, run, rank)
    signals.before_leaving(lambda: _own.end(130, "stopped by the user"))
    return _own


def own_record() -> OwnRecord | None:
    """Return the record of this process; None if it has not begun one."""
    return _own


def path_of(folder: Path, rank: int) -> Path:
    return folder / FOLDER / f"{'scheduler' if rank == SCHEDULER else rank}.json"


def read_records(folder: Path) -> list[Record]:
    """Return the records in a run folder, including those of earlier runs."""
    found = map(read_record, sorted((folder / FOLDER).glob("*.json")))
    return [record for record in found if record is not None]


def read_record(path: Path) -> Record | None:
    """Return the record in a file; None if it is incomplete or not one of ours."""
    try:
        return _record(read_regular(path, 4 * _SIZE))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def write_first_failure(folder: Path, cause: Record | None) -> None:
    """Record which process failed first; None reserves the space. OSError if that fails."""
    path = folder / FOLDER / _FIRST
    try:
        handle = open_regular(path, os.O_WRONLY)
    except OSError:  # it is missing, or not a file of ours
        with replacing(path) as unfinished:
            unfinished.write_bytes(_block_of(cause))
        return
    try:
        os.pwrite(handle, _block_of(cause), 0)
    finally:
        os.close(handle)


def first_failure(folder: Path, runs_before: Iterable[int]) -> Record | None:
    """Return the process of an ended run whose failure ended the others; None if there is none.

    `runs_before` are the numbers of other runs in the folder.
    """
    seen = read_record(folder / FOLDER / _FIRST)
    records = [one for one in read_records(folder) if one.run not in runs_before]
    # A scheduler may also be killed after its ranks have ended.
    blamed = {one.ending.of_rank for one in records if one.ending}
    cause = root_cause(one for one in records if one.rank != SCHEDULER or SCHEDULER in blamed)
    if seen is None or seen.run in runs_before or (cause and cause.ending):
        return cause
    return cause if seen.rank == SCHEDULER else seen


def root_cause(records: Iterable[Record]) -> Record | None:
    """Return the process whose ending caused the others'; None if none failed."""
    records = list(records)
    failed = [one for one in records if one.ending is not None and one.ending.is_failure]
    own = [one for one in failed if one.ending.of_rank is None]
    if own:
        return min(own, key=lambda one: one.ending.time)
    gone = [one for one in records if one.is_gone]
    blamed = {one.ending.of_rank for one in failed}

    def is_unlikely(one: Record) -> tuple[bool, bool]:
        # msrun reaps the process whose end it notices; those it kills then stay as zombies.
        return one.rank not in blamed, signals.status_of(one.pid) is not None

    return min(gone, key=is_unlikely, default=None)


def _block_of(record: Record | None) -> bytes:
    text = "" if record is None else json.dumps(asdict(record), ensure_ascii=False)
    return text.encode(errors="backslashreplace").ljust(_SIZE)


def _record(content: bytes) -> Record:
    """Parse a record that anybody may have written; any error means that it is none."""
    record = Record(**fields_of(Record, json.loads(content)))
    ending = record.ending or Ending(0, "", None, 0.0)
    ranks = [record.rank, SCHEDULER if ending.of_rank is None else ending.of_rank]
    counts = [record.run, record.pid, ending.exit_code, *(one for one in ranks if one != SCHEDULER)]
    if not all(0 <= one < 2**31 for one in counts):
        raise ValueError("a number is out of range")
    return record


def own_pid_space() -> str:
    """Return a text that is equal for processes to which a process number means the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def is_running(pid: int) -> bool:
    """Return whether a process of this host exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = signals.status_of(pid)
    return status is None or status[1] not in "ZX"
