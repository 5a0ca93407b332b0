"""The processor: cores and workers, a pool that ends with its user, oneDNN's instructions."""

import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ..errors import ConfigError

# MindSpore passes activations and weights to oneDNN in plain layout (NCHW, OIHW). From oneDNN 3.10,
# which MindSpore 2.9 and 2.10 contain, a processor with AVX-512 gets `jit_uni_ncsp` for these: it
# reorders the activations to NHWC and takes the next best convolution. With weights in plain layout
# that is `ref:any`, unless the convolution is a matrix product (1x1, stride 1, one group). A RegNet
# then trains at a fourteenth of its speed; `ONEDNN_VERBOSE=1` prints `jit_uni_ncsp:conv+ref:any`.
# At AVX2 the same convolutions run as `gemm:jit`.
# Source: oneDNN's `src/cpu/x64/jit_uni_ncsp_convolution.cpp`, which requires avx512_core. Its
# maintainers advise weights of format `any` for every layout of activations (uxlfoundation/oneDNN,
# issues 1132 and 1409), which MindSpore's kernel does not use.
_VARIABLE = "ONEDNN_MAX_CPU_ISA"
_OLD_VARIABLE = "DNNL_MAX_CPU_ISA"  # oneDNN reads either
_LEVEL = "AVX2"  # AVX2_VNNI and AVX2_VNNI_2 are as fast; AVX and SSE41 are slower
_SLOW_VERSIONS = ("2.9", "2.10")  # of MindSpore; the older oneDNNs of 2.7 and 2.8 are not slow

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

    def submit(*call: Any) -> Future:
        # Processes that this starts never see ctrl-C, which a terminal sends to all.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return pool.submit(*call)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield submit
    finally:
        end.close()
        pool.shutdown(cancel_futures=True)
        lifeline.close()


def _start(lifeline: Connection, prepare: Callable[..., None], arguments: tuple) -> None:
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    prepare(*arguments)


def _end_with(lifeline: Connection) -> None:
    wait([lifeline])
    os._exit(1)


def limit_instructions(device_target: str) -> str:
    """Limit oneDNN to AVX2 where its AVX-512 convolutions are slow; return a line for the log.

    Call it before the first convolution of the process; child processes inherit the limit. A user's
    own value stays. The line is empty if nothing is limited, as on any device but CPU.
    """
    import mindspore as ms  # callers have imported it; nothing else here needs it

    is_slow = ".".join(ms.__version__.split(".")[:2]) in _SLOW_VERSIONS
    if device_target != "CPU" or not (is_slow and _has_avx512()):
        return ""
    if not (os.environ.get(_VARIABLE) or os.environ.get(_OLD_VARIABLE)):
        os.environ[_VARIABLE] = _LEVEL
    level = os.environ.get(_VARIABLE) or os.environ[_OLD_VARIABLE]
    return f"oneDNN limited to {level} ({_VARIABLE}, see docs/design/speed.md)"


def _has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:  # oneDNN's avx512_core
    try:
        flags = next(line for line in cpuinfo.open() if line.startswith("flags")).split()
    except (OSError, StopIteration):  # not Linux, or not x86
        return False
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= set(flags)
