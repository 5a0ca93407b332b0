"""Types of command-line values, for `add_argument(type=…)`."""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable

from ..config.values import convert


def file_path(text: str) -> str:
    """Read a path, in which a leading ~ is the user's home, as the options of train.py do."""
    return os.path.expanduser(text)


def yes_or_no(text: str) -> bool:
    """Read True or False in any spelling that the options of train.py take."""
    try:
        return convert(text, bool)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def at_least(low: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low:
            raise ArgumentTypeError(f"{text!r} is no whole number of at least {low}")
        return value

    return read
