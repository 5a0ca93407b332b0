"""How many threads or processes may work side by side."""

import functools
import logging
import os

from ..errors import ConfigError

_logger = logging.getLogger(__name__)


def available_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on.

    They are fewer than the machine has where a launcher (`msrun --bind_core`), `taskset` or a
    container bound it.
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@functools.cache
def usable_workers(asked: int | None, cores: int | None = None) -> int:
    """Return the number of threads, at most one per core; None: one per core.

    MindSpore refuses more threads than the machine has cores, and recipes ask for the 8 of a large
    machine. A log line tells of the change, once.

    Args:
        cores: those of this process; None: `available_cores`.

    Raises:
        ConfigError: fewer than one are asked for.
    """
    if asked is not None and asked < 1:
        raise ConfigError(f"num_parallel_workers {asked}: expected 1 or more; None: one per core")
    cores = cores or len(available_cores())
    if asked is not None and asked > cores:
        _logger.info(
            "num_parallel_workers %d lowered to %d, the cores that this process has", asked, cores
        )
    return min(asked or cores, cores)
