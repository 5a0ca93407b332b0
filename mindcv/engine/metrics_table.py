"""metrics.csv: one row an epoch."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import WeightsError


class MetricsTable:
    """The rows of a run, in memory and, where a path is given, in a csv file.

    Args:
        path: None on all ranks but the first. The table of an earlier run in the folder is kept
            under a number.
        columns: their names.
        rows: of the run so far, where it is resumed; None: it is not.
    """

    def __init__(
        self, path: Path | None, columns: Sequence[str], rows: Sequence[Sequence[str]] | None = None
    ):
        self.path, self.columns = path, columns
        self.rows = [list(row) for row in rows or ()]
        self._is_resumed = rows is not None

    def begin(self) -> None:
        """Begin the file; that of a resumed run loses the rows behind the checkpoint.

        Raises:
            WeightsError: it cannot be written.
        """
        if self.path is None:
            return
        if not self._is_resumed:
            start_table(self.path, self.columns)
            return
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with writing(self.path):
            try:
                with unfinished.open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows([self.columns, *self.rows])
                os.replace(unfinished, self.path)
            finally:
                unfinished.unlink(missing_ok=True)

    def as_dicts(self) -> list[dict[str, str]]:
        """Return the rows as column to cell."""
        return [dict(zip(self.columns, row)) for row in self.rows]

    def append(self, row: Sequence) -> None:
        """Add a row, filled up with empty cells.

        Raises:
            WeightsError: it cannot be written.
        """
        row = [*map(str, row), *[""] * (len(self.columns) - len(row))]
        self.rows.append(row)
        if self.path is not None:
            append_rows(self.path, [row])


def start_table(path: Path, columns: Sequence[str]) -> None:
    """Begin a csv file; the table of an earlier run in the folder is kept under a number.

    Raises:
        WeightsError: it cannot be written.
    """
    with writing(path):
        if path.exists() and path.stat().st_size:
            number = 1
            while path.with_name(f"{path.stem}-{number}{path.suffix}").exists():
                number += 1
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(columns)


def append_rows(path: Path, rows: Sequence[Sequence]) -> None:
    """Add rows to a csv file.

    Raises:
        WeightsError: they cannot be written.
    """
    with writing(path), path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the run folder inside.

    Raises:
        WeightsError: the system refuses it.
    """
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be written: {error.strerror}; the checkpoints are untouched. Make room "
            "or put the folder back, and go on with --resume auto"
        ) from None
