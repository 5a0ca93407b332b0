"""Guard the scheduler of msrun, which computes nothing and whose last words msrun prints."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Container
from pathlib import Path

from ..process.signals import end_with_parent
from .record import SCHEDULER, OwnRecord, Record, read_records, root_cause, write_first_failure

_INTERVAL = 0.1  # seconds between two looks at the records of up to 8 ranks
_LONGEST_WAIT = 10.0  # seconds for the other ranks to end after the first one


def guard_scheduler(folder: Path) -> None:
    """Return in a child process, which becomes the scheduler; end this one with its exit code.

    MindSpore's scheduler waits half a minute for a rank that has ended, and keeps Python's lock
    meanwhile; msrun waits for the scheduler, and prints the lines of its log that look like errors.
    So this process watches the records of the ranks. It ends the scheduler after a failure, whose
    cause it prints, and when all ranks have stopped as they were asked to. While ranks are running
    it has a record of its own, so that they end if it is killed.
    """
    # A run that is alive may use the folder, and will refuse this one.
    runs_before = {one.run for one in read_records(folder)}
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent handles it
        end_with_parent(parent, signal.SIGKILL)
        return
    sys.exit(_Guard(folder, child, runs_before).run())


class _Guard:
    def __init__(self, folder: Path, child: int, runs_before: Container[int]):
        self.folder, self.child, self.runs_before = folder, child, runs_before
        self.own: OwnRecord | None = None

    def run(self) -> int:
        cause = self._first_to_end()
        code = self._end_of_child() if cause is None else self._end_because_of(cause)
        if self.own is not None and self.own.record.ending is None:
            self.own.remove()
        return code

    def _first_to_end(self) -> Record | None:
        """Return the rank that failed first or, if all were asked to stop, one of them.

        None: the scheduler ended by itself.
        """
        gone_before: set[int] = set()
        interval = _INTERVAL * max(1, int(os.environ["MS_WORKER_NUM"]) // 8)
        while not _has_ended(self.child):
            ranks = self._ranks()
            if ranks and self.own is None:
                self._begin_record(ranks[0].run)
            gone = {one.rank for one in ranks if one.is_gone}
            # Gone at two looks: a rank may write its ending after it was read, and then be gone.
            cause = root_cause([one for one in ranks if one.rank not in gone - gone_before])
            cause = cause or _of_all_that_stopped(ranks)
            if cause is not None:
                return cause
            gone_before = gone
            time.sleep(interval)
        return None

    def _begin_record(self, run: int) -> None:
        # If all processes of a job get SIGTERM, the ranks save, and need the scheduler until then.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # a full disk: ranks learn of its end from MindSpore
            self.own = OwnRecord(self.folder, run, SCHEDULER)

    def _end_because_of(self, cause: Record) -> int:
        if cause.ending is None or cause.ending.is_failure:
            _print(cause.describe())
            with contextlib.suppress(OSError):  # a full disk: the cause was printed
                write_first_failure(self.folder, cause)
        deadline = time.monotonic() + _LONGEST_WAIT
        while time.monotonic() < deadline and any(
            one.ending is None and not one.is_gone for one in self._ranks()
        ):
            time.sleep(_INTERVAL)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        return cause.ending.exit_code if cause.ending else 1

    def _end_of_child(self) -> int:
        _, status = os.waitpid(self.child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        cause = f"it was killed by {signal.Signals(-code).name}"
        if self.own is None:
            _print(f"the scheduler ended before the training began: {cause}")
        else:
            self.own.end(1, cause)
            _print(self.own.record.describe())
        return 1

    def _ranks(self) -> list[Record]:
        records = read_records(self.folder)
        return [one for one in records if one.run not in self.runs_before and one.rank >= 0]


def _print(cause: str) -> None:
    print(f"Error: {cause}", flush=True)  # msrun looks for lines with this word


def _of_all_that_stopped(records: list[Record]) -> Record | None:
    if len(records) < int(os.environ["MS_WORKER_NUM"]) or any(not one.ending for one in records):
        return None
    return next((one for one in records if one.ending.exit_code), None)


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
