"""Write a weight file atomically, with the parameter names of any library."""

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
    """Write a .safetensors, .npz or .ckpt file, by the suffix of `path`; return the tensor count.

    An existing file is replaced only when the new one is complete.

    Args:
        weights: arrays by our names.
        names: library whose names to write; see `WRITABLE`. For pycls the first convolution is
            flipped to BGR.

    Raises:
        WeightsError: the suffix or `names` is unknown, the library has no name for a tensor, or the
            file cannot be written.
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
            # torch's BatchNorm counts batches, and loading with strict=True needs the count.
            named[theirs.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return named
