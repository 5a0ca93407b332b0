"""Write down how this process ends, so that the others can tell it."""

import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path

from ..config import Config
from ..errors import Interrupted, MindCVError, RankError
from ..process import signals
from ..process.signals import end_with_launcher
from .last_words import FOLDER_VARIABLE
from .record import OwnRecord, Record, root_cause
from .scheduler import guard_scheduler

_LINGER = 2.5  # seconds in which the others take the cause over, before a launcher kills them
# What MindSpore (2.10) says of missing processes: after a heartbeat, in a collective operation that
# waited too long, and in the scheduler; and HCCL, by the codes of its manual: a rank that did not
# come to an operation within HCCL_EXEC_TIMEOUT, or was not met within HCCL_CONNECT_TIMEOUT.
_LOST_CONTACT = re.compile(
    r"The state of the cluster is error|Launch kernel failed: .*All(Reduce|Gather)|timed out node"
    r"|is the first one timed out|TCP connection between the scheduler and the worker"
    r"|\bEI000[26]\b"
)
# What it says (2.7 to 2.10) where processes are missing from the start.
_NOT_TOGETHER = re.compile(
    "Failed to initialize distributed job cluster|Failed to register the compute graph node"
)

_own: OwnRecord | None = None


def begin_record(folder: Path, run: int, rank: int) -> OwnRecord:
    """Write down that this process is running.

    Raises:
        OSError: it cannot be written.
    """
    global _own
    _own = OwnRecord(folder, run, rank)
    signals.before_leaving(lambda: _own.end(130, "stopped by the user"))
    return _own


def telling_the_others(
    main: Callable[[Config], None], has_run_folder: bool = True
) -> Callable[[Config], None]:
    """Return a function that runs `main` and writes its ending into the record, if one was begun.

    What MindSpore raises where another process has ended is told as that process's ending. In the
    scheduler of msrun, which computes nothing, it ends the process with the cause of the first
    failure.

    Args:
        main: the command.
        has_run_folder: False: there are no records, and what MindSpore noticed is all there is.
    """
    watches = os.environ.get("MS_ROLE") == "MS_SCHED" and has_run_folder

    def tells(config: Config) -> None:
        if watches and not config.dry_run:
            guard_scheduler(Path(config.ckpt_save_dir))
        # A supervisor asks the ranks itself; a second signal would not let them save.
        if os.environ.get("MS_ROLE") == "MS_WORKER" and FOLDER_VARIABLE not in os.environ:
            end_with_launcher()
        try:
            main(config)
        except Exception as error:
            told = _of_another_rank(error)
            _end(told or error)
            if told is None:
                raise
            raise told from error
        except BaseException as error:
            _end(error)
            raise
        if _own is not None:
            _own.end(0, "")

    return tells


def rank_error(cause: Record) -> RankError:
    """Return the error of a process that ends because of another one."""
    code = cause.ending.exit_code if cause.ending else 1
    return RankError(f"stopped, because {cause.describe()}", code, cause.rank)


def _end(error: BaseException) -> None:
    """Write the ending down, and stay until the others have had the time to see it."""
    if _own is None:
        return
    if isinstance(error, MindCVError):
        _own.end(error.exit_code, str(error), getattr(error, "rank", None))
    elif isinstance(error, KeyboardInterrupt):
        _own.end(130, "stopped by the user")
    else:
        _own.end(1, _in_short(error))
    if isinstance(error, Interrupted):
        return
    _own.wait_for_others(_LINGER)


def _of_another_rank(error: Exception) -> RankError | None:
    """Return what to tell instead of an error of MindSpore that only says: somebody is missing."""
    if not isinstance(error, RuntimeError) or isinstance(error, MindCVError):
        return None
    cause = _own and (root_cause(_own.others()) or _own.first_failure())
    if cause is not None:
        return rank_error(cause)
    lines = str(error).splitlines()
    if reason := next(filter(_NOT_TOGETHER.search, lines), None):
        return RankError(_not_together(reason))
    reason = next(filter(_LOST_CONTACT.search, lines), None)
    if reason is None:
        return None
    return RankError(
        "the other processes of this run cannot be reached any more: a host, a process or the "
        f"network between them is gone; their logs may tell more (MindSpore: {reason})"
    )


def _not_together(reason: str) -> str:
    """Return what to check where not all processes came to the scheduler of msrun."""
    count, host, port, seconds = (
        os.environ.get(f"MS_{key}", "?")
        for key in ("WORKER_NUM", "SCHED_HOST", "SCHED_PORT", "TOPO_TIMEOUT")
    )
    return (
        f"the {count} processes of this run did not come together at {host}:{port} within {seconds}"
        " s (msrun --cluster_time_out). Start msrun on every host, with the same --worker_num (of "
        "all hosts together), --master_addr and a --master_port that no other job uses and each "
        "host can reach. Who came stands in scheduler.log (is registered; older versions say so "
        "with GLOG_v=1 only), who did not reach it in worker_<rank>.log (Failed to connect). "
        f"MindSpore: {reason[:300]}"
    )


def _in_short(error: BaseException) -> str:
    """Return type, message and place of an error that no user was meant to see."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    # MindSpore's messages begin with rules and headings.
    lines = (line for line in str(error).splitlines() if line.strip() and line[0] != "-")
    return f"{type(error).__name__}: {next(lines, 'no message').strip()}{place}"
