"""Options, argument types and checks that the commands share."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path

from ..config.values import convert
from ..errors import ConfigError


def add_model_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--image_size", type=at_least(8), default=224, help="side of the image, pixels"
    )
    add_import_module(parser)


def add_import_module(parser) -> None:
    parser.add_argument(
        "--import_module", type=file_path, help="module or .py file that registers your own models"
    )


def file_path(text: str) -> str:
    """Expand a leading ~ to the user's home, as the options of train.py do."""
    return os.path.expanduser(text)


def yes_or_no(text: str) -> bool:
    """Parse True or False in any spelling that the options of train.py accept."""
    try:
        return convert(text, bool)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def at_least(low: int) -> Callable[[str], int]:
    """Return a parser of integers from `low` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low:
            raise ArgumentTypeError(f"{text!r} is no whole number of at least {low}")
        return value

    return read


def check_output(
    option: str, path: str, suffixes: Sequence[str], force: bool, inputs: Sequence[str] = ()
) -> None:
    """Refuse, before any work, an output path that cannot be written.

    Args:
        suffixes: allowed endings; empty: any.
        force: allow replacing an existing file.
        inputs: files that must not be overwritten.
    """
    place = Path(path)
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise ConfigError(f"{option} {path!r} is an input file; choose another name")
    if suffixes and not (path.endswith(tuple(suffixes)) and place.stem):
        raise ConfigError(f"{option} {path!r}: expected a name ending in {' or '.join(suffixes)}")
    if not place.parent.is_dir():
        raise ConfigError(f"{option} {path!r}: there is no folder {str(place.parent)!r}")
    if place.is_dir():
        raise ConfigError(f"{option} {path!r} is a folder; give the name of a file")
    if place.exists() and not force:
        raise ConfigError(f"{option} {path!r} exists already; choose another name or add --force")
    if not os.access(place.parent, os.W_OK):
        raise ConfigError(f"{option} {path!r}: the folder {str(place.parent)!r} is not writable")
