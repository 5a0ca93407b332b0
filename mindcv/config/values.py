"""Convert texts to the types of options, by the same rules for yaml and the command line.

YAML's own rules surprise: PyYAML reads `1e-3` as a string, `010` as 8, `1:30` as 90.
"""

import math
import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

# What a yaml node or a command-line word holds: null, a scalar or a list of scalars.
Text = Union[None, str, list]

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NULL = {"", "~", "null", "none"}
_LONGEST_SHOWN = 120


def convert(text: Text, annotation: Any) -> Any:
    """Convert `text` to the type `annotation`; ValueError says what was expected.

    NaN and infinite numbers are refused, also where any other text would be a path or a name.
    """
    members, expected = _members(annotation), describe(annotation)
    if text is None or (isinstance(text, str) and text.strip().lower() in _NULL):
        if type(None) in members:
            return None
        if text is not None and str in members and text.strip() == "":
            return ""
        raise ValueError(f"expected {expected}, got nothing")
    for member in members:
        if member is not type(None):
            try:
                value = _convert_to(text, member)
            except ValueError:
                continue
            if _is_finite(value):
                return value
            expected = "finite numbers" if isinstance(value, tuple) else "a finite number"
            break
    shown = text if isinstance(text, str) else "[" + ", ".join(map(str, text)) + "]"
    raise ValueError(f"expected {expected}, got {quoted(shown)}")


def quoted(value: Any) -> str:
    """Quote a value for a message; a long text is cut, a number stays unquoted."""
    text = str(value)
    if len(text) <= _LONGEST_SHOWN:
        return repr(value)
    return f"{text[:_LONGEST_SHOWN]!r}… ({len(text)} characters)"


def describe(annotation: Any) -> str:
    """Name a type in the user's words, e.g. `a number or 2 numbers`."""
    return " or ".join(_describe_one(member) for member in _members(annotation))


def _describe_one(member: Any) -> str:
    if member is type(None):
        return "null"
    if inner := _items(member):
        plural = {int: "integers", float: "numbers", str: "names"}[inner[0]]
        return f"a list of {plural}" if inner[-1] is Ellipsis else f"{len(inner)} {plural}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a text"}[member]


def _members(annotation: Any) -> tuple:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _items(member: Any) -> tuple:
    """Return the types of a tuple's items, (type, …) for any number of them; (): not a list."""
    if get_origin(member) is Sequence:
        return (*get_args(member), ...)
    return get_args(member) if get_origin(member) is tuple else ()


def _convert_to(text: Text, member: Any) -> Any:
    if inner := _items(member):
        words = _split(text) if isinstance(text, str) else text
        if inner[-1] is Ellipsis:
            inner = inner[:1] * len(words)
        if not words or len(words) != len(inner) or None in words:
            raise ValueError
        return tuple(_convert_to(word, kind) for word, kind in zip(words, inner))
    if not isinstance(text, str) or "\0" in text:  # no path or name can hold NUL
        raise ValueError
    return {bool: _to_bool, int: _to_int, float: _to_float, str: str}[member](text.strip())


def _split(text: str) -> list:
    """Split `0.08,1.0`, `[0.08, 1.0]` or `(0.08, 1.0)`, given as one word of a shell."""
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("[]", "()"):
        inner = inner[1:-1]
    return [word for word in inner.replace(",", " ").split() if word]


def _to_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError


def _to_int(text: str) -> int:
    if not text.lstrip("+-").isdecimal() or "_" in text:
        raise ValueError
    return int(text)


def _to_float(text: str) -> float:
    return float(text.replace("_", "x"))


def _is_finite(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))
