"""The recipes that come with this library, found by name wherever it is installed."""

import difflib
import os
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


@lru_cache(maxsize=1)
def packaged() -> dict[str, Path]:
    """Return the recipes by name, which is that of the file without `.yaml`."""
    installed = _PACKAGE / "configs"  # where setup.py puts the repository's folder
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def find(text: str) -> str:
    """Return the path of a recipe, given as a path or by name; a file of that name comes first.

    Raises:
        ConfigError: a name, not a path, that neither a file nor a recipe has.
    """
    text = os.fspath(text)
    is_file = os.path.lexists(text) and not os.path.isdir(text)
    if os.sep in text or text.endswith((".yaml", ".yml")) or is_file:
        return text
    return str(named(text, what="config: no file and no recipe"))


def named(text: str, what: str = "no recipe") -> Path:
    """Return the path of the packaged recipe of a name; a ConfigError, `what` first: none has it"""
    if text in packaged():
        return packaged()[text]
    close = difflib.get_close_matches(text, packaged(), n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise ConfigError(f"{what} {text!r}; {meant}`mindcv recipes` lists them")


def hint(path: str) -> str:
    """Return how to get the recipe of a missing file's name; empty if there is none."""
    name = Path(path).stem
    return f"; --config {name} takes the packaged recipe of that name" if name in packaged() else ""


def summary(path: Path) -> str:
    """Return the first sentence of a recipe's header."""
    with open(path, encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip(".\n")
