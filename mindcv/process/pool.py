"""Shards written side by side, by processes that end with the one that started them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end

from tqdm import tqdm

from ..errors import DataError
from ..tools.pack.shard import ShardResult, ShardTask, write_shard

_POLL_SECONDS = 0.2


class _Stopped(Exception):
    """The process that gave the work wants it no more."""


def write_shards(
    tasks: list[ShardTask], workers: int, done: int, show_progress: bool
) -> Iterator[ShardResult]:
    """Yield the results as the shards are finished, in any order.

    Args:
        tasks: the shards.
        workers: processes at most.
        done: images that an earlier run packed, for the bar.
        show_progress: draw a bar of the images on stderr.

    Raises:
        DataError: see `write_shard`; or a process was killed.
    """
    bar = tqdm(
        total=done + sum(len(task.paths) for task in tasks),
        initial=done,
        unit=" images",
        disable=not show_progress,
        file=sys.stderr,
    )
    with bar:
        if min(workers, len(tasks)) <= 1:
            for task in tasks:
                yield write_shard(task, bar.update)
        else:
            yield from _in_processes(tasks, min(workers, len(tasks)), done, bar)


def _in_processes(tasks, workers: int, done: int, bar: tqdm) -> Iterator[ShardResult]:
    # Fresh processes, not forks: MindSpore has threads by now.
    context = multiprocessing.get_context("spawn")
    stop, count = context.Event(), context.Value("q", done)
    pool = ProcessPoolExecutor(workers, context, _start, (stop, count))
    try:
        pending = _submit(pool, tasks)
        while pending:
            finished, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
            bar.update(count.value - bar.n)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise DataError(
            "a packing process was killed, perhaps for lack of memory; the same command goes on "
            "where it stopped, --workers with fewer processes"
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, tasks: list[ShardTask]) -> set[Future]:
    """Start the processes deaf to ctrl-C, which a terminal sends to all: this one tells them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return {pool.submit(_work, task) for task in tasks}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(stop, count) -> None:
    global _stop, _count
    _stop, _count = stop, count
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait_for_end([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(task: ShardTask) -> ShardResult:
    return write_shard(task, _step)


def _step() -> None:
    if _stop.is_set():
        raise _Stopped
    with _count.get_lock():
        _count.value += 1
