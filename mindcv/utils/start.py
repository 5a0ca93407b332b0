"""What MindCV's scripts do first: logger, seed, and sums over the processes."""

import logging
import os
import random
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import dtype as mstype
from mindspore import nn, ops

from ..errors import ConfigError
from ..process import environment  # noqa: F401
from ..process.files import writing
from ..process.terminal import Lines, LogFile, Terminal

_FORMAT, _TIME = "%(asctime)s %(name)s %(levelname)s - %(message)s", "[%Y-%m-%d %H:%M:%S]"
_COLORS = {"DEBUG": 35, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}  # ANSI
_set_up: dict[str | None, logging.Logger] = {}


def set_seed(seed: int = 42, rank: int | None = 0) -> None:
    """Seed Python, NumPy and MindSpore with `seed + rank`.

    Ranks with seeds of their own start from different weights; MindCV's scripts pass no rank.
    """
    seed += rank or 0
    random.seed(seed)
    np.random.seed(seed)
    ms.set_seed(seed)


def set_logger(
    name: str | None = None,
    output_dir: str | None = None,
    rank: int | None = 0,
    log_level: int = logging.INFO,
    color: bool = True,
) -> logging.Logger:
    """Return the logger `name` (None: the root), which writes to the terminal and to a file.

    Rank 0 writes to the terminal, with colored levels if it is one; each rank appends to
    `<output_dir>/rank<rank>.log`. A second call returns the logger as it is.

    Raises:
        ConfigError: the file cannot be written.
    """
    if name in _set_up:
        return _set_up[name]
    logger, rank = logging.getLogger(name), rank or 0
    handlers = []
    if rank == 0:
        handlers.append(Terminal())
        handlers[0].setFormatter((_ColoredLines if color else Lines)(_FORMAT, _TIME))
    if output_dir is not None:
        file = Path(output_dir, f"rank{rank}.log")
        with writing(file, ConfigError):
            os.makedirs(output_dir, exist_ok=True)
            handlers.append(LogFile(file, encoding="utf-8", errors="backslashreplace"))
        handlers[-1].setFormatter(Lines(_FORMAT, _TIME))
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(log_level)
    logger.propagate = False
    _set_up[name] = logger
    return logger


class _ColoredLines(Lines):
    def format(self, record: logging.LogRecord) -> str:
        text, level = super().format(record), record.levelname
        if not sys.stdout.isatty() or level not in _COLORS:
            return text
        return text.replace(level, f"\033[{_COLORS[level]}m{level}\033[0m", 1)


class AllReduceSum(nn.Cell):
    """Map a tensor to its sum over all processes.

    MindSpore's CPU backend adds up floats only, so whole numbers travel in two halves. Their sum is
    exact for up to 256 processes and below 2**40.
    """

    def __init__(self):
        super().__init__()
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, x):
        if x.dtype in (mstype.float32, mstype.float16, mstype.bfloat16):
            return self.all_reduce(x)
        flat = x.reshape((-1,))
        high = ops.bitwise_right_shift(flat, 16)
        halves = ops.stack((high, flat - high * 65536))
        sums = ops.cast(self.all_reduce(ops.cast(halves, mstype.float32)), x.dtype)
        return (sums[0] * 65536 + sums[1]).reshape(x.shape)
