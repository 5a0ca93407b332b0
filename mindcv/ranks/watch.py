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
_GRACE = 1.0  # seconds for the training to end by itself
_LONGEST_SAVE = 60.0  # seconds to wait for a checkpoint that is being saved

_logger = logging.getLogger("mindcv.train")


@contextlib.contextmanager
def failing_together(runtime) -> Iterator[None]:
    """End all processes if one fails in the body, for use before `watch_ranks`.

    Every process must call it, and nothing in the body may wait for the others.

    Raises:
        RankError: in the other processes, with the exit code of the first that failed.
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
    """Return the exit code of each process; 0 if it goes on."""
    return [int(code) for (code,) in runtime.gather([own])]


def watch_ranks(folder: str | None, runtime) -> None:
    """Record that this process runs, and end it when another one of the run fails.

    Every process must call it, once the first has locked the run folder. A single process, or a run
    without a folder, needs no watch. Where hosts do not share the folder, each learns of the
    others' failures only through MindSpore's heartbeat.

    Raises:
        ConfigError: the record cannot be written.
        RankError: the record of another process cannot be written.
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
    """Return rank -> process number of the processes visible from here, including this one."""
    space = [*bytes.fromhex(sha256_of(own_pid_space().encode())[:32])]
    found = runtime.gather([os.getpid(), *space])  # exact: below 2**24
    return {rank: int(pid) for rank, (pid, *other) in enumerate(found) if other == space}


class Watch:
    """Looks for the first failure of a run.

    A process that fails writes it into one file, which all others read. A killed process cannot, so
    the rank before it on its host (`processes`: rank -> process number) watches it and writes for
    it. The lowest rank of a host watches the scheduler, if it runs there. So each look reads one or
    two files, however many ranks there are.
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
            # Read only now: its ending would be there already.
            record = read_record(path_of(self.folder, self._after[0][0]))
            if record is None or (record.run == self.run and record.ending is None):
                return record
            del self._after[0]  # its ending is recorded; watch the next one from now on
        return None

    def _gone_scheduler(self) -> Record | None:
        if not self._watches_scheduler:
            return None
        path = path_of(self.folder, SCHEDULER)
        record = read_record(path)
        is_gone = record is not None and record.run == self.run and record.is_gone
        # It may have ended normally since it was read, and removed its record.
        return record if is_gone and read_record(path) == record else None

    def _reported(self, gone: Record | None) -> Record | None:
        """Record a process that is gone, unless it was killed because of a failure."""
        if gone is None:
            return None
        cause = self._failure()
        if cause is None:
            with contextlib.suppress(OSError):  # the ranks of this host notice in turn
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
    """Log the cause, finish a save in progress, and end the process from this thread.

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
