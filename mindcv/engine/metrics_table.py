"""metrics.csv: one row an epoch."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path


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
        """Begin the file; that of a resumed run loses the rows behind the checkpoint."""
        if self.path is None:
            return
        if not self._is_resumed:
            start_table(self.path, self.columns)
            return
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])
        os.replace(unfinished, self.path)

    def append(self, row: Sequence) -> None:
        """Add a row, filled up with empty cells."""
        row = [*map(str, row), *[""] * (len(self.columns) - len(row))]
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(row)


def start_table(path: Path, columns: Sequence[str]) -> None:
    """Begin a csv file; the table of an earlier run in the folder is kept under a number."""
    if path.exists():
        number = 1
        while path.with_name(f"{path.stem}-{number}{path.suffix}").exists():
            number += 1
        path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(columns)
