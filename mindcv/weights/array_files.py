"""Files of named arrays: .npz of numpy, and safetensors (optional package)."""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import BinaryIO

import numpy as np

from .guards import (
    ENTRY,
    LARGEST_HEADER,
    Refusal,
    Tensors,
    WeightStream,
    check_count,
    native,
    open_zip,
    stored_type,
)

# Bytes to which compressed arrays may unfold, besides a hundred times the size of the file.
_UNFOLDED_FLOOR = 64 * 2**20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_NAMES = "F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL"
_DTYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
_TYPES = dict(zip(_NAMES.split(), _DTYPES.split()))


def starts_npz(head: bytes, entries: Sequence[str]) -> bool:
    return any(name.endswith(".npy") for name in entries)


def read_npz(file: WeightStream) -> Tensors:
    found = {}
    with open_zip(file) as archive:
        entries = archive.infolist()
        unfolded = sum(entry.file_size for entry in entries)
        if unfolded > _UNFOLDED_FLOOR + 100 * file.size:
            raise Refusal(f"would unfold to {unfolded} bytes; that is not a set of weights")
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in found:
                raise Refusal(f"holds {name!r} twice")
            array = _read_array(archive, entry)
            found[name] = array.dtype.name, array
    return found


def write_npz(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed .npz file; unlike `np.savez`, this needs no seekable stream."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in tensors.items():
            # ZipInfo has a fixed date by default, so equal arrays make equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(
                f"{entry.filename} has the unknown version {version} of numpy's format"
            )
        shape, fortran_order, dtype = _HEADERS[version](stream)
        if dtype.kind not in "biuf":
            raise Refusal(
                f"has elements of type {dtype} in its array {entry.filename!r}; only numbers are "
                "read, so the file is refused and nothing in it was run"
            )
        size = math.prod(shape) * dtype.itemsize
        if size < 0 or size > entry.file_size:
            raise ValueError(f"{entry.filename} announces more than it holds")
        numbers = stream.read()
        if len(numbers) != size:
            raise ValueError(f"{entry.filename} has {len(numbers)} bytes, {size} expected")
    array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if fortran_order else "C")
    return native(array)


def starts_safetensors(head: bytes, entries: Sequence[str]) -> bool:
    return head[5:9] == b"\0\0\0{"  # eight bytes of header length, then the JSON header


def read_safetensors(file: WeightStream) -> Tensors:
    """Return the tensors; metadata in the header becomes an entry, as in a checkpoint."""
    package = _package()
    length = int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise Refusal(f"has a header of {length} bytes; that is not a set of weights")
    file.seek(0)
    content = file.read()
    try:
        entries = package.deserialize(content)
    except package.SafetensorError as error:
        raise ValueError(str(error)) from None
    check_count(len(entries))
    found = {}
    for name, entry in entries:
        dtype = _TYPES.get(entry["dtype"])
        if dtype is None:
            raise Refusal(
                f"has the tensor {name!r} of type {entry['dtype']}; expected one of "
                f"{', '.join(_TYPES)}"
            )
        array = np.frombuffer(entry["data"], stored_type(dtype)).reshape(entry["shape"])
        found[name] = dtype, native(array)
    header = json.loads(content[8 : 8 + length])
    text = (header.get("__metadata__") or {}).get(ENTRY)
    if text is not None:
        found[ENTRY] = "uint8", np.frombuffer(text.encode(), np.uint8)
    return found


def write_safetensors(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write the tensors; the metadata entry goes into the header."""
    package = _package()
    header = {"format": "pt"}  # transformers requires it: torch's array layout
    arrays = dict(tensors)
    if ENTRY in arrays:
        header[ENTRY] = arrays.pop(ENTRY).tobytes().decode()
    try:
        stream.write(package.numpy.save(arrays, metadata=header))
    except package.SafetensorError as error:
        raise ValueError(str(error)) from None


def _package() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "the package safetensors is missing; run: pip install safetensors"
        ) from None
    return safetensors


# How a file of each kind is recognised, read and written.
NPZ = (starts_npz, read_npz, write_npz)
SAFETENSORS = (starts_safetensors, read_safetensors, write_safetensors)
