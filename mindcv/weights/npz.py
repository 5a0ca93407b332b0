"""Read and write .npz archives of numpy arrays."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from ..errors import WeightsError
from .guards import Tensors, WeightStream, native, open_zip

# Bytes to which compressed arrays may unfold, besides a hundred times the size of the file.
_UNFOLDED_FLOOR = 64 * 2**20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def starts(head: bytes, entries: Sequence[str]) -> bool:
    return any(name.endswith(".npy") for name in entries)


def read(file: WeightStream) -> Tensors:
    found = {}
    with open_zip(file) as archive:
        entries = archive.infolist()
        unfolded = sum(entry.file_size for entry in entries)
        if unfolded > _UNFOLDED_FLOOR + 100 * file.size:
            raise WeightsError(
                f"weight file {file.name!r} would unfold to {unfolded} bytes; that is no set of "
                "weights"
            )
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in found:
                raise WeightsError(f"weight file {file.name!r} holds {name!r} twice")
            array = _read_array(archive, entry, file.name)
            found[name] = array.dtype.name, array
    return found


def write(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed .npz file; unlike `np.savez`, this needs no seekable stream."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in tensors.items():
            # ZipInfo has a fixed date by default, so equal arrays make equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> np.ndarray:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(
                f"{entry.filename} has the unknown version {version} of numpy's format"
            )
        shape, fortran_order, dtype = _HEADERS[version](stream)
        if dtype.kind not in "biuf":
            raise WeightsError(
                f"weight file {path!r}: array {entry.filename!r} has elements of type {dtype}; "
                "only numbers are read, so the file is refused and nothing in it was run"
            )
        size = math.prod(shape) * dtype.itemsize
        if size < 0 or size > entry.file_size:
            raise ValueError(f"{entry.filename} announces more than it holds")
        numbers = stream.read()
        if len(numbers) != size:
            raise ValueError(f"{entry.filename} has {len(numbers)} bytes, {size} expected")
    array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if fortran_order else "C")
    return native(array)
