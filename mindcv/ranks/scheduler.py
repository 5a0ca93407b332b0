"""The scheduler of msrun: it computes nothing, and is the one that msrun's last words come from."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from .parent import end_with_parent
from .record import Record, read_records, root_cause, write_first_failure

_INTERVAL = 0.1
_LONGEST_WAIT = 10.0  # seconds for the other ranks to end after the first one


def guard_scheduler(folder: Path) -> None:
    """Return in a child process, which becomes the scheduler; end this one with its exit code.

    MindSpore's scheduler waits half a minute for a rank that has ended, and keeps Python's lock
    meanwhile; msrun waits for it, and prints what of its log looks like an error. So this process
    looks at the records of the ranks. After a failure it prints the cause and ends the scheduler;
    and when all were asked to stop and have ended.

    Args:
        folder: run folder.

    Raises:
        SystemExit: in the parent process, always.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(parent, signal.SIGKILL)
        return
    cause = _first_to_end(folder, child)
    if cause is None:
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.exit(code if code >= 0 else 128 - code)
    if cause.ending is None or cause.ending.is_failure:
        print(f"Error: {cause.describe()}", flush=True)  # msrun looks for lines with this word
        with contextlib.suppress(OSError):  # a full disk: it was printed
            write_first_failure(folder, cause)
    deadline = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < deadline and _are_running(folder, cause.run):
        time.sleep(_INTERVAL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    sys.exit(cause.ending.exit_code if cause.ending else 1)


def _first_to_end(folder: Path, child: int) -> Record | None:
    """Return the process that failed first, or one of those that all stopped as they were asked.

    None: the scheduler ended by itself.
    """
    seen: set[tuple[int, int]] = set()  # running ranks: records of runs before are none
    gone_before: set[int] = set()
    while not _has_ended(child):
        records = read_records(folder)
        gone = {one.pid for one in records if one.is_gone}
        seen |= {(one.run, one.rank) for one in records if not one.ending and one.pid not in gone}
        known = [one for one in records if (one.run, one.rank) in seen]
        # Gone at two looks, as in `watching`.
        cause = root_cause([one for one in known if one.pid not in gone - gone_before])
        cause = cause or _of_all_that_stopped(known)
        if cause is not None:
            return cause
        gone_before = gone
        time.sleep(_INTERVAL)
    return None


def _of_all_that_stopped(records: list[Record]) -> Record | None:
    if len(records) < int(os.environ["MS_WORKER_NUM"]) or any(not one.ending for one in records):
        return None
    return next((one for one in records if one.ending.exit_code), None)


def _are_running(folder: Path, run: int) -> bool:
    records = [one for one in read_records(folder) if one.run == run]
    return any(one.ending is None and not one.is_gone for one in records)


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
