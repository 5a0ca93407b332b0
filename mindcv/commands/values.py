"""Types of command-line values, for `add_argument(type=…)`."""

from argparse import ArgumentTypeError
from collections.abc import Callable


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
