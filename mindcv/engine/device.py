"""The seam to the device: everything that differs between one CPU and eight Ascends."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_group_size, get_rank, init
from numpy.typing import ArrayLike

from .. import __version__
from ..errors import ConfigError, RankError, first_line
from ..names import plural
from ..process.cpu import available_cores, limit_instructions, usable_workers
from ..process.entry_point import DISTRIBUTION
from ..process.files import sha256_of
from ..ranks.record import own_pid_space

_ASCEND_DRIVER = Path("/dev/davinci_manager")  # exists if the machine has cards


@dataclass(frozen=True)
class Runtime:
    """Where this process runs.

    Attributes:
        mode: 0 for graph mode, 1 for PyNative.
        instructions: log text about limited CPU instructions; empty if not limited.
        cores: processor cores for this process; processes on the same cores share them.
    """

    device_target: str
    mode: int
    jit_level: str
    rank: int
    world_size: int
    instructions: str = ""
    cores: int = field(default_factory=lambda: len(available_cores()))

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and files."""
        return self.rank == 0

    def describe(self) -> str:
        """Return one line for the log."""
        mode = f"graph mode, jit level {self.jit_level}" if self.mode == 0 else "PyNative mode"
        count = plural(self.world_size, "process")
        versions = f"{DISTRIBUTION} {__version__}, MindSpore {ms.__version__}"
        parts = [f"{versions} on {self.device_target}", mode, count]
        return ", ".join([*parts, self.instructions] if self.instructions else parts)

    def workers(self, asked: int | None) -> int:
        """Return the number of threads for this process's input pipeline, see `usable_workers`."""
        return usable_workers(asked, self.cores)

    def sum_over_ranks(self, values: ArrayLike) -> np.ndarray:
        """Return the sum of float32 values over all processes; every process must call it."""
        if self.world_size == 1:
            return np.asarray(values)
        return self._all_reduce(Tensor(np.array(values, np.float32))).asnumpy()

    def gather(self, values: ArrayLike) -> np.ndarray:
        """Return float32 vectors of all processes, (world_size, n), bit-exact; all must call it."""
        if self.world_size == 1:
            return np.asarray(values)[None]
        found = self._all_gather(Tensor(np.array(values, np.float32))).asnumpy()
        return found.reshape((self.world_size, -1))

    # Cached, since each new cell compiles its graph again.
    @cached_property
    def _all_reduce(self) -> nn.Cell:
        return _Collective(ops.AllReduce(ops.ReduceOp.SUM))

    @cached_property
    def _all_gather(self) -> nn.Cell:
        return _Collective(ops.AllGather())


class _Collective(nn.Cell):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def construct(self, x):
        return self.operation(x)


def digest_of(*parts: bytes) -> np.ndarray:
    """Return 16 bytes of a hash as float32, which MindSpore exchanges on every device."""
    return as_floats(bytes.fromhex(sha256_of(*parts))[:16])


def as_floats(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8).astype(np.float32)


def start_runtime(
    mode: int = 0,
    device_target: str | None = None,
    jit_level: str | None = None,
    distribute: bool = False,
    seed: int = 42,
) -> Runtime:
    """Set MindSpore's context, join the other processes and seed every generator.

    Args:
        device_target: None for Ascend if there is one, else CPU.
        jit_level: None for O2 on Ascend, O1 on CPU.
        distribute: join the processes that msrun started beside this one.
        seed: the same on every rank, so that all start with the same weights.

    Raises:
        ConfigError: the device does not exist or does not support the jit level; or MindSpore does
            not see the machine's Ascend cards, and no device_target was given.
        RankError: another process cannot be reached.
    """
    target = _set_device(device_target)
    instructions = limit_instructions(target)
    level = jit_level or {"Ascend": "O2"}.get(target, "O1")
    if level == "O2" and target != "Ascend":
        raise ConfigError(f"jit_level O2 is Ascend's; device {target} takes O0 or O1")
    ms.set_context(mode=mode)
    if mode == ms.GRAPH_MODE:
        ms.set_context(jit_config={"jit_level": level})
    rank, world_size = 0, 1
    if distribute:
        init()
        rank, world_size = get_rank(), get_group_size()
        ms.set_auto_parallel_context(
            device_num=world_size, parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True
        )
    ms.set_seed(seed)
    ds.config.set_seed(seed)
    runtime = Runtime(
        target, mode, level, rank=rank, world_size=world_size, instructions=instructions
    )
    runtime = replace(runtime, cores=_share_of_cores(runtime))
    # For pipeline operations without a number of their own; MindSpore's default exceeds small
    # machines.
    ds.config.set_num_parallel_workers(min(8, runtime.cores))
    return runtime


def _share_of_cores(runtime: Runtime) -> int:
    """Return this process's share of its cores; processes bound to the same cores divide them.

    It is the first exchange of the processes, so a missing one is reported now, not after the
    dataset is listed and the network compiled.
    """
    cores = available_cores()
    try:
        found = runtime.gather(digest_of(f"{own_pid_space()} {cores}".encode()))
    except RuntimeError as error:
        raise RankError(
            f"rank {runtime.rank} cannot reach all of the {runtime.world_size} processes: one has "
            "ended, or the network between the devices is down; the logs of the others may say "
            f"more (MindSpore: {first_line(error)})"
        ) from error
    sharing = int((found == found[runtime.rank]).all(1).sum())
    return max(1, len(cores) // sharing)


def _set_device(device_target: str | None) -> str:
    found = ms.get_context("device_target")  # MindSpore has already detected it
    if device_target is None and found == "CPU" and _ASCEND_DRIVER.exists():
        raise ConfigError(
            f"this machine has Ascend cards ({_ASCEND_DRIVER}), but MindSpore {ms.__version__} "
            "cannot load CANN for them: source CANN's set_env.sh in this shell and compare the "
            "versions in docs/ascend.md, or add --device_target CPU"
        )
    card = _card_of(os.environ) if (device_target or found) == "Ascend" else {}
    if device_target is None and not card:
        return found
    device_target = device_target or found
    try:
        if hasattr(ms, "set_device"):  # since 2.5; the older spelling warns since then
            ms.set_device(device_target, **card)
        else:
            ms.set_context(device_target=device_target, **card)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"device_target {device_target} is not on this machine: {first_line(error)}"
        ) from None
    return device_target


def _card_of(environ: Mapping[str, str]) -> dict[str, int]:
    """Return the card that a rank table or mpirun assigns; msrun informs MindSpore itself.

    Without a number, MindSpore 2.5 and later use card 0 in every process.
    """
    if "MS_ROLE" not in environ:
        for key in ("DEVICE_ID", "OMPI_COMM_WORLD_LOCAL_RANK"):
            if environ.get(key, "").isdecimal():
                return {"device_id": int(environ[key])}
    return {}
