"""Tables as aligned text and as csv."""

import csv
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .files import replacing, table_cell, writing


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Format rows as aligned columns; the columns numbered in `left` are left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def write_csv(path: Path, rows: Iterable[Iterable[Any]], option: str = "") -> None:
    """Write rows to a csv file, which appears when it is complete.

    With the name of an option that gave the path, it is written in place: it may be a device.

    Bytes of a path that are not UTF-8 stay as they are; spreadsheets run no text as a formula.

    Raises:
        ConfigError: the file cannot be written.
    """
    how = dict(encoding="utf-8", errors="surrogateescape", newline="")
    place = nullcontext(path) if option else replacing(path)
    with writing(f"{option} {path}".lstrip(), ConfigError), place as unfinished:
        with open(unfinished, "w", **how) as file:
            writer = csv.writer(file, lineterminator="\n")
            for row in rows:
                writer.writerow(table_cell(v) if isinstance(v, str) else v for v in row)
