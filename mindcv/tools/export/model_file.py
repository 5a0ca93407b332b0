"""Declare and describe what an ONNX or MINDIR file is: both are protocol buffers.

The wire format is that of protobuf.dev/programming-guides/encoding; bytes of fields that are not
named here stay as they are.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError

# ModelProto.graph, GraphProto.output, ValueInfoProto.type, TypeProto.tensor_type, Tensor.shape
_OUTPUT_SHAPE = (7, 12, 2, 1, 2)
_DIMENSION, _NAME = 1, 2  # TensorShapeProto.dim, Dimension.dim_param
# onnx.proto has ModelProto.metadata_props there, MindSpore's mind_ir.proto user_info: both are
# entries of two texts, key (1) and value (2).
_ENTRIES, _KEY, _VALUE = 14, 1, 2
_BYTES = 2  # wire type of length-delimited fields


def add_entries(path: Path, entries: Mapping[str, str]) -> None:
    """Store texts by key in an ONNX or MINDIR file, where other programs look for them.

    ONNX Runtime returns them as `custom_metadata_map`; the documentation of `mindspore.export` has
    an example that stores a version in `user_info`.
    """
    with open(path, "ab") as file:  # a field may follow at any place of its message
        for pair in entries.items():
            # A file name that is no UTF-8 keeps its other letters.
            key, value = (text.encode("utf-8", "backslashreplace") for text in pair)
            file.write(_field(_ENTRIES, _field(_KEY, key) + _field(_VALUE, value)))


def read_entries(path: Path) -> dict[str, str]:
    """Return the texts that an ONNX or MINDIR file stores by key.

    Raises:
        ValueError, IndexError: the file is no protocol buffer.
    """
    entries, model = {}, memoryview(path.read_bytes())
    for number, wire_type, _, content, end in _fields(model):
        if (number, wire_type) == (_ENTRIES, _BYTES):
            entry = model[content:end]
            texts = {field: bytes(entry[at:stop]) for field, _, _, at, stop in _fields(entry)}
            entries[texts.get(_KEY, b"").decode()] = texts.get(_VALUE, b"").decode()
    return entries


def to_entries(about: Mapping[str, Any]) -> dict[str, str]:
    """Return a description as texts by key: lists and objects as JSON; None is left out."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in about.items()
        if value is not None
    }


def from_entries(entries: Mapping[str, str]) -> dict[str, Any]:
    """Return the description that `to_entries` made texts of; ValueError: it is not one."""
    return {
        key: json.loads(text) if text.startswith(("[", "{")) else text
        for key, text in entries.items()
    }


def name_output_batch(path: Path, name: str) -> None:
    """Name the first dimension of an ONNX file's outputs, which makes it dynamic.

    MindSpore (2.10) names that of the input, but writes the traced batch size for the outputs. The
    file is a protocol buffer of onnx.proto; all other bytes stay unchanged.

    Raises:
        ConfigError: the file does not follow onnx.proto, or has no output with a shape.
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
    """Return a message with the submessages at a path of field numbers edited."""
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
