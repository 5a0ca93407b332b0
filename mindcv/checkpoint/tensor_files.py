"""Write arrays as a MindSpore checkpoint or as .npz, to any stream and without MindSpore.

A checkpoint is written here, and not by `save_checkpoint`, so that a thread can write it beside the
training from arrays that are copies, that its bytes are hashed on their way, and that a file which
is being written needs no MindSpore to be tested.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

# MindSpore's names of element types, by numpy's (mindspore/train/serialization.py).
_TYPES = {
    "int8": "Int8",
    "uint8": "UInt8",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "uint32": "UInt32",
    "int64": "Int64",
    "uint64": "UInt64",
    "float16": "Float16",
    "float32": "Float32",
    "float64": "Float64",
    "bool": "Bool",
}
CHECKSUM = b"crc_num"  # MindSpore's mark of the CRC-32 of all before, in ten bytes at the end
_PIECE = 2**29  # bytes of a tensor that one record holds; a larger one is cut, as MindSpore does


def write_checkpoint(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a MindSpore checkpoint.

    The file is the protocol buffer `Checkpoint` of MindSpore's checkpoint.proto: records of field
    1, each with a name (1) and a tensor (2) of dimensions (1), element type (2) and little-endian
    content (3). Consecutive records of one name are the pieces of one tensor. Behind them stands
    the checksum of MindSpore's own `crc_check`, so that the file alone tells whether it is intact.

    Raises:
        ValueError: a tensor of a type that MindSpore does not have.
    """
    checksum = 0
    for part in _records(tensors):
        stream.write(part)
        checksum = zlib.crc32(part, checksum)
    stream.write(CHECKSUM + checksum.to_bytes(10, "big"))


def native(array: np.ndarray) -> np.ndarray:
    """Return an array in the processor's byte order, which does not spell it out.

    `<f4` and `f4` are the same numbers, and numpy takes them for equal; MindSpore 2.7 knows the
    second only.
    """
    spelled = array.dtype.newbyteorder("=")
    return array.view(spelled) if array.dtype.isnative else array.astype(spelled)


def _records(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes | np.ndarray]:
    for name, array in tensors.items():
        array = np.asarray(array)
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        content = flat.view(np.uint8)
        if array.dtype.name not in _TYPES:
            raise ValueError(f"tensor {name!r} is of type {array.dtype}, unknown to MindSpore")
        # A scalar has the dimension 0, by which MindSpore knows it.
        dims = b"".join(b"\x08" + _varint(size) for size in array.shape or (0,))
        head = dims + _field(2, _TYPES[array.dtype.name].encode())
        for start in range(0, len(content) or 1, _PIECE):
            piece = content[start : start + _PIECE]
            tensor = len(head) + 1 + len(_varint(len(piece))) + len(piece)
            tag = _field(1, name.encode())
            record = len(tag) + 1 + len(_varint(tensor)) + tensor
            yield (
                b"\x0a" + _varint(record) + tag + b"\x12" + _varint(tensor) + head
                + b"\x1a" + _varint(len(piece))
            )  # fmt: skip
            yield piece


def write_npz(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an uncompressed .npz file; the stream need not seek, as that of `np.savez` must."""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            # The info has no date, so that equal arrays make equal files.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Encode seven bits a byte, lowest first; all but the last byte have the top bit set."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
