"""Configuration: a yaml file and the command line in, one frozen `Config` out.

Nothing here imports MindSpore, so a wrong option is reported at once.
"""

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from ..data.datasets import has_split
from ..errors import ConfigError
from ..names import canonical
from .checks import (
    Rules,
    evaluation_contradictions,
    is_fine_tune,
    is_launched,
    model_contradictions,
    sink_contradictions,
    training_contradictions,
    training_remarks,
)
from .continuation import continue_config, describe_config
from .options import OPTIONS, Config, bounds_of
from .schedule import build_schedule, scale_rate, schedule_contradictions, updates_of_epoch
from .settings import join_settings, read_factors, settings_of, shaping
from .sources import Given, collect, read_command_line, read_yaml, uses_of
from .values import Text, convert, quoted

__all__ = [
    "HEADER",
    "Config",
    "Rules",
    "build_schedule",
    "continue_config",
    "describe_config",
    "dump_config",
    "evaluation_contradictions",
    "is_launched",
    "load_config",
    "model_contradictions",
    "parse_arguments",
    "read_factors",
    "scale_rate",
    "schedule_contradictions",
    "settings_of",
    "shaping",
    "sink_contradictions",
    "training_contradictions",
    "training_remarks",
    "updates_of_epoch",
]

HEADER = "# The resolved config of this run; pass it back with --config."
_LONGEST_MESSAGE = 500  # characters of a contradiction, which may quote a list


def parse_arguments(
    program: str,
    description: str,
    rules: Rules = training_contradictions,
    arguments: Sequence[str] | None = None,
    defaults: Callable[[Config, Collection[str]], tuple[Mapping[str, Any], str]] | None = None,
) -> Config:
    """Return the config of a command line; raises ConfigError as `load_config` does.

    Args:
        program: name in `--help`; its last word (`train.py`, `validate.py` or `lr`) decides which
            options are accepted.
        rules: the contradictions to look for.
        defaults: called with the config once that is valid, and the names of the options that the
            user gave; returns (values of options that were left out, where they come from).
    """
    words = sys.argv[1:] if arguments is None else arguments
    path, overrides = read_command_line(words, program, description)
    given = {**({} if path is None else read_yaml(path)), **overrides}
    _refuse_unused(overrides, _typed_config(given), program)
    config = _resolve(given, rules)
    if defaults is None:
        return config
    values, place = defaults(config, given.keys())
    return _resolve({**_collect_values(values, place), **given}, rules)


def load_config(
    path: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    rules: Rules = training_contradictions,
) -> Config:
    """Return the checked config of a yaml file and of overrides, which win over the file.

    Raises:
        ConfigError: an unknown or repeated key, a wrong type, a value out of range or contradictory
            options; the message names key, value and place.
    """
    given = {} if path is None else read_yaml(path)
    return _resolve({**given, **_collect_values(overrides or {}, "overrides")}, rules)


def dump_config(config: Config) -> str:
    """Return the config as yaml text that `--config` reads back to an equal config."""
    lines = [HEADER]
    for name, entry in OPTIONS.items():
        if entry.metadata["section"]:
            lines += ["", f"# {entry.metadata['section']}"]
        lines.append(f"{name}: {_as_yaml(getattr(config, name))}")
    return "\n".join(lines) + "\n"


def _as_yaml(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    # Quoted as yaml does it, any path survives.
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).rstrip("\n")


def _collect_values(values: Mapping[str, Any], place: str) -> dict[str, Given]:
    """Treat values as if the user had written them at `place`."""

    def text(value: Any) -> Text:
        if isinstance(value, (list, tuple)):
            return [str(item) for item in value]
        if isinstance(value, Mapping):
            return join_settings(value)
        return None if value is None else str(value)

    return collect((key, text(value), place) for key, value in values.items())


def _refuse_unused(overrides: Mapping[str, Given], config: Config, program: str) -> None:
    uses = uses_of(program)
    idle = set() if config.precise_bn_samples else {"measuring"}
    for key, given in overrides.items():
        used_by = OPTIONS[key].metadata["used_by"]
        if used_by & (uses - idle):
            continue
        if used_by & uses:
            why = "concerns training images, which validate.py reads with --precise_bn_samples only"
        else:
            names = {"train": "train.py", "validate": "validate.py", "lr": "lr"}
            others = " and ".join(name for key, name in names.items() if key in used_by)
            why = f"is an option of {others} and would change nothing here"
        raise ConfigError(f"{given.place}: {key}: {why}; leave it out (a yaml file may contain it)")


def _typed_config(given: Mapping[str, Given]) -> Config:
    return Config(**{key: _typed(key, entry) for key, entry in given.items()})


def _resolve(given: Mapping[str, Given], rules: Rules) -> Config:
    config = _typed_config(given)
    if "val_while_train" not in given:
        config = replace(config, val_while_train=_evaluates(config))
    problems = [
        f"{given[key].place if key in given else 'default'}: {key}: {message[:_LONGEST_MESSAGE]}"
        for key, message in rules(config)
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _evaluates(config: Config) -> bool:
    """Return whether a run evaluates that was not told whether to, as `val_while_train` says."""
    if config.val_fraction:
        return True
    return is_fine_tune(config) and has_split(config.dataset, config.data_dir, config.val_split)


def _typed(key: str, given: Given) -> Any:
    entry, place = OPTIONS[key], f"{given.place}: {key}"
    try:
        value = convert(given.text, entry.type)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    limits = entry.metadata
    if isinstance(value, str):
        value = canonical(value, limits["choices"] or limits["known"])
    if limits["choices"] and value is not None and value not in limits["choices"]:
        allowed = ", ".join(str(choice) for choice in limits["choices"])
        raise ConfigError(f"{place}: {quoted(value)} is not one of {allowed}")
    for number in value if isinstance(value, tuple) else (value,):
        bounds = list(bounds_of(limits)) if isinstance(number, (int, float)) else []
        if not all(holds(number, limit) for _, holds, limit in bounds):
            expected = " and ".join(f"{words} {limit}" for words, _, limit in bounds)
            raise ConfigError(f"{place}: {str(number)[:120]} is out of range, expected {expected}")
    return value
