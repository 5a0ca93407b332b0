"""Read and write MindSpore checkpoints without MindSpore.

MindSpore's own `load_checkpoint` (2.10) copies all bytes of a record into a tensor of the stated
shape without comparing sizes, so a damaged file overwrites the memory of the process. This reader
checks every size before it allocates. The writer may run in a thread beside the training, and the
bytes can be hashed as they are written.

The file is the protocol buffer `Checkpoint` of MindSpore's checkpoint.proto: records (field 1) of a
name (1) and a tensor (2), which has dimensions (1), element type (2) and little-endian content (3).
Consecutive records with the same name are pieces of the same tensor. The file may end with
`crc_num` and, in ten bytes, the CRC-32 of everything before (MindSpore's `crc_check`).
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import BinaryIO

import numpy as np

from . import protobuf
from .array_files import starts_safetensors
from .guards import (
    MOST_AXES,
    Refusal,
    Tensors,
    WeightStream,
    check_count,
    is_web_page,
    native,
    stored_type,
)
from .protobuf import field, head

NAME = "MindSpore checkpoint"

# MindSpore's names of element types (mindspore/train/serialization.py).
_TYPES = {
    name: name.lower()
    for name in (
        "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float16 Float32 Float64 Bool BFloat16"
    ).split()
}
_NAMES = {dtype: name for name, dtype in _TYPES.items() if dtype != "bfloat16"}
_TEXT = "str"  # text entries, which `append_dict` of save_checkpoint allows
_CHECKSUM = b"crc_num"
_CHECKSUM_SIZE = len(_CHECKSUM) + 10
_PIECE = 2**29  # bytes; larger tensors are split into several records, as MindSpore does


def starts(head: bytes, entries: Sequence[str]) -> bool:
    # The length in front of a safetensors header may begin with the same byte.
    return head[:1] == b"\n" and not (starts_safetensors(head, ()) or is_web_page(head))


def read(file: WeightStream) -> Tensors:
    """Return the tensors as views of the file's content; text entries are dropped."""
    body = memoryview(file.read())
    if bytes(body[-_CHECKSUM_SIZE:]).startswith(_CHECKSUM):
        body, checksum = body[:-_CHECKSUM_SIZE], int.from_bytes(body[-10:], "big")
        if zlib.crc32(body) != checksum:
            raise ValueError("its checksum is not that of its content")
    return dict(_tensors(body))


def has_checksum(file: WeightStream) -> bool:
    file.seek(max(0, file.size - _CHECKSUM_SIZE))
    return file.read(len(_CHECKSUM)) == _CHECKSUM


def write(stream: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint with a checksum, so that the file alone shows whether it is intact."""
    checksum = 0
    for part in _encoded(tensors):
        stream.write(part)
        checksum = zlib.crc32(part, checksum)
    stream.write(_CHECKSUM + checksum.to_bytes(10, "big"))


# ---- reading


def _tensors(body: memoryview) -> Iterator[tuple[str, tuple]]:
    seen: set[str] = set()
    pieces: list[memoryview] = []
    before = None
    end = (None, None, None, None)
    for count, (name, dims, kind, piece) in enumerate(chain(_records(body), [end])):
        check_count(count)
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
    numbers = stored_type(_TYPES[kind])
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    # MindSpore writes a scalar with the dimension 0.
    shape = () if dims == (0,) and len(content) else dims
    size = math.prod(shape) * numbers.itemsize
    if size != len(content):
        raise ValueError(
            f"tensor {name!r} of shape {shape} has {len(content)} bytes, {size} expected"
        )
    return _TYPES[kind], native(np.frombuffer(content, numbers).reshape(shape))


def _records(body: memoryview) -> Iterator[tuple[str, tuple, str, memoryview]]:
    """Yield name, dimensions, element type and content of each record."""
    for number, record in _fields(body):
        if number != 1:
            raise ValueError(f"field {number} among its records")
        entry = {}
        for number, value in () if isinstance(record, int) else _fields(record):
            if number == 3:
                raise Refusal("holds a hash table (MapParameter); only tensors are read")
            if number not in (1, 2):
                raise ValueError(f"field {number} in a record")
            entry[number] = value
        if set(entry) != {1, 2} or isinstance(entry[2], int):
            raise ValueError("a record without name or tensor")
        name = _text(entry[1])
        dims, kind, content = [], None, None
        for number, value in _fields(entry[2]):
            if number == 1:
                for size in [value] if isinstance(value, int) else protobuf.varints(value):
                    dims.append(size)
                    if len(dims) > MOST_AXES:
                        raise ValueError(f"tensor {name!r} of more than {MOST_AXES} axes")
            elif number == 2:
                kind = _text(value)
            elif number == 3 and not isinstance(value, int):
                content = value
            else:
                raise ValueError(f"field {number} in tensor {name!r}")
        if kind is None or content is None:
            raise ValueError(f"tensor {name!r} without type or content")
        yield name, tuple(dims), kind, content


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value (int or bytes) of each field of a message."""
    for number, kind, value, _ in protobuf.fields(message):
        if kind not in (protobuf.NUMBER, protobuf.BYTES):
            raise ValueError(f"a field of kind {kind}")
        yield number, value


def _text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise ValueError("a number in place of a text")
    return str(value, "utf-8")


# ---- writing


def _encoded(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes | np.ndarray]:
    for name, array in tensors.items():
        array = np.asarray(array)
        if array.dtype.name not in _NAMES:
            raise ValueError(f"tensor {name!r} is of type {array.dtype}, unknown to MindSpore")
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        content = flat.view(np.uint8)
        # MindSpore recognises a scalar by the dimension 0.
        dims = b"".join(b"\x08" + protobuf.encode(size) for size in array.shape or (0,))
        kind = _NAMES[array.dtype.name].encode()
        start_of_tensor = dims + field(2, kind)
        tag = field(1, name.encode())
        for start in range(0, len(content) or 1, _PIECE):
            piece = content[start : start + _PIECE]
            tensor = start_of_tensor + head(3, len(piece))  # the piece itself follows
            record = tag + head(2, len(tensor) + len(piece)) + tensor
            yield head(1, len(record) + len(piece)) + record
            yield piece
