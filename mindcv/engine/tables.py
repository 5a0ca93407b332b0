"""metrics.csv: one row an epoch."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunFolderError
from ..process.files import open_regular, replacing


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
            RunFolderError: it cannot be written.
        """
        if self.path is None:
            return
        if not self._is_resumed:
            start_table(self.path, self.columns)
            return
        with writing(self.path), replacing(self.path) as unfinished:
            _append(unfinished, [self.columns, *self.rows])

    def as_dicts(self) -> list[dict[str, str]]:
        """Return the rows as column to cell."""
        return [dict(zip(self.columns, row)) for row in self.rows]

    def append(self, row: Sequence) -> None:
        """Add a row, filled up with empty cells.

        Raises:
            RunFolderError: it cannot be written.
        """
        row = [*map(str, row), *[""] * (len(self.columns) - len(row))]
        self.rows.append(row)
        if self.path is not None:
            append_rows(self.path, [row])


def start_table(path: Path, columns: Sequence[str]) -> None:
    """Begin a csv file; the table of an earlier run is kept under a number, if it has rows.

    Raises:
        RunFolderError: it cannot be written.
    """
    with writing(path):
        if _is_worth_keeping(path, columns):
            number = 1
            while os.path.lexists(path.with_name(f"{path.stem}-{number}{path.suffix}")):
                number += 1
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        with replacing(path) as unfinished:
            _append(unfinished, [columns])


def _is_worth_keeping(path: Path, columns: Sequence[str]) -> bool:
    """Tell whether a file holds more than the header, as a run without epochs leaves."""
    if not os.path.lexists(path):
        return False
    names = ",".join(columns).encode()
    with open(path, "rb", opener=open_regular) as file:
        return file.read(len(names) + 3).rstrip() not in (b"", names)


def append_rows(path: Path, rows: Sequence[Sequence]) -> None:
    """Add rows to a csv file.

    Raises:
        RunFolderError: they cannot be written.
    """
    with writing(path):
        _append(path, rows)


def _append(path: Path, rows: Sequence[Sequence]) -> None:
    with open(path, "a", newline="", encoding="utf-8", opener=open_regular) as file:
        csv.writer(file).writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write a file of the run folder; a kill leaves it as it was before, or whole.

    Raises:
        RunFolderError: it cannot be written.
    """
    with writing(path), replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the run folder inside.

    Raises:
        RunFolderError: the system refuses it.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written: {error.strerror}; the checkpoints are untouched. Make room "
            "or put the folder back, and go on with --resume auto"
        ) from None
