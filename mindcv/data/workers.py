"""How many threads the pipeline may have."""

import functools
import logging
import os

from ..errors import ConfigError

_logger = logging.getLogger(__name__)


@functools.cache
def usable_workers(asked: int | None) -> int:
    """Return the number of threads, at most one per core; None: one per core.

    MindSpore refuses more threads than cores, and recipes ask for the 8 of a large machine. A log
    line tells of the change, once.

    Raises:
        ConfigError: fewer than one are asked for.
    """
    if asked is not None and asked < 1:
        raise ConfigError(f"num_parallel_workers {asked}: expected 1 or more; None: one per core")
    cores = os.cpu_count() or 1
    if asked is not None and asked > cores:
        _logger.info(
            "num_parallel_workers %d lowered to %d, the cores of this machine", asked, cores
        )
    return min(asked or cores, cores)
