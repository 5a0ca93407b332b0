"""Declare and describe what an ONNX or MINDIR file is: both are protocol buffers.

Bytes of fields that are not named here stay as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...weights.protobuf import BYTES, field, fields

# ModelProto.graph, GraphProto.output, ValueInfoProto.type, TypeProto.tensor_type, Tensor.shape
_OUTPUT_SHAPE = (7, 12, 2, 1, 2)
_DIMENSION, _NAME = 1, 2  # TensorShapeProto.dim, Dimension.dim_param
# onnx.proto has ModelProto.metadata_props there, MindSpore's mind_ir.proto user_info: both are
# entries of two texts, key (1) and value (2).
_ENTRIES, _KEY, _VALUE = 14, 1, 2


def add_entries(path: Path, entries: Mapping[str, str]) -> None:
    """Store texts by key in an ONNX or MINDIR file, where other programs look for them.

    ONNX Runtime returns them as `custom_metadata_map`; the documentation of `mindspore.export` has
    an example that stores a version in `user_info`.
    """
    with open(path, "ab") as file:  # a field may follow at any place of its message
        for pair in entries.items():
            # A file name that is no UTF-8 keeps its other letters.
            key, value = (text.encode("utf-8", "backslashreplace") for text in pair)
            file.write(field(_ENTRIES, field(_KEY, key) + field(_VALUE, value)))


def read_entries(path: Path) -> dict[str, str]:
    """Return the texts that an ONNX or MINDIR file stores by key.

    Raises:
        ValueError: the file is no protocol buffer.
    """
    entries = {}
    for number, kind, entry, _ in fields(memoryview(path.read_bytes())):
        if (number, kind) == (_ENTRIES, BYTES):
            texts = {place: bytes(text) for place, kind, text, _ in fields(entry) if kind == BYTES}
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
        first, *others = [whole for *_, whole in fields(shape)]
        return b"".join([field(_DIMENSION, field(_NAME, name.encode())), *others])

    try:
        changed = _replaced(memoryview(path.read_bytes()), _OUTPUT_SHAPE, rename)
    except ValueError:
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
    for found, kind, inner, whole in fields(message):
        if (found, kind) == (number, BYTES):
            whole = field(number, _replaced(inner, deeper, edit) if deeper else edit(inner))
        parts.append(whole)
    return b"".join(parts)
