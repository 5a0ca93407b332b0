"""Options that are texts `name=value, …`: the settings of regnet and anynet, and `layer_lr`.

`--model regnet` and `--model anynet` take `name=value, name=[value, value]`: the arguments of
`RegNet` and of `AnyNet`, apart from what has an option of its own.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import ConfigError
from .options import OPTIONS
from .values import convert, quoted

_ENTRY = re.compile(r"\s*([\w.]+)\s*=\s*(\[[^]]*\]|\([^)]*\)|[^\s,=()[\]]+)(?:\s*,|\s+|$)")
_SHAPED = ("regnet", "anynet")  # names of models and of their options
# Arguments of the builders that do not shape a plan.
_POOLS = ("avg", "max")
_BESIDES = {"global_pool": str, "zero_init_last": bool}


def settings_of(given, *, place: str = "", needed: bool = False) -> dict[str, Any]:
    """Return the builder's arguments that options set beside the model's name.

    Args:
        given: a `Config` or a namespace with `model`, `regnet` and `anynet`.
        place: of the options, for the message.
        needed: nothing else, such as a weight file, tells them.

    Raises:
        ConfigError: settings of another model than the named one, or such as make no network.
    """
    for key, problem in settings_problems(given, needed=needed):
        raise ConfigError(f"{place}{key}: {problem}")
    text = getattr(given, given.model) if given.model in _SHAPED else None
    return read_settings(given.model, text) if text else {}


def settings_problems(given, *, needed: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for settings that do not fit the model, or make no network."""
    if needed and given.model in _SHAPED and not getattr(given, given.model):
        yield "model", f"{given.model} is shaped by its settings; add --{given.model} SETTINGS"
    for name in _SHAPED:
        text = getattr(given, name)
        if text is None:
            continue
        if given.model != name:
            named = f"but model is {given.model}" if given.model else "and no model is named"
            yield name, f"shapes model {name}, {named}; add --model {name}, or leave it out"
            continue
        try:
            read_settings(name, text)
        except ValueError as error:
            yield name, str(error)


def read_settings(model: str, text: str) -> dict[str, Any]:
    """Return the builder's arguments in a text, as numbers, texts and lists.

    Raises:
        ValueError: an unknown, repeated or missing name, a value of a wrong type, or a network that
            cannot be built.
    """
    from ..design_space.published import GENERAL  # imports NumPy: 0.1 s

    parameters = inspect.signature(GENERAL[model]).parameters
    types = {name: each.annotation for name, each in parameters.items() if name not in OPTIONS}
    settings = {}
    for key, value in _split(text):
        if key in OPTIONS and key in (*parameters, "drop_rate", "drop_path_rate"):
            raise ValueError(f"{key} is an option of its own: --{key} {value}")
        if key not in types | _BESIDES:
            close = get_close_matches(key, [*types, *_BESIDES], n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"{model} does not take {key!r}{hint}; it takes {_names(types)}")
        if key in settings:
            raise ValueError(f"{key} is set twice; keep one")
        try:
            found = convert(value, (types | _BESIDES)[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        settings[key] = list(found) if isinstance(found, tuple) else found
    required = {"widths"} if model == "anynet" else set()
    required |= {n for n, each in parameters.items() if each.default is inspect.Parameter.empty}
    if missing := [name for name in parameters if name in required - set(settings)]:
        raise ValueError(f"{' and '.join(missing)} missing; {model} takes {_names(types)}")
    if settings.get("global_pool", "avg") not in _POOLS:
        raise ValueError(f"global_pool {settings['global_pool']!r} is not one of avg, max")
    GENERAL[model](**{key: settings[key] for key in settings if key not in _BESIDES})
    return {key: value for key, value in settings.items() if value is not None}


def read_factors(text: str | None) -> dict[str, float]:
    """Return the factors of `layer_lr`, by the first part of names; {} for None.

    Raises:
        ValueError: a factor is no number from 0, or a name is given twice.
    """
    factors = {}
    for name, value in _split(text or ""):
        if name in factors:
            raise ValueError(f"{name} is set twice; keep one")
        try:
            factors[name] = convert(value, float)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if factors[name] < 0:
            raise ValueError(f"{name}: {value} is below 0; it is a factor on the learning rate")
    return factors


def shaping(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that shape a network: all but those of its first weights."""
    return {key: value for key, value in settings.items() if key != "zero_init_last"}


def _names(types: Mapping[str, Any]) -> str:
    return ", ".join([*types, *_BESIDES])


def _split(text: str) -> list[tuple[str, str]]:
    entries, place = [], 0
    while place < len(text.rstrip()):
        entry = _ENTRY.match(text, place)
        if not entry:
            raise ValueError(
                f"expected name=value, name=[value, value], …; got {quoted(text[place:].strip())}"
            )
        entries.append(entry.groups())
        place = entry.end()
    return entries


def join_settings(settings: Mapping[str, Any]) -> str:
    """Return the text of a mapping, as yaml or a caller of `load_config` gives it."""

    def shown(value: Any) -> str:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return f"[{', '.join(map(str, value))}]"
        return "none" if value is None else str(value)

    return ", ".join(f"{key}={shown(value)}" for key, value in settings.items())
