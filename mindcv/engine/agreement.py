"""Make the processes of a run agree: on options and data, on their results, and on when to stop."""

import importlib.util
import json
import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.options import marked
from ..errors import ConfigError, DataError, WeightsError
from ..process.files import sha256_of, sha256_of_file
from ..process.signals import StopSignal
from .device import Runtime, as_floats, digest_of
from .state import Snapshot

# Largest difference of a weight between two ranks on Ascend, relative to the largest value of its
# tensor. HCCL may sum in another order on each rank, and nothing corrects the difference later. One
# float32 rounding is 6e-8 of a value, so even a random walk of 3e8 steps stays within this limit. A
# gradient that a rank missed, or a flipped sign or exponent, soon exceeds it.
_TOLERANCE = 1e-3
_TINY = np.finfo(np.float32).tiny
_CHUNK = 2**20  # values per exchange; the fixed size needs only one compiled graph

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# How often the processes ask each other: seconds or steps, whichever is sooner.
_SECONDS, _STEPS = 5.0, 100

_logger = logging.getLogger("mindcv.train")


def check_equal_ranks(
    runtime: Runtime,
    options: Mapping[str, Any],
    described: Mapping[str, Any],
    import_module: str | None,
) -> None:
    """Check before the first step that all processes have the same options, code and dataset.

    Every process must call it. `options` are of `describe_config`, `described` is of
    `describe_run`, and `import_module` is the user's module, whose source is compared too.

    Raises:
        ConfigError: an option, a version or the code differs; the message names the first process
            that differs from rank 0, and both values.
        DataError: the dataset differs.
    """
    if runtime.world_size == 1:
        return
    facts = {f"option {k}": v for k, v in options.items() if k not in marked("per_host")}
    facts |= {f"version of {k}": v for k, v in described["versions"].items()}
    facts |= described["runtime"]
    facts |= {f"dataset's {k}": v for k, v in described["data"].items()}
    facts |= {"code of mindcv": _code_of_mindcv(), "code of import_module": _code(import_module)}
    text = json.dumps(facts, sort_keys=True).encode()
    digests = runtime.gather(digest_of(text))
    if (digests == digests[0]).all():
        return
    names = _gather_texts(runtime, socket.gethostname().encode())
    theirs = [json.loads(one) for one in _gather_texts(runtime, text)]
    for rank, other in enumerate(theirs):
        for name in theirs[0]:
            if theirs[0][name] != other.get(name):
                _refuse(name, rank, names, first=theirs[0][name], other=other.get(name))


def check_equal_states(runtime: Runtime, snapshot: Snapshot, skipped: Sequence[str] = ()) -> None:
    """Check that weights, optimizer state and counters are equal on all processes.

    On CPU they must be bit-identical. HCCL on Ascend does not promise that: integers must be equal,
    and weights may differ within a tolerance, with a warning. A difference in the optimizer state
    shows in the weights at the next comparison. Tensors whose names end as in `skipped` may differ.
    Every process must call it, before the state is saved.

    Raises:
        WeightsError: on all processes; the message names those that differ, and the first tensor.
    """
    if runtime.world_size == 1:
        return
    arrays = {**snapshot.weights, **snapshot.state}
    names = sorted(name for name in arrays if not name.endswith(tuple(skipped)))
    digests = [digest_of(name.encode(), arrays[name].tobytes()) for name in names]
    found = runtime.gather(digest_of(*digests))
    if (found == found[0]).all():
        return
    each = runtime.gather(np.concatenate(digests)).reshape((runtime.world_size, len(names), -1))
    differing = [names[i] for i in np.flatnonzero((each != each[0]).any((0, 2)))]
    found_in = f"{len(differing)} of {len(names)} tensors"
    if runtime.device_target == "CPU":
        who = f"{_deviants(found)}; {found_in}, the first of them {differing[0]}"
    else:
        who = _beyond_tolerance(runtime, snapshot, differing, found_in)
        if who is None:
            return
    raise WeightsError(
        f"the processes have diverged: {who}. A device, its memory or the network made an error, "
        "or your own code depends on the rank. Nothing of this state was saved: continue from the "
        "last checkpoint with --resume auto"
    )


def _beyond_tolerance(
    runtime: Runtime, snapshot: Snapshot, names: Sequence[str], found_in: str
) -> str | None:
    """Return which rank differs too much in one of these tensors, and by how much.

    If none does, log a warning and return None.
    """
    arrays = {**snapshot.weights, **snapshot.state}
    counts = [name for name in names if arrays[name].dtype.kind != "f"]
    if counts:
        return f"{found_in}, among them {counts[0]}, which holds whole numbers"
    weights = [name for name in names if name in snapshot.weights]
    parts = _differences_from_rank_0(runtime, [arrays[name] for name in weights])
    if not (parts <= _TOLERANCE).all():  # also catches NaN
        rank, tensor = np.unravel_index(np.argmax(np.nan_to_num(parts, nan=np.inf)), parts.shape)
        return (
            f"rank {rank} differs from rank 0 in {weights[tensor]} by {parts[rank, tensor]:.1e} of "
            f"its largest value, where rounding explains {_TOLERANCE:g}; {found_in} are not equal"
        )
    if runtime.is_main:
        _logger.warning(
            "the ranks are not equal to the last bit: %s, weights by up to %.1e of their tensor's "
            "largest value (an error beyond %g). HCCL may add up in another order on each rank; "
            "HCCL_DETERMINISTIC=true in the environment of all ranks makes its sums "
            "reproducible, but slower",
            found_in,
            parts.max(initial=0.0),
            _TOLERANCE,
        )
    return None


def _differences_from_rank_0(runtime: Runtime, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return how far each rank's arrays are from rank 0's, (world_size, arrays).

    Each difference is relative to the largest value of the array on rank 0.
    """
    if not arrays:
        return np.zeros((runtime.world_size, 0), np.float32)
    own = np.concatenate([one.ravel() for one in arrays]).astype(np.float32)
    first = np.zeros(-(-own.size // _CHUNK) * _CHUNK, np.float32)
    if runtime.is_main:
        first[: own.size] = own
    for start in range(0, first.size, _CHUNK):
        # A sum is exact if all its terms but one are 0.
        first[start : start + _CHUNK] = runtime.sum_over_ranks(first[start : start + _CHUNK])
    ends = np.cumsum([one.size for one in arrays])[:-1]
    pairs = zip(np.split(own, ends), np.split(first[: own.size], ends))
    parts = [np.abs(a - b).max() / max(np.abs(b).max(), _TINY) for a, b in pairs]
    return runtime.gather(parts)


def _deviants(digests: np.ndarray) -> str:
    """Name the ranks that differ from the majority, or all ranks if there is no majority."""
    keys = [row.tobytes() for row in digests]
    (common, count), *_ = Counter(keys).most_common()
    if 2 * count <= len(keys):
        groups = {key: [str(rank) for rank, one in enumerate(keys) if one == key] for key in keys}
        return " and ".join(f"rank {', '.join(ranks)}" for ranks in groups.values()) + " differ"
    odd = [str(rank) for rank, key in enumerate(keys) if key != common]
    return f"rank {', '.join(odd)} differs from the {count} others"


def _refuse(name: str, rank: int, hosts: Sequence[bytes], *, first: Any, other: Any) -> None:
    error = DataError if name.startswith("dataset") else ConfigError
    who = f"rank {rank} on {hosts[rank].decode()}"
    if isinstance(first, (str, int, float, bool, type(None))):
        what = f"{name} is {other} for {who}, and {first} for rank 0 on {hosts[0].decode()}"
    else:
        what = f"{name} of {who} is not that of rank 0 on {hosts[0].decode()}"
    raise error(f"the processes of this run differ: {what}; all hosts need the same")


def _gather_texts(runtime: Runtime, text: bytes) -> list[bytes]:
    """Return the text of every process; the lengths may differ, up to 16 MB."""
    lengths = runtime.gather([len(text)])[:, 0].astype(int)
    rows = runtime.gather(as_floats(text.ljust(lengths.max())))
    return [row[:length].astype(np.uint8).tobytes() for row, length in zip(rows, lengths)]


def _code_of_mindcv() -> str:
    folder = Path(__file__).parents[1]
    paths = sorted(folder.rglob("*.py"))
    return sha256_of(*(str(one.relative_to(folder)).encode() + one.read_bytes() for one in paths))


def _code(module: str | None) -> str | None:
    if module is None:
        return None
    origin = module if module.endswith(".py") else importlib.util.find_spec(module).origin
    return sha256_of_file(origin) if origin and Path(origin).is_file() else None


class Agreement:
    """Makes all processes stop, or save by the clock, after the same step.

    A question to the others is a collective operation outside the graph and waits for the device.
    So several processes ask only every N steps: the first one measures the steps and chooses N for
    all, about 5 seconds and at most 100 steps. Every process must make the same calls. A single
    process needs no question and answers after every step.
    """

    def __init__(self, runtime: Runtime, stop: StopSignal):
        self._runtime, self._stop = runtime, stop
        self._steps = 1  # N
        self._asked: tuple[int, float] | None = None  # step and time of the last question

    def after_step(self, step: int, is_time: bool) -> tuple[signal.Signals | None, bool]:
        """Return the signal to stop by, and whether to save; (None, False) between two questions.

        `step` counts from 1 over the run. `is_time`: this process's clock wants a save; only that
        of the first process counts.
        """
        if self._runtime.world_size > 1 and self._asked is not None:
            asked_at, began = self._asked
            if step < asked_at + self._steps:
                return None, False
            pace = (time.monotonic() - began) / (step - asked_at)
            # At most doubled: one quick step must not delay the next question by minutes.
            self._steps = max(1, min(2 * self._steps, int(_SECONDS / max(pace, 1e-6)), _STEPS))
        return self.now(step, is_time)

    def now(self, step: int, is_time: bool) -> tuple[signal.Signals | None, bool]:
        """Ask as `after_step` does, at a step where all processes ask: the end of an epoch."""
        if self._runtime.world_size == 1:
            return self._stop.received, is_time
        own = [self._stop.received == number for number in _SIGNALS]
        # Small integers: their float32 sum is exact in any order.
        own += [is_time, self._steps] if self._runtime.is_main else [False, 0]
        *counts, saves, steps = self._runtime.sum_over_ranks(own)
        self._steps, self._asked = int(steps), (step, time.monotonic())
        return next((number for number, count in zip(_SIGNALS, counts) if count), None), bool(saves)
