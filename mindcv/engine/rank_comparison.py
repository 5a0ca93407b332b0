"""Several processes of one run must be equal: in what they are told, and in what they compute."""

import hashlib
import importlib.util
import json
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, WeightsError
from .run_state import Snapshot
from .runtime import Runtime

# Options that may differ between hosts: where things lie there, and what is shown.
_OF_A_HOST = frozenset(
    (
        "ckpt_path",
        "ckpt_save_dir",
        "data_dir",
        "debug",
        "import_module",
        "log_interval",
        "log_samples",
        "show_batch",
        "summary_dir",
    )
)
_DIGEST = 16  # bytes


def check_equal_ranks(
    runtime: Runtime,
    options: Mapping[str, Any],
    described: Mapping[str, Any],
    import_module: str | None,
) -> None:
    """Compare options, versions, code and dataset of all processes before the first step.

    Every process must call it.

    Args:
        options: JSON values, see `describe_config`.
        described: see `describe_run`.
        import_module: the user's module; its source belongs to the code.

    Raises:
        ConfigError: an option, a version or the code differs; the message names the first process
            that differs from rank 0, and both values.
        DataError: the dataset does.
    """
    if runtime.world_size == 1:
        return
    facts = {f"option {k}": v for k, v in options.items() if k not in _OF_A_HOST}
    facts |= {f"version of {k}": v for k, v in described["versions"].items()}
    facts |= {k: v for k, v in described["runtime"].items()}
    facts |= {f"dataset's {k}": v for k, v in described["data"].items()}
    facts |= {"code of mindcv": _code_of_mindcv(), "code of import_module": _code(import_module)}
    text = json.dumps(facts, sort_keys=True).encode()
    digests = runtime.gather(_as_floats(hashlib.sha256(text).digest()[:_DIGEST]))
    if (digests == digests[0]).all():
        return
    names = _gather_texts(runtime, socket.gethostname().encode())
    theirs = [json.loads(one) for one in _gather_texts(runtime, text)]
    for rank, other in enumerate(theirs):
        for name in theirs[0]:
            if theirs[0][name] != other.get(name):
                _refuse(name, rank, names, theirs[0][name], other.get(name))


def check_equal_states(runtime: Runtime, snapshot: Snapshot, skipped: Sequence[str] = ()) -> None:
    """Compare weights, optimizer and all else that is saved over the processes, to the last bit.

    Every process must call it, before the state is saved.

    Args:
        snapshot: the state of this process.
        skipped: ends of the names of tensors that may differ.

    Raises:
        WeightsError: it names the processes that differ, and the first tensor. All raise it.
    """
    if runtime.world_size == 1:
        return
    arrays = {**snapshot.weights, **snapshot.state}
    names = sorted(name for name in arrays if not name.endswith(tuple(skipped)))
    digests = [_digest(name, arrays[name]) for name in names]
    whole = hashlib.sha256(b"".join(digests)).digest()[:_DIGEST]
    found = runtime.gather(_as_floats(whole))
    if (found == found[0]).all():
        return
    each = runtime.gather(_as_floats(b"".join(digests)))
    each = each.reshape((runtime.world_size, len(names), _DIGEST))
    differs = (each != each[0]).any((0, 2))
    first = names[int(np.argmax(differs))]
    raise WeightsError(
        f"the processes have diverged: {_deviants(found)}; {int(differs.sum())} of {len(names)} "
        f"tensors, the first of them {first}. A device, its memory or the network made an error, "
        "or code of yours acts by rank. Nothing of this state was saved: go on from the last "
        "checkpoint with --resume auto"
    )


def _deviants(digests: np.ndarray) -> str:
    """Name the ranks that differ from most, or all where no state is that of most."""
    keys = [row.tobytes() for row in digests]
    (common, count), *_ = Counter(keys).most_common()
    if 2 * count <= len(keys):
        groups = {key: [str(rank) for rank, one in enumerate(keys) if one == key] for key in keys}
        return " and ".join(f"rank {', '.join(ranks)}" for ranks in groups.values()) + " differ"
    odd = [str(rank) for rank, key in enumerate(keys) if key != common]
    return f"rank {', '.join(odd)} differs from the {count} others"


def _refuse(name: str, rank: int, hosts: Sequence[bytes], first: Any, other: Any) -> None:
    error = DataError if name.startswith("dataset") else ConfigError
    who = f"rank {rank} on {hosts[rank].decode()}"
    if isinstance(first, (str, int, float, bool, type(None))):
        what = f"{name} is {other} for {who}, and {first} for rank 0 on {hosts[0].decode()}"
    else:
        what = f"{name} of {who} is not that of rank 0 on {hosts[0].decode()}"
    raise error(f"the processes of this run do not fit together: {what}; make the hosts equal")


def _gather_texts(runtime: Runtime, text: bytes) -> list[bytes]:
    """Return a text of every process; the lengths may differ, up to 16 MB."""
    lengths = runtime.gather(np.array([len(text)], np.float32))[:, 0].astype(int)
    rows = runtime.gather(_as_floats(text.ljust(lengths.max())))
    return [row[:length].astype(np.uint8).tobytes() for row, length in zip(rows, lengths)]


def _as_floats(content: bytes) -> np.ndarray:
    """Return bytes as float32, the type that MindSpore exchanges on every device."""
    return np.frombuffer(content, np.uint8).astype(np.float32)


def _digest(name: str, array: np.ndarray) -> bytes:
    return hashlib.sha256(name.encode() + np.ascontiguousarray(array).tobytes()).digest()[:_DIGEST]


def _code_of_mindcv() -> str:
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _code(module: str | None) -> str | None:
    if module is None:
        return None
    is_path = module.endswith(".py")
    origin = module if is_path else importlib.util.find_spec(module).origin
    is_source = origin is not None and Path(origin).is_file()
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if is_source else None
