"""End this process soon after another one of the run has failed, and tell the cause."""

import contextlib
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError, RankError
from .record import OwnRecord, Record, root_cause
from .telling import begin_record, rank_error

_INTERVAL = 0.2  # seconds between two looks, up to 8 processes
_GRACE = 1.0  # seconds in which the training may end by itself
_LONGEST_SAVE = 60.0  # seconds that a checkpoint under way is waited for

_logger = logging.getLogger("mindcv.train")


@contextlib.contextmanager
def failing_together(runtime) -> Iterator[None]:
    """Let what fails in one process end all of them, before they watch each other.

    Args:
        runtime: `Runtime`; every process calls this, and nothing in the body waits for the others.

    Raises:
        RankError: in the others, with the exit code of the first that failed.
    """
    if runtime.world_size == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        _exit_codes(runtime, getattr(error, "exit_code", 1))
        raise
    codes = _exit_codes(runtime, 0)
    rank = next((rank for rank, code in enumerate(codes) if code), None)
    if rank is not None:
        raise RankError(
            f"stopped, because rank {rank} ended with exit code {codes[rank]} before the first "
            f"step; its log says why, with msrun worker_{rank}.log",
            codes[rank],
            rank,
        )


def _exit_codes(runtime, own: int) -> list[int]:
    """Return what each process is about to end with; 0: it goes on."""
    import numpy as np  # not sooner: its threads would take ctrl-C, see mindcv/interrupts.py

    return [int(code) for code in runtime.gather(np.array([own], np.float32))[:, 0]]


def watch_ranks(folder: str | None, runtime) -> None:
    """Write down that this process runs, and end it when another one of the run has failed.

    Call it once the first process holds the run folder. Where hosts do not share the folder, each
    learns of the others' ends by MindSpore's heartbeat only.

    Args:
        folder: run folder; None: the run has none, nothing is done.
        runtime: `Runtime`; every process calls this, and for one alone it does nothing.

    Raises:
        ConfigError: the record cannot be written.
        RankError: that of another process cannot.
    """
    if folder is None or runtime.world_size == 1:
        return
    import numpy as np  # as above

    own = secrets.randbelow(2**24 - 1) + 1 if runtime.is_main else 0  # exact as a float32
    run = int(runtime.sum_over_ranks(np.array([own], np.float32))[0])
    with failing_together(runtime):
        try:
            record = begin_record(Path(folder), run, runtime.rank)
        except OSError as error:
            raise ConfigError(
                f"ckpt_save_dir {folder} cannot be written by rank {runtime.rank}: {error.strerror}"
            ) from None
    interval = _INTERVAL * max(1, runtime.world_size // 8)
    threading.Thread(target=_watch, args=(record, interval), name="ranks", daemon=True).start()


def _watch(record: OwnRecord, interval: float) -> None:
    """Look at the others' records until one of them failed or this process ends."""
    gone_before: set[int] = set()
    while record.record.ending is None:
        time.sleep(interval)
        others = record.others()
        # Gone at two looks: an ending may be written between reading it and asking for the process.
        gone = {one.rank for one in others if one.is_gone}
        cause = root_cause(one for one in others if one.rank not in gone - gone_before)
        if cause is not None:
            _end_because_of(cause, record)
            return
        gone_before = gone


def _end_because_of(cause: Record, record: OwnRecord) -> None:
    """Tell the cause, finish a save that is under way, and leave without asking the main thread.

    It waits inside MindSpore for a process that will not come.
    """
    error = rank_error(cause)
    _logger.error("error: %s", error)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        if record.record.ending is not None:
            return  # the main thread is ending by itself
        time.sleep(0.05)
    record.end(error.exit_code, str(error), error.rank)
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(_LONGEST_SAVE)
    sys.stdout.flush()
    os._exit(error.exit_code)
