"""Read and write safetensors files (optional package); the header holds the metadata."""

import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import BinaryIO

import numpy as np

from ..errors import WeightsError
from .guards import LARGEST_HEADER, Tensors, WeightStream, check_count, native, stored_type
from .metadata import ENTRY

_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def starts(head: bytes, entries: Sequence[str]) -> bool:
    return head[5:9] == b"\0\0\0{"  # eight bytes of header length, then the JSON header


def read(file: WeightStream) -> Tensors:
    """Return the tensors; metadata in the header becomes an entry, as in a checkpoint."""
    package = _package()
    length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise WeightsError(
            f"weight file {file.name!r} has a header of {length} bytes; that is no set of weights"
        )
    file.seek(0)
    content = file.read()
    try:
        entries = package.deserialize(content)
    except package.SafetensorError as error:
        raise ValueError(str(error)) from None
    check_count(len(entries), file.name)
    found = {}
    for name, entry in entries:
        dtype = _TYPES.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(
                f"weight file {file.name!r}: tensor {name!r} is of type {entry['dtype']}; expected "
                f"one of {', '.join(_TYPES)}"
            )
        array = np.frombuffer(entry["data"], stored_type(dtype)).reshape(entry["shape"])
        found[name] = dtype, native(array)
    header = json.loads(content[8 : 8 + length])
    text = (header.get("__metadata__") or {}).get(ENTRY)
    if text is not None:
        found[ENTRY] = "uint8", np.frombuffer(text.encode(), np.uint8)
    return found


def write(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write the tensors; the metadata entry goes into the header."""
    package = _package()
    from safetensors.numpy import save

    header = {"format": "pt"}  # transformers requires it: torch's array layout
    arrays = dict(tensors)
    if ENTRY in arrays:
        header[ENTRY] = arrays.pop(ENTRY).tobytes().decode()
    try:
        stream.write(save(arrays, metadata=header))
    except package.SafetensorError as error:
        raise ValueError(str(error)) from None


def _package() -> ModuleType:
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            "the package safetensors is missing; run: pip install safetensors"
        ) from None
    return safetensors
