"""Read the yaml file and the command line into raw texts, each with its place of origin."""

import argparse
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from ..errors import ConfigError
from ..names import similar
from . import recipes
from .options import NAMES_ELSEWHERE, OPTIONS, REFUSED_KEYS, RENAMED_KEYS, RENAMED_VALUES
from .settings import join_settings
from .values import Text, convert, describe, quoted

_logger = logging.getLogger("mindcv.config")

# Tags that PyYAML gives to nodes without an explicit tag.
_PLAIN_TAGS = {
    "bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value",
}  # fmt: skip

_DEEPEST = 10  # levels of nested lists and mappings; a recipe has 2
_LARGEST = 65_536  # bytes of a recipe; PyYAML parses any file of this size within a second


@dataclass(frozen=True)
class Given:
    """A value as the user wrote it, and where: `recipe.yaml:12` or `command line`."""

    text: Text
    place: str


def read_yaml(path: str) -> dict[str, Given]:
    """Read a file of lines `key: value`, or a packaged recipe by its name.

    Raises:
        ConfigError: no such file or recipe, not flat yaml, or a wrong key.
    """
    path = recipes.find(path)
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=_ShallowLoader)
    except yaml.MarkedYAMLError as error:
        place = f"{path}:{error.problem_mark.line + 1}"
        raise ConfigError(f"{place}: not valid yaml: {_explain(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"{path}:{line}: not valid yaml: {error.reason}") from None
    except (ValueError, OverflowError):  # PyYAML passes escapes such as "\UFFFFFFFF" to chr()
        place = f"{path}:{_line_of_bad_escape(text)}"
        raise ConfigError(f"{place}: not valid yaml: an escape stands for no character") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected lines `key: value`, got {_kind(root)}")
    return collect(_entries(root, path))


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or error
        hint = recipes.hint(path) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"config file {path!r} cannot be read: {reason}{hint}") from None
    if len(content) > _LARGEST:
        raise ConfigError(
            f"config file {path!r} is larger than {_LARGEST} bytes; a recipe has a few thousand"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: {error.reason}") from None


class _ShallowLoader(yaml.SafeLoader):
    """Stops at the first node nested deeper than any recipe, before it costs time or memory."""

    _depth = 0

    def compose_node(self, parent, index):
        if self._depth == _DEEPEST:
            mark = self.peek_event().start_mark
            problem = "nested too deeply; expected lines `key: value`"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _line_of_bad_escape(text: str) -> int:
    found = re.search(r"\\U(?!0000|000[1-9a-fA-F]|0010)", text)
    return text[: found.start()].count("\n") + 1 if found else 1


def collect(
    entries: Iterable[tuple[str, Text, str]], *, last_wins: bool = False
) -> dict[str, Given]:
    """Map option names to values; ConfigError: an unknown key, or one that is set twice.

    With `last_wins`, the last value of an option counts.
    """
    given: dict[str, Given] = {}
    notes = []
    for written, value, place in entries:
        key, value, note = _today(written, value, place)
        if note:
            notes.append(f"{place}: {note}")
        if key is None:
            continue
        if key in given and not last_wins:
            raise ConfigError(f"{place}: {key} is set twice, first at {given[key].place}; keep one")
        # "~" alone is yaml's null.
        if OPTIONS[key].metadata["is_path"] and isinstance(value, str) and value != "~":
            value = os.path.expanduser(value)
        given[key] = Given(value, place)
    for note in notes:
        _logger.warning(note)
    return given


def _entries(root: yaml.MappingNode, path: str) -> Iterator[tuple[str, Text, str]]:
    for key_node, value_node in root.value:
        place = f"{path}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{place}: expected a key, got {_kind(key_node)}")
        key = key_node.value[:120]
        for node in (key_node, *_nodes(value_node)):
            if node.tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN_TAGS:
                tag = node.tag.replace("tag:yaml.org,2002:", "!!")
                raise ConfigError(
                    f"{place}: {key}: yaml tag {tag[:120]} is not allowed; write the plain value"
                )
        is_mapping = key in OPTIONS and OPTIONS[key].metadata["is_mapping"]
        if is_mapping and isinstance(value_node, yaml.MappingNode):
            pairs = [(inner.value, _text(value, key, place)) for inner, value in value_node.value]
            if len(dict(pairs)) < len(pairs):
                raise ConfigError(f"{place}: {key}: one of its names is set twice; keep one")
            yield key_node.value, join_settings(dict(pairs)), place
        else:
            yield key_node.value, _text(value_node, key, place), place


def _nodes(node: yaml.Node, levels: int = 2) -> Iterator[yaml.Node]:
    """Yield a node and those below it, so many levels: an anchor may lead a node into itself."""
    yield node
    if levels and not isinstance(node, yaml.ScalarNode):
        for inner in node.value:
            for one in inner if isinstance(inner, tuple) else (inner,):
                yield from _nodes(one, levels - 1)


def _explain(error: yaml.MarkedYAMLError) -> str:
    """Say what is wrong and where it began: an open quote is noticed only lines later."""
    if error.context is None:
        return error.problem[:300]
    begin = f" (from line {error.context_mark.line + 1})" if error.context_mark else ""
    return f"{error.context[:200]}{begin}: {error.problem[:300]}"


def _text(node: yaml.Node, key: str, place: str) -> Text:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.SequenceNode) and all(
        isinstance(item, yaml.ScalarNode) for item in node.value
    ):
        return [item.value for item in node.value]
    raise ConfigError(
        f"{place}: {key}: expected a value or a flat list, got {_kind(node, nested=True)}; "
        "recipes are flat: one `key: value` a line"
    )


def _kind(node: yaml.Node, nested: bool = False) -> str:
    sequence = "a nested list" if nested else "a list"
    return {"scalar": "a single value", "sequence": sequence, "mapping": "a mapping"}[node.id]


def _today(key: str, text: Text, place: str) -> tuple[str | None, Text, str]:
    """Return today's key and value for those of MindCV's older recipes, and a note if they differ.

    The key None stands for one that asks for nothing.
    """
    if key in RENAMED_KEYS:
        today, values = RENAMED_KEYS[key]
        value = _translated(text, values)
        return today, value, f"{key} is called {today} today: read as {value}"
    if key in OPTIONS:
        return key, _translated(text, RENAMED_VALUES.get(key, {})), ""
    if key == "config":  # MindCV saves the path of a run's recipe among its options
        return None, text, f"config {text} is not read: its options stand beside it"
    if key in REFUSED_KEYS:
        idle, reason = REFUSED_KEYS[key]
        if not _is_same(text, idle):
            raise ConfigError(f"{place}: {key} is not supported: {reason}; remove it")
        return None, text, f"{key} {text} has no effect: {reason}"
    raise ConfigError(f"{place}: unknown key {quoted(key)}{_nearest(key)}")


def _translated(text: Text, values: Mapping[str, str]) -> Text:
    return next((value for old, value in values.items() if _is_same(text, old)), text)


def _is_same(text: Text, known: str) -> bool:
    """Whether a text means a known truth value, number or word, in any spelling of it."""
    for kind in (bool, float):
        try:
            meant = convert(known, kind)
        except ValueError:
            continue
        try:
            return convert(text, kind) == meant
        except ValueError:
            return False
    return str(text).strip().lower().rstrip("/") == known


def _nearest(key: str) -> str:
    """Suggest similar names for an unknown key."""
    close = similar(key, OPTIONS, NAMES_ELSEWHERE)
    return f"; did you mean {' or '.join(close)}?" if close else "; --help lists the keys"


def read_command_line(
    arguments: Sequence[str], program: str, description: str
) -> tuple[str | None, dict[str, Given]]:
    """Return (config path, option texts); ConfigError: a wrong argument; SystemExit 0: `--help`."""
    parser = _build_parser(program, description)
    found, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        word = unknown[0]
        if word.startswith("--"):
            hint = _nearest(word[2:].split("=")[0])
        else:
            hint = "; every option is written --key value"
        raise ConfigError(f"command line: unknown argument {quoted(word)}{hint}")
    words = vars(found)
    if not words.get("resume", "auto").strip():
        raise ConfigError(
            "command line: resume: nothing given, as by a shell variable that is not set; expected "
            "auto or a path, or leave it out for a new run"
        )
    path = words.pop("config", None)
    path = path and os.path.expanduser(path)
    entries = ((key, text, "command line") for key, text in words.items())
    return path, collect(entries, last_wins=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise ConfigError(f"command line: {message}")


class _StoreLast(argparse.Action):
    """Store the words of an option, in the order in which the options were given last."""

    def __call__(self, parser, namespace, values, option_string=None):
        vars(namespace).pop(self.dest, None)
        setattr(namespace, self.dest, " ".join(values) if isinstance(values, list) else values)


def _build_parser(program: str, description: str) -> argparse.ArgumentParser:
    usage = "%(prog)s [--config RECIPE] [--key value ...]"
    parser = _Parser(prog=program, usage=usage, description=description, allow_abbrev=False)
    last = {"default": argparse.SUPPRESS, "action": _StoreLast}
    bare = {"nargs": "?", "const": "true"}
    text = "yaml file to start from, or the name of a recipe that `mindcv recipes` lists"
    parser.add_argument("-c", "--config", metavar="RECIPE", help=text, **last)
    for name in (*RENAMED_KEYS, *REFUSED_KEYS):  # known, so that _today translates or explains them
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, **bare, **last)
    group, uses = parser, uses_of(program)
    for name, entry in OPTIONS.items():
        if entry.metadata["section"]:
            group = parser.add_argument_group(entry.metadata["section"])
        kinds = describe(entry.type)
        is_list = any(word in kinds for word in ("list of", "numbers", "integers"))
        is_list = is_list or entry.metadata["is_mapping"]
        several = {"nargs": "+"} if is_list else {}
        group.add_argument(
            f"--{name}",
            metavar=_metavar(entry),
            help=_help(entry) if uses & entry.metadata["used_by"] else argparse.SUPPRESS,
            **(bare if "true or false" in kinds else several),
            **last,
        )
    return parser


def uses_of(program: str) -> frozenset[str]:
    """Return the uses of a program as in `OptionRow.used_by`; a script of any other name trains."""
    name = os.path.basename(program.split()[-1]).removesuffix(".py")
    uses = {"validate": ("validate", "measuring"), "lr": ("lr",)}
    return frozenset(uses.get(name, ("train",)))


def _metavar(entry) -> str:
    choices = entry.metadata["choices"]
    if choices and len(choices) <= 4:
        return "{" + ",".join(str(choice) for choice in choices) + "}"
    return {bool: "BOOL", int: "N", float: "X"}.get(entry.type, "VALUE")


def _help(entry) -> str:
    choices = entry.metadata["choices"]
    allowed = f" [{', '.join(map(str, choices))}]" if choices and len(choices) > 4 else ""
    return f"{entry.metadata['help']}{allowed} (default: {entry.default})".replace("%", "%%")
