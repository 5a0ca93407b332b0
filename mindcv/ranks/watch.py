"""End all processes of a run soon after one has failed, with the same cause.

The ranks watch each other; msrun's scheduler, which computes nothing and whose last words msrun
prints, is guarded by a process of its own.
"""

import contextlib
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Container, Iterator
from pathlib import Path

from ..errors import ConfigError, RankError
from ..process.files import sha256_of, writing
from ..process.signals import end_with_parent
from .record import (
    SCHEDULER,
    OwnRecord,
    Record,
    begin_record,
    is_running,
    own_pid_space,
    path_of,
    read_record,
    read_records,
    root_cause,
    write_first_failure,
)

_INTERVAL = 0.2  # seconds between two looks
_GUARD_INTERVAL = 0.1  # the same for up to 8 ranks, of the scheduler's guard
_GRACE = 1.0  # seconds for the training to end by itself
_LONGEST_SAVE = 60.0  # seconds to wait for a checkpoint that is being saved
_LONGEST_END = 10.0  # seconds for the other ranks to end after the first one

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
        runtime.gather([getattr(error, "exit_code", 1)])
        raise
    codes = [int(code) for (code,) in runtime.gather([0])]  # of each process; 0 if it goes on
    rank = next((rank for rank, code in enumerate(codes) if code), None)
    if rank is not None:
        raise RankError(
            f"stopped, because rank {rank} ended with exit code {codes[rank]} before the first "
            f"step; its log says why, with msrun worker_{rank}.log",
            codes[rank],
            rank,
        )


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
    space = [*bytes.fromhex(sha256_of(own_pid_space().encode())[:32])]
    found = runtime.gather([os.getpid(), *space])  # exact: below 2**24
    here = {rank: int(pid) for rank, (pid, *other) in enumerate(found) if other == space}
    watch = Watch(record, here)
    threading.Thread(target=_watch, args=(watch,), name="ranks", daemon=True).start()


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
    error = cause.as_error()
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
        workers = int(os.environ["MS_WORKER_NUM"])
        interval = _GUARD_INTERVAL * max(1, workers // 8)
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT  # it is reaped later
        while os.waitid(os.P_PID, self.child, flags) is None:
            ranks = self._ranks()
            if ranks and self.own is None:
                # If all processes of a job get SIGTERM, the ranks save, and need the scheduler.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                with contextlib.suppress(OSError):  # a full disk: MindSpore reports its end
                    self.own = OwnRecord(self.folder, ranks[0].run, SCHEDULER)
            gone = {one.rank for one in ranks if one.is_gone}
            # Gone at two looks: a rank may write its ending after it was read, and then be gone.
            cause = root_cause([one for one in ranks if one.rank not in gone - gone_before])
            if cause is None and len(ranks) >= workers and all(one.ending for one in ranks):
                cause = next((one for one in ranks if one.ending.exit_code), None)
            if cause is not None:
                return cause
            gone_before = gone
            time.sleep(interval)
        return None

    def _end_because_of(self, cause: Record) -> int:
        if cause.ending is None or cause.ending.is_failure:
            _print(cause.describe())
            with contextlib.suppress(OSError):  # a full disk: the cause was printed
                write_first_failure(self.folder, cause)
        deadline = time.monotonic() + _LONGEST_END
        while time.monotonic() < deadline and any(
            one.ending is None and not one.is_gone for one in self._ranks()
        ):
            time.sleep(_GUARD_INTERVAL)
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
