"""Read a MindSpore checkpoint without MindSpore.

Its own `load_checkpoint` (2.10) copies as many bytes as a record holds into a tensor of the shape
that it tells, and compares nothing: a damaged file overwrites the memory of the process. Here every
size is checked before anything is made of it.

The file is the protocol buffer `Checkpoint` of MindSpore's checkpoint.proto, see `write_checkpoint`
in checkpoint/tensor_files.py. Behind it may stand `crc_num` and the CRC-32 of all before, in ten
bytes.
"""

import math
import zlib
from collections.abc import Iterator
from itertools import chain

import numpy as np

from ..checkpoint.tensor_files import CHECKSUM, native
from ..errors import WeightsError
from .limits import MOST_AXES, check_count

# MindSpore's names of element types; bfloat16 is read as uint16, bit by bit.
_TYPES = {
    **{
        f"{sign}Int{bits}": f"{sign.lower()}int{bits}"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    **{f"Float{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "Bool": "bool",
    "BFloat16": "bfloat16",
}
_TEXT = "str"  # text beside the weights, which `append_dict` of save_checkpoint allows


def read_checkpoint(content: bytes, path: str) -> dict[str, tuple]:
    """Read the tensors of a checkpoint, as views of its content.

    Args:
        path: for the message.

    Returns:
        For every tensor its name, with the name of its type and the array; bfloat16 as uint16, bit
        by bit. Entries that are text are left out.

    Raises:
        WeightsError: damaged or cut off, or holding anything but tensors.
    """
    try:
        body = _without_checksum(content)
        return dict(_tensors(body, path))
    except ValueError as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"weight file {path!r} is no MindSpore checkpoint, or a damaged one: {error}; fetch or "
            "write it again"
        ) from None


def has_checksum(content: bytes) -> bool:
    """Tell whether a checkpoint, or its end, tells a checksum of its content."""
    return content[-17:-10] == CHECKSUM


def _without_checksum(content: bytes) -> memoryview:
    whole = memoryview(content)
    if not has_checksum(content):
        return whole
    body = whole[:-17]
    if zlib.crc32(body) != int.from_bytes(content[-10:], "big"):
        raise ValueError("its checksum is not that of its content")
    return body


def _tensors(body: memoryview, path: str) -> Iterator[tuple[str, tuple]]:
    """Yield name and (type, array); consecutive records of one name are pieces of one tensor."""
    seen: set[str] = set()
    pieces: list[memoryview] = []
    before = None
    end = (None, None, None, None)
    for count, (name, dims, kind, piece) in enumerate(chain(_records(body, path), [end])):
        check_count(count, path)
        if before and (name, dims, kind) != before:
            if before[0] == name or before[0] in seen:
                raise ValueError(f"it holds {before[0]!r} twice")
            seen.add(before[0])
            if before[2] != _TEXT:
                yield before[0], _array(*before, pieces)
            pieces = []
        before = (name, dims, kind)
        pieces.append(piece)


def _array(name: str, dims: tuple, kind: str, pieces: list[memoryview]) -> tuple:
    if kind not in _TYPES:
        raise ValueError(f"tensor {name!r} is of the unknown type {kind!r}")
    dtype = _TYPES[kind]
    numbers = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    # A scalar has the dimension 0.
    shape = () if dims == (0,) and len(content) else dims
    size = math.prod(shape) * numbers.itemsize
    if size != len(content):
        raise ValueError(
            f"tensor {name!r} of shape {shape} has {len(content)} bytes, {size} expected"
        )
    return dtype, native(np.frombuffer(content, numbers).reshape(shape))


def _records(body: memoryview, path: str) -> Iterator[tuple[str, tuple, str, memoryview]]:
    """Yield name, dimensions, type and content of each record."""
    for field, record in _fields(body):
        if field != 1:
            raise ValueError(f"field {field} among its records")
        entry = {}
        for number, value in () if isinstance(record, int) else _fields(record):
            if number == 3:
                raise WeightsError(
                    f"weight file {path!r} holds a hash table (MapParameter); only tensors are read"
                )
            if number not in (1, 2):
                raise ValueError(f"field {number} in a record")
            entry[number] = value
        if set(entry) != {1, 2} or isinstance(entry[2], int):
            raise ValueError("a record without name or tensor")
        name = _text(entry[1])
        dims, kind, content = [], None, None
        for field, value in _fields(entry[2]):
            if field == 1:
                for size in [value] if isinstance(value, int) else _varints(value):
                    dims.append(size)
                    if len(dims) > MOST_AXES:
                        raise ValueError(f"tensor {name!r} of more than {MOST_AXES} axes")
            elif field == 2:
                kind = _text(value)
            elif field == 3 and not isinstance(value, int):
                content = value
            else:
                raise ValueError(f"field {field} in tensor {name!r}")
        if kind is None or content is None:
            raise ValueError(f"tensor {name!r} without type or content")
        yield name, tuple(dims), kind, content


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: a number, or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value, at = _varint(message, at)
        if key & 7 == 2:
            if value > len(message) - at:
                raise ValueError("it is cut off")
            value, at = message[at : at + value], at + value
        elif key & 7 != 0:
            raise ValueError(f"a field of kind {key & 7}")
        yield key >> 3, value


def _varints(message: memoryview) -> Iterator[int]:
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, lowest first; return it and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if at == len(message):
            raise ValueError("it is cut off")
        byte = message[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise ValueError("a number in place of a text")
    return str(value, "utf-8")
