"""The tables of a run: metrics.csv, a row an epoch; and which images went into each step."""

import csv
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from ..data.batches import EpochBatches
from ..data.samples import Samples
from ..errors import ConfigError, RunFolderError
from ..process import files
from ..process.files import open_regular, replacing
from ..process.foreign_text import printable, table_cell
from .evaluation import Accuracy
from .progress import Progress

_OWN = ("epoch", "step", "train_loss", "lr", "val_loss", "val_top1", "val_top5")
_OF_AVERAGES = ("ema_val_loss", "ema_val_top1", "ema_val_top5")
_REMEDY = (
    "; the checkpoints are untouched. Make room or put the folder back, and continue with --resume "
    "auto"
)


class MetricsTable:
    """The rows of a run, in memory and, where a path is given, in a csv file.

    Args:
        path: None on all ranks but the first. The table of an earlier run in the folder is kept
            under a number.
        has_average: there is a running average of the weights, with an accuracy of its own.
    """

    def __init__(self, path: Path | None = None, has_average: bool = False):
        self.path = path
        # skipped: the updates of the run so far.
        self.columns = (*_OWN, *(_OF_AVERAGES if has_average else ()), "skipped")
        self.rows: list[list[str]] = []
        self._is_resumed = False

    def restore(self, rows: Sequence[Sequence[str]]) -> None:
        """Continue after the rows of a checkpoint."""
        self.rows, self._is_resumed = [list(row) for row in rows], True

    def begin(self) -> None:
        """Begin the file; that of a resumed run loses the rows after the checkpoint.

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

    def append(
        self, epoch: int, step: int, progress: Progress, accuracies: Sequence[Accuracy | None]
    ) -> None:
        """Add the row of an epoch.

        Args:
            step: of the run.
            accuracies: of the weights, then of their average where there is one; None: not
                evaluated.

        Raises:
            RunFolderError: it cannot be written.
        """
        row = [str(epoch), str(step), f"{progress.epoch_loss:.6f}", f"{progress.watch.rate:.8g}"]
        for accuracy in accuracies:
            row += ["", "", ""] if accuracy is None else _cells(accuracy)
        self.rows.append([*row, str(progress.watch.skipped)])
        if self.path is not None:
            append_rows(self.path, self.rows[-1:])

    def best(self) -> tuple[float, str, str] | None:
        """Return the best top-1 accuracy, its epoch, and ema where it is the averaged weights'.

        These decide where they are evaluated. None: nothing was evaluated.
        """
        for column, whose in (("ema_val_top1", "ema"), ("val_top1", "")):
            if column in self.columns:
                place = self.columns.index(column)
                found = [(float(row[place]), row[0]) for row in self.rows if row[place]]
                if found:
                    return *max(found, key=lambda pair: pair[0]), whose
        return None


def _cells(accuracy: Accuracy) -> list[str]:
    top5 = "" if accuracy.top5 is None else f"{accuracy.top5:.4f}"
    return [f"{accuracy.loss:.6f}", f"{accuracy.top1:.4f}", top5]


class SampleLog:
    """Writes a row for each step that was taken: epoch, step, rank, and the indices of its images.

    The indices are of the images that were really read: where a bad one was replaced, its
    replacement's. They stand in the order of the batch, separated by spaces. Beside the file, its
    name with .names added lists index, label and path of every image, once. Epoch and step count
    from 1 as in the log. Each process writes a file of its own: FILE, FILE with .rank1, ….

    A resumed run continues in the same table, after the step from which it resumes.

    Args:
        file: csv file; of a new run, one that stands there is kept under a number.
        batches: of the run; they report the images of each batch that they hand out.
        samples: what the indices number.
        rank: of this process.

    Raises:
        ConfigError: the file cannot be written.
        RunFolderError: while training: it cannot be written any more.
    """

    COLUMNS = ("epoch", "step", "rank", "indices")

    def __init__(self, file: str, batches: EpochBatches, samples: Samples, rank: int):
        self.rank, self.path = rank, Path(file)
        if rank:
            self.path = self.path.with_name(f"{self.path.stem}.rank{rank}{self.path.suffix}")
        self._written = 0
        self._read: deque[tuple[int, list[int]]] = deque()
        batches.listeners.append(self._remember)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(open_regular(self.path, os.O_WRONLY | os.O_CREAT))
            if not rank:
                _write_names(self.path.with_name(f"{self.path.name}.names"), samples)
        except OSError as error:
            reason = f"{error.filename or self.path}: {error.strerror}"  # writing names no file
            raise ConfigError(f"log_samples {file} cannot be written: {reason}") from None

    def begin(self, step: int) -> None:
        """Begin the table after a step of the run."""
        self._written = step
        if not (step and self._cut_off(step)):
            start_table(self.path, self.COLUMNS)

    def write(self, step: int) -> None:
        """Write the rows of all steps up to this one of the run."""
        rows = []
        while self._written < step and self._read:
            self._written += 1
            epoch, indices = self._read.popleft()
            rows.append((epoch + 1, self._written, self.rank, " ".join(map(str, indices))))
        append_rows(self.path, rows)

    def _remember(self, epoch: int, step: int, indices: np.ndarray) -> None:
        self._read.append((epoch, indices.tolist()))

    def _cut_off(self, step: int) -> bool:
        """Remove the rows after a step; False: the file is no such table."""
        with self.path.open(newline="", encoding="ascii", errors="replace") as file:
            if file.readline().rstrip() != ",".join(self.COLUMNS):
                return False
            with replacing(self.path) as unfinished:
                _append(unfinished, [self.COLUMNS, *_rows_within(file, step)])
        return True


def _rows_within(file, step: int) -> Iterator[list[str]]:
    """Yield rows up to a step, or to the first one that a kill left unfinished."""
    for row in csv.reader(file):
        is_whole = len(row) == len(SampleLog.COLUMNS) and row[1].isdecimal() and len(row[1]) < 20
        if not is_whole or int(row[1]) > step:
            return
        yield row


def _write_names(path: Path, samples: Samples) -> None:
    labels = enumerate(samples.labels.tolist())
    rows = ((index, label, table_cell(printable(samples.name(index)))) for index, label in labels)
    with replacing(path) as unfinished:
        _append(unfinished, [("index", "label", "path")])
        _append(unfinished, rows)


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


def _append(path: Path, rows) -> None:
    with open(path, "a", newline="", encoding="utf-8", opener=open_regular) as file:
        csv.writer(file).writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write a file of the run folder; a kill leaves it as it was before, or whole.

    Raises:
        RunFolderError: it cannot be written.
    """
    with writing(path), replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def writing(path: Path) -> AbstractContextManager:
    """Write a file of the run folder inside.

    Raises:
        RunFolderError: the system refuses it.
    """
    return files.writing(path, RunFolderError, _REMEDY)
