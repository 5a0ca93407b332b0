"""End this process soon after another one of the run has failed, with the same cause."""

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
from ..process.files import sha256_of, writing
from .failure import begin_record, rank_error
from .record import (
    SCHEDULER,
    OwnRecord,
    Record,
    is_running,
    own_pid_space,
    path_of,
    read_record,
    root_cause,
    write_first_failure,
)

_INTERVAL = 0.2  # seconds between two looks
_GRACE = 1.0  # seconds in which the training may end by itself
_LONGEST_SAVE = 60.0  # seconds that a checkpoint under way is waited for

_logger = logging.getLogger("mindcv.train")


@contextlib.contextmanager
def failing_together(runtime) -> Iterator[None]:
    """End all processes when one fails in the body, before they watch each other.

    Every process calls this, and nothing in the body waits for the others.

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
    return [int(code) for (code,) in runtime.gather([own])]


def watch_ranks(folder: str | None, runtime) -> None:
    """Write down that this process runs, and end it when another one of the run has failed.

    Every process calls it, once the first holds the run folder; a process alone and a run without a
    folder need no watch. Where hosts do not share the folder, each learns of the others' ends by
    MindSpore's heartbeat only.

    Raises:
        ConfigError: the record cannot be written.
        RankError: that of another process cannot.
    """
    if folder is None or runtime.world_size == 1:
        return
    own = secrets.randbelow(2**24 - 1) + 1 if runtime.is_main else 0  # exact as a float32
    run = int(runtime.sum_over_ranks([own])[0])
    with failing_together(runtime):
        with writing(f"rank {runtime.rank}: ckpt_save_dir {folder}", ConfigError):
            record = begin_record(Path(folder), run, runtime.rank)
            if runtime.is_main:
                write_first_failure(Path(folder), None)
    watch = Watch(record, _processes_here(runtime))
    threading.Thread(target=_watch, args=(watch,), name="ranks", daemon=True).start()


def _processes_here(runtime) -> dict[int, int]:
    """Return rank to process number of those that this process can see, itself among them."""
    space = [*bytes.fromhex(sha256_of(own_pid_space().encode())[:32])]
    found = runtime.gather([os.getpid(), *space])  # exact: below 2**24
    return {rank: int(pid) for rank, (pid, *other) in enumerate(found) if other == space}


class Watch:
    """Looks for the first failure of a run.

    Whoever fails writes it into one file, which all the others read. A process that is killed
    cannot, so the rank before it on its host (`processes`: rank to process number) watches it, and
    writes. The lowest rank of a host watches the scheduler, if that is there. So a look takes each
    rank one file or two, however many ranks there are.
    """

    def __init__(self, own: OwnRecord, processes: dict[int, int]):
        self.own, self.folder, self.run = own, own.folder, own.record.run
        rank = own.record.rank
        ring = sorted(processes, key=lambda one: (one <= rank, one))
        self._after = [(one, processes[one]) for one in ring if one != rank]
        self._watches_scheduler = rank == min(processes, default=rank)

    def look(self) -> Record | None:
        return self._failure() or self._reported(self._gone_rank() or self._gone_scheduler())

    def _failure(self) -> Record | None:
        seen = self.own.first_failure()
        return seen and (root_cause(self.own.others()) or seen)

    def _gone_rank(self) -> Record | None:
        while self._after and not is_running(self._after[0][1]):
            # Read only now: its ending would be there.
            record = read_record(path_of(self.folder, self._after[0][0]))
            if record is None or (record.run == self.run and record.ending is None):
                return record
            del self._after[0]  # it has ended; from now on the next one is watched
        return None

    def _gone_scheduler(self) -> Record | None:
        if not self._watches_scheduler:
            return None
        path = path_of(self.folder, SCHEDULER)
        record = read_record(path)
        is_gone = record is not None and record.run == self.run and record.is_gone
        # It may have ended well since it was read, and removed its record.
        return record if is_gone and read_record(path) == record else None

    def _reported(self, gone: Record | None) -> Record | None:
        """Write down a process that is gone, unless it was killed because of a failure."""
        if gone is None:
            return None
        cause = self._failure()
        if cause is None:
            with contextlib.suppress(OSError):  # the ranks of this host find out in turn
                write_first_failure(self.folder, gone)
        return cause or gone


def _watch(watch: Watch) -> None:
    while watch.own.record.ending is None:
        time.sleep(_INTERVAL)
        cause = watch.look()
        if cause is not None:
            _end_because_of(cause, watch.own)
            return


def _end_because_of(cause: Record, record: OwnRecord) -> None:
    """Log the cause, finish a save that is under way, and end the process from this thread.

    The main thread waits inside MindSpore for a process that will not come.
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
