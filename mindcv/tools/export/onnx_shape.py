"""Declare the batch of an ONNX file's output as dynamic, as its input's is.

MindSpore (2.10) writes there the batch of the example that it traced. The file is a protocol buffer
of onnx.proto; only this one dimension changes, and all other bytes stay.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...errors import ConfigError

# ModelProto.graph, GraphProto.output, ValueInfoProto.type, TypeProto.tensor_type, Tensor.shape
_OUTPUT_SHAPE = (7, 12, 2, 1, 2)
_DIMENSION, _NAME = 1, 2  # TensorShapeProto.dim, Dimension.dim_param
_BYTES = 2  # wire type of what has a length


def name_output_batch(path: Path, name: str) -> None:
    """Give the first dimension of the outputs of an ONNX file a name in place of a number.

    Raises:
        ConfigError: the file is not laid out as onnx.proto says, or has no output with a shape.
    """
    named = 0

    def rename(shape: memoryview) -> bytes:
        nonlocal named
        named += 1
        first, *others = [shape[start:end] for _, _, start, _, end in _fields(shape)]
        return b"".join([_field(_DIMENSION, _field(_NAME, name.encode())), *others])

    try:
        changed = _replaced(memoryview(path.read_bytes()), _OUTPUT_SHAPE, rename)
    except (IndexError, ValueError):
        named = 0
    if not named:
        raise ConfigError(
            "the ONNX file that MindSpore wrote declares no shape of its output, so its batch "
            "cannot be declared as dynamic; give --batch_size N"
        )
    path.write_bytes(changed)


def _replaced(
    message: memoryview, place: Sequence[int], edit: Callable[[memoryview], bytes]
) -> bytes:
    """Return a message with the nested ones at a path of field numbers edited."""
    number, *deeper = place
    parts = []
    for found, wire_type, start, content, end in _fields(message):
        if (found, wire_type) == (number, _BYTES):
            inner = message[content:end]
            parts.append(_field(number, _replaced(inner, deeper, edit) if deeper else edit(inner)))
        else:
            parts.append(message[start:end])
    return b"".join(parts)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, start, start of the content and end of each field."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        number, wire_type = key >> 3, key & 7
        content = at
        if wire_type == 0:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            length, content = _varint(message, at)
            at = content + length
        elif wire_type in (1, 5):
            at += 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if at > len(message):
            raise ValueError("a field ends behind its message")
        yield number, wire_type, start, content, at


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def _field(number: int, content: bytes) -> bytes:
    groups, length = [], len(content)
    while length > 0x7F:
        groups.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | _BYTES, *groups, length]) + content
