"""Write a weight file, in any library's names; a file appears under its name when it is whole."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..checkpoint import write_checkpoint
from ..errors import WeightsError
from .metadata import ENTRY, Metadata
from .schemes import OWN, SCHEMES, WRITABLE

SUFFIXES = (".ckpt", ".safetensors", ".npz")


def write_weights(
    path: str | os.PathLike,
    weights: Mapping[str, np.ndarray],
    metadata: Metadata | None = None,
    names: str = OWN,
) -> int:
    """Write weights to a .safetensors, .npz or .ckpt file, as the path ends.

    Args:
        path: an older file of this name is replaced when the new one is whole.
        weights: arrays by our names.
        metadata: travels with the weights.
        names: whose names to write; see `WRITABLE`. pycls' stem takes BGR, so it is turned round.

    Returns:
        How many tensors the file holds.

    Raises:
        WeightsError: unknown suffix or names, a tensor the library has no name for, or the file
            cannot be written.
    """
    path = Path(path)
    writers = dict(zip(SUFFIXES, (_write_checkpoint, _write_safetensors, _write_npz)))
    if path.suffix not in writers:
        raise WeightsError(f"weight file {str(path)!r} should end in {', '.join(SUFFIXES)}")
    named = _named(weights, names)
    unfinished = path.parent / f".unfinished-{os.getpid()}" / path.name
    try:
        unfinished.parent.mkdir(exist_ok=True)
        writers[path.suffix](unfinished, named, metadata, names)
        # As umask has it for a new file: safetensors leaves its files to their owner alone.
        unfinished.chmod(unfinished.parent.stat().st_mode & 0o666)
        os.replace(unfinished, path)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, WeightsError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"weight file {str(path)!r} cannot be written: {reason}") from None
    finally:
        shutil.rmtree(unfinished.parent, ignore_errors=True)
    return len(named)


def _named(weights: Mapping[str, np.ndarray], names: str) -> dict[str, np.ndarray]:
    if names == OWN:
        return {name: np.ascontiguousarray(value) for name, value in weights.items()}
    if names not in WRITABLE:
        raise WeightsError(f"names of {names!r} cannot be written; known: {', '.join(WRITABLE)}")
    scheme = SCHEMES[names]
    has_se = any(".se." in name for name in weights)
    named = {}
    for name, value in weights.items():
        theirs = scheme.from_ours(name, has_se)
        if theirs is None:
            raise WeightsError(f"{names} has no name for {name}; the weights keep ours only")
        if scheme.is_bgr and name == "stem.conv.weight" and value.shape[1] == 3:
            value = value[:, ::-1]
        named[theirs] = np.ascontiguousarray(value)
        if name.endswith("moving_variance"):
            # torch's normalisation counts batches; a strict reader wants the entry.
            named[theirs.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return named


def _write_safetensors(path: Path, named, metadata: Metadata | None, names: str) -> None:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError:
        raise WeightsError(
            f"weight file {path.name!r} cannot be written; run: pip install safetensors"
        ) from None
    header = {} if names == OWN else {"format": "pt"}  # transformers asks for it
    if metadata is not None:
        header[ENTRY] = metadata.to_json()
    try:
        save_file(named, path, metadata=header or None)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def _write_npz(path: Path, named, metadata: Metadata | None, _: str) -> None:
    if metadata is not None:
        named = {**named, ENTRY: metadata.to_array()}
    with open(path, "wb") as file:
        np.savez(file, **named)


def _write_checkpoint(path: Path, named, metadata: Metadata | None, _: str) -> None:
    if metadata is not None:
        named = {**named, ENTRY: metadata.to_array()}
    with open(path, "wb") as file:
        write_checkpoint(file, named)
