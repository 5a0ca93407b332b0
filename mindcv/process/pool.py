"""Worker threads and processes: how many, and a pool that ends with its user."""

import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import ConfigError

_logger = logging.getLogger(__name__)


def available_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on.

    A launcher (`msrun --bind_core`), `taskset` or a container may allow fewer than the machine has.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@functools.cache
def usable_workers(asked: int | None, cores: int | None = None) -> int:
    """Return the number of threads to use: `asked`, at most one per core; None: one per core.

    MindSpore refuses more threads than the machine has cores, and recipes ask for the 8 of a large
    machine. The change is logged once. `cores` are those of this process; None: `available_cores`.

    Raises:
        ConfigError: fewer than one.
    """
    if asked is not None and asked < 1:
        raise ConfigError(f"num_parallel_workers {asked}: expected 1 or more; None: one per core")
    cores = cores or len(available_cores())
    if asked is not None and asked > cores:
        _logger.info(
            "num_parallel_workers %d lowered to %d, the cores that this process has", asked, cores
        )
    return min(asked or cores, cores)


@contextmanager
def worker_pool(
    workers: int, prepare: Callable[..., None], *arguments: Any
) -> Iterator[Callable[..., Future]]:
    """Yield a function that submits a call to the pool; all its processes end with the body.

    They are spawned, not forked, since MindSpore has threads; so the script that uses them needs a
    main guard, `if __name__ == "__main__":`. Each calls `prepare` with `arguments` before its first
    work. If one dies, submitting and unfinished calls raise
    `concurrent.futures.process.BrokenProcessPool`.
    """
    context = get_context("spawn")
    # The processes end when this one closes the other end, or is killed.
    lifeline, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start, (lifeline, prepare, arguments))
    try:
        yield partial(_submit, pool)
    finally:
        end.close()
        pool.shutdown(cancel_futures=True)
        lifeline.close()


def _submit(pool: ProcessPoolExecutor, *call: Any) -> Future:
    """Submit a call; processes that this starts never see ctrl-C, which a terminal sends to all."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(*call)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(lifeline: Connection, prepare: Callable[..., None], arguments: tuple) -> None:
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    prepare(*arguments)


def _end_with(lifeline: Connection) -> None:
    wait([lifeline])
    os._exit(1)
