"""JSON objects that anybody may have written, as the fields of dataclasses."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin

_LARGEST = 2**53  # of a number


def fields_of(kind: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a JSON object for a dataclass's fields.

    Lists become tuples, and objects dataclasses where the field is one. Unknown keys are ignored,
    since a later version may have written them.

    Raises:
        TypeError: a value is not of the field's type.
    """
    own = [entry for entry in fields(kind) if entry.name in found]
    return {entry.name: _read(found[entry.name], entry.type, entry.name) for entry in own}


def _read(value: Any, kind: Any, name: str) -> Any:
    origin, kinds = get_origin(kind), get_args(kind)
    if isinstance(kind, UnionType):
        for each in kinds:
            with suppress(TypeError):
                return _read(value, each, name)
    elif is_dataclass(kind) and type(value) is dict:
        return kind(**fields_of(kind, value))
    elif origin is tuple and type(value) is list:
        return tuple(_read(item, kinds[0], name) for item in value)
    elif origin is dict and type(value) is dict:
        return {key: _read(item, kinds[1], name) for key, item in value.items()}
    elif (origin or kind) in (Mapping, dict) and type(value) is dict:
        return value
    elif kind in (int, float) and type(value) in (int, kind):
        if abs(value) < _LARGEST:
            return value
    elif type(value) is kind:
        return value
    raise TypeError(f"{name} is of another type than {kind}")
