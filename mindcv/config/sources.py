"""Read the yaml file and the command line into raw texts, each with the place it came from."""

import argparse
import difflib
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Sequence

import yaml

from ..errors import ConfigError
from .options import OPTIONS, REFUSED_KEYS, RENAMED_KEYS, RENAMED_VALUES
from .values import Text, describe


@dataclass(frozen=True)
class Given:
    """A value as the user wrote it, and where: `recipe.yaml:12` or `command line`."""

    text: Text
    place: str


def read_yaml(path: str) -> dict[str, Given]:
    """Read a flat yaml file.

    Raises:
        ConfigError: no such file, not yaml, not flat, a key twice or an unknown key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"config file {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path!r} is not UTF-8 text: {error.reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "")
        raise ConfigError(f"{path}{line}: not valid yaml: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; expected lines `key: value`") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected lines `key: value`, got {_kind(root)}")
    given: dict[str, Given] = {}
    for key_node, value_node in root.value:
        place = f"{path}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{place}: expected a key, got {_kind(key_node)}")
        key, value = _today(key_node.value, _text(value_node, key_node.value, place), place)
        if key in given:
            raise ConfigError(f"{place}: {key} is set twice, first at {given[key].place}; keep one")
        given[key] = Given(value, place)
    return given


def _text(node: yaml.Node, key: str, place: str) -> Text:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.SequenceNode) and all(
        isinstance(item, yaml.ScalarNode) for item in node.value
    ):
        return [item.value for item in node.value]
    raise ConfigError(
        f"{place}: {key}: expected a value or a flat list, got {_kind(node)}; "
        "recipes are flat: one `key: value` a line"
    )


def _kind(node: yaml.Node) -> str:
    return {"scalar": "a single value", "sequence": "a list", "mapping": "a mapping"}[node.id]


def _today(key: str, text: Text, place: str) -> tuple[str, Text]:
    """Translate spellings of older recipes; refuse keys that mean nothing here.

    Raises:
        ConfigError: the key is unknown or refused.
    """
    if key in RENAMED_KEYS:
        key, values = RENAMED_KEYS[key]
        return key, values.get(str(text).lower(), text)
    if key in OPTIONS:
        return key, RENAMED_VALUES.get(key, {}).get(text if isinstance(text, str) else "", text)
    if key in REFUSED_KEYS:
        raise ConfigError(f"{place}: {key} is not supported: {REFUSED_KEYS[key]}; remove the line")
    raise ConfigError(f"{place}: unknown key {key!r}{nearest(key)}")


def nearest(key: str) -> str:
    """Return `; did you mean …?` for a misspelt option name, or a pointer to the list."""
    close = difflib.get_close_matches(key.replace("-", "_"), OPTIONS, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else "; --help lists the keys"


def read_command_line(
    arguments: Sequence[str], program: str, description: str
) -> tuple[str | None, dict[str, Given]]:
    """Parse the command line into (config file, option texts).

    Raises:
        ConfigError: an unknown option, an option without its value or one given twice.
        SystemExit: `--help` was asked for; code 0.
    """
    parser = _build_parser(program, description)
    found, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        word = unknown[0]
        if word.startswith("--"):
            hint = nearest(word[2:].split("=")[0])
        else:
            hint = "; every option is written --key value"
        raise ConfigError(f"command line: unknown argument {word!r}{hint}")
    words = {key: value for key, value in vars(found).items() if key != "config"}
    return found.config, {
        key: Given(_today(key, value, "command line")[1], "command line")
        for key, value in words.items()
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ConfigError(f"command line: {message}")


class _StoreOnce(argparse.Action):
    """Store the words of an option; an option given twice is a mistake, not a correction."""

    def __call__(self, parser, namespace, values, option_string=None):
        if hasattr(namespace, self.dest):
            parser.error(f"--{self.dest} is given twice; keep one")
        if isinstance(values, list) and len(values) == 1:
            values = values[0]
        setattr(namespace, self.dest, values)


def _build_parser(program: str, description: str) -> argparse.ArgumentParser:
    usage = "%(prog)s [--config FILE] [--key value ...]"
    parser = _Parser(prog=program, usage=usage, description=description, allow_abbrev=False)
    parser.add_argument(
        "-c", "--config", default=None, metavar="FILE", help="yaml recipe to start from"
    )
    group = parser
    for name, entry in OPTIONS.items():
        limits = entry.metadata
        if limits["section"]:
            group = parser.add_argument_group(limits["section"])
        several = "list of" in describe(entry.type) or "numbers" in describe(entry.type)
        group.add_argument(
            f"--{name}",
            default=argparse.SUPPRESS,
            action=_StoreOnce,
            nargs="?" if entry.type is bool else "+" if several else None,
            const="true" if entry.type is bool else None,
            metavar=_metavar(entry),
            help=_help(entry).replace("%", "%%"),
        )
    return parser


def _metavar(entry) -> str:
    choices = entry.metadata["choices"]
    if choices and len(choices) <= 4:
        return "{" + ",".join(str(choice) for choice in choices) + "}"
    return {bool: "BOOL", int: "N", float: "X"}.get(entry.type, "VALUE")


def _help(entry) -> str:
    default = entry.default if entry.default is not MISSING else None
    choices = entry.metadata["choices"]
    allowed = f" [{', '.join(map(str, choices))}]" if choices and len(choices) > 4 else ""
    fixed = f" ({entry.metadata['fixed']})" if entry.metadata["fixed"] else ""
    return f"{entry.metadata['help']}{allowed}{fixed} (default: {default})"
