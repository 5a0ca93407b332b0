"""Record how this process ends, for the other ranks and for a supervisor."""

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..errors import Interrupted, MindCVError, RankError
from ..process import signals
from ..process.entry_point import in_short, place_of
from ..process.files import open_regular
from .record import LONGEST_CAUSE, Ending, Record, own_record, read_record, root_cause
from .watch import guard_scheduler

FOLDER_VARIABLE = "MINDCV_LAST_WORDS"  # set by `supervise` to a folder of the attempt
_SUFFIX = ".last_words.json"
_LINGER = 2.5  # seconds for the others to learn the cause before a launcher kills them
# Messages of MindSpore (2.10) about missing processes: after a heartbeat, in a collective operation
# that waited too long, and in the scheduler; and codes of HCCL, from its manual: a rank did not
# reach an operation within HCCL_EXEC_TIMEOUT, or was not connected within HCCL_CONNECT_TIMEOUT.
_LOST_CONTACT = re.compile(
    r"The state of the cluster is error|Launch kernel failed: .*All(Reduce|Gather)|timed out node"
    r"|is the first one timed out|TCP connection between the scheduler and the worker"
    r"|\bEI000[26]\b"
)
# Messages of MindSpore (2.7 to 2.10) about processes that are missing from the start.
_NOT_TOGETHER = re.compile(
    "Failed to initialize distributed job cluster|Failed to register the compute graph node"
)


@contextlib.contextmanager
def recorded_ending(folder: Path | None) -> Iterator[None]:
    """Record how the body ends, if this process has a record.

    A MindSpore error that reports only a missing process is replaced by that process's failure. In
    msrun's scheduler, which computes nothing, this ends the process with the cause of the first
    failure. Without a `folder` there are no records, and only MindSpore notices failures.

    Raises:
        RankError: the body failed because of another process.
    """
    role = os.environ.get("MS_ROLE")
    if role == "MS_SCHED" and folder is not None:
        guard_scheduler(folder)
    # A supervisor signals the ranks itself; a second signal would keep them from saving.
    if role == "MS_WORKER" and FOLDER_VARIABLE not in os.environ:
        signals.end_with_launcher()
    try:
        yield
    except Exception as error:
        of_another = _of_another_rank(error)
        _end(of_another or error)
        if of_another is None:
            raise
        raise of_another from error
    except BaseException as error:
        _end(error)
        raise
    if own := own_record():
        own.end(0, "")


def _end(error: BaseException) -> None:
    """Record the ending, and wait until the others have had time to read it."""
    own = own_record()
    if own is None:
        return
    if isinstance(error, MindCVError):
        own.end(error.exit_code, str(error), getattr(error, "rank", None))
    elif isinstance(error, KeyboardInterrupt):
        own.end(130, "stopped by the user")
    else:
        own.end(1, f"{in_short(error)} ({place_of(error)[0]})")
    if not isinstance(error, Interrupted):
        own.wait_for_others(_LINGER)


def _of_another_rank(error: Exception) -> RankError | None:
    """Return the cause of a MindSpore error that reports only a missing process."""
    if not isinstance(error, RuntimeError) or isinstance(error, MindCVError):
        return None
    own = own_record()
    cause = own and (root_cause(own.others()) or own.first_failure())
    if cause is not None:
        return cause.as_error()
    lines = str(error).splitlines()
    if reason := next(filter(_NOT_TOGETHER.search, lines), None):
        return RankError(_not_together(reason))
    if reason := next(filter(_LOST_CONTACT.search, lines), None):
        return RankError(
            "the other processes of this run cannot be reached any more: a host, a process or the "
            f"network between them is gone; their logs may say more (MindSpore: {reason})"
        )
    return None


def _not_together(reason: str) -> str:
    """Return what to check if not all processes have reached msrun's scheduler."""
    count, host, port, seconds = (
        os.environ.get(f"MS_{key}", "?")
        for key in ("WORKER_NUM", "SCHED_HOST", "SCHED_PORT", "TOPO_TIMEOUT")
    )
    return (
        f"the {count} processes of this run did not come together at {host}:{port} within {seconds}"
        " s (msrun --cluster_time_out). Start msrun on every host, with the same --worker_num (of "
        "all hosts together), --master_addr and a --master_port that no other job uses and each "
        "host can reach. scheduler.log lists the processes that registered (older versions only "
        "with GLOG_v=1), worker_<rank>.log shows who could not reach it (Failed to connect). "
        f"MindSpore: {reason[:300]}"
    )


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """Leave an error of the body for the supervisor of an msrun.

    This rank may have no record yet, e.g. when an option is wrong.
    """
    try:
        yield
    except MindCVError as error:
        folder = os.environ.get(FOLDER_VARIABLE)
        is_rank = os.environ.get("MS_ROLE") == "MS_WORKER"
        if folder and is_rank and not isinstance(error, Interrupted):
            with contextlib.suppress(OSError):
                _leave_last_words(folder, error)
        raise


def _leave_last_words(folder: str, error: MindCVError) -> None:
    cause, of_rank = str(error)[:LONGEST_CAUSE], getattr(error, "rank", None)
    ending = Ending(error.exit_code, cause, of_rank, time.time())
    host, rank = socket.gethostname(), int(os.environ.get("RANK_ID", 0))
    path = Path(folder, f"{host}-{os.getpid()}{_SUFFIX}")
    record = Record(run=0, rank=rank, pid=os.getpid(), host=host, pid_space="", ending=ending)
    with open(path, "w", encoding="utf-8", opener=open_regular) as file:
        json.dump(asdict(record), file)


def first_last_words(folder: Path) -> Record | None:
    """Return the first rank to leave last words in the folder of an attempt; None if none did."""
    found = map(read_record, folder.glob(f"*{_SUFFIX}"))
    return root_cause(record for record in found if record is not None)
