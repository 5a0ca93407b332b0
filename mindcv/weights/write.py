"""Write a weight file, in any library's names; a file appears under its name when it is whole."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from ..process.files import replacing
from .metadata import ENTRY, Metadata
from .read import FORMATS
from .schemes import FIRST_CONV, OWN, SCHEMES, WRITABLE

SUFFIXES = tuple(form.suffix for form in FORMATS if form.write)


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
    writers = {form.suffix: form.write for form in FORMATS if form.write}
    if path.suffix not in writers:
        raise WeightsError(f"weight file {str(path)!r} should end in {', '.join(SUFFIXES)}")
    tensors = _named(weights, names)
    count = len(tensors)
    if metadata is not None:
        tensors[ENTRY] = metadata.to_array()
    try:
        with replacing(path) as unfinished, open(unfinished, "wb") as stream:
            writers[path.suffix](stream, tensors)
    except (OSError, ImportError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"weight file {str(path)!r} cannot be written: {reason}") from None
    return count


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
        if scheme.is_bgr and name == FIRST_CONV and value.shape[1] == 3:
            value = value[:, ::-1]
        named[theirs] = np.ascontiguousarray(value)
        if name.endswith("moving_variance"):
            # torch's normalisation counts batches, and a strict reader wants the count.
            named[theirs.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return named
