"""The tables of a run: metrics.csv with a row per epoch, and the log of each step's images.

A file that cannot be written raises RunFolderError.
"""

import csv
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from ..data.batches import EpochBatches
from ..data.samples import Samples
from ..data.samples.protocol import classes_of
from ..errors import ConfigError, RunFolderError
from ..process import files
from ..process.files import open_regular, printable, replacing, table_cell
from ..task import SINGLE_LABEL, Task
from .evaluation import Measured
from .progress import Progress

_OF_TRAINING = ("epoch", "step", "train_loss", "lr")
_REMEDY = (
    "; the checkpoints are untouched. Make room or put the folder back, and continue with --resume "
    "auto"
)


class MetricsTable:
    """The rows of a run, in memory and in a csv file.

    There is no `path` on ranks beside the first. The table of an earlier run is kept under a
    number.
    """

    def __init__(
        self, path: Path | None = None, has_average: bool = False, task: Task = SINGLE_LABEL
    ):
        self.path, self.task = path, task
        whose = ("val_", "ema_val_") if has_average else ("val_",)
        figures = [start + name for start in whose for name in ("loss", *task.figures)]
        # skipped: updates skipped since the start of the run.
        self.columns = (*_OF_TRAINING, *figures, "skipped")
        self.rows: list[list[str]] = []
        self._is_resumed = False

    def restore(self, rows: Sequence[Sequence[str]]) -> None:
        """Continue after the rows of a checkpoint."""
        self.rows, self._is_resumed = [list(row) for row in rows], True

    def begin(self) -> None:
        """Start the file; after a resume, drop the rows that follow the checkpoint."""
        if self.path is None:
            return
        if not self._is_resumed:
            start_table(self.path, self.columns)
            return
        with writing(self.path), replacing(self.path) as unfinished:
            _append(unfinished, [self.columns, *self.rows])

    def append(
        self, epoch: int, step: int, progress: Progress, accuracies: Sequence[Measured | None]
    ) -> None:
        """Add the row of an epoch; `step` counts over the whole run.

        `accuracies` are of the weights and, if there is one, of their average; None: not evaluated.
        """
        row = [str(epoch), str(step), f"{progress.epoch_loss:.6f}", f"{progress.watch.rate:.8g}"]
        for accuracy in accuracies:
            found = accuracy.figures() if accuracy else dict.fromkeys(("loss", *self.task.figures))
            row += [_cell(name, value) for name, value in found.items()]
        self.rows.append([*row, str(progress.watch.skipped)])
        if self.path is not None:
            append_rows(self.path, self.rows[-1:])

    def scores(self) -> list[tuple[int, float, bool]]:
        """Return epoch and score of each evaluation, and whether averaged weights reached it.

        Theirs counts where an epoch has both.
        """
        column, found = f"val_{self.task.score}", []
        for row in (dict(zip(self.columns, one)) for one in self.rows):
            averaged = row.get(f"ema_{column}", "")
            if score := averaged or row[column]:
                found.append((int(row["epoch"]), float(score), bool(averaged)))
        return found


def _cell(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{6 if name == 'loss' else 4}f}"


class SampleLog:
    """Writes a row for each training step: epoch, step, rank and the indices of its images.

    The indices are of the images actually read, including replacements of bad ones, in the order of
    the batch and separated by spaces. Epoch and step count from 1, as in the log. For a file
    out.csv, out.csv.names lists index, label and path of every image, and rank 1 writes
    out.rank1.csv. A new run keeps an existing file under a number; a resumed run continues it after
    the step from which it resumes, or, on another number of ranks, starts another one.

    Raises:
        ConfigError: the file cannot be written.
    """

    COLUMNS = ("epoch", "step", "rank", "indices")

    def __init__(self, file: str, batches: EpochBatches, samples: Samples, rank: int):
        self.rank, self._file = rank, Path(file)
        self.path = self._path_of(rank)
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
        """Start the table after a step of the run."""
        self._written = step
        if not (step and self._cut_off(self.path, step)):
            start_table(self.path, self.COLUMNS)

    def start_anew(self, step: int, ranks: Iterable[int]) -> None:
        """Keep the tables of ranks that counted other steps under a number, up to a step."""
        for path in map(self._path_of, ranks):
            if path.exists() and self._cut_off(path, step):
                start_table(path, self.COLUMNS)

    def write(self, step: int) -> None:
        """Write the rows of all steps up to this step of the run."""
        rows = []
        while self._written < step and self._read:
            self._written += 1
            epoch, indices = self._read.popleft()
            rows.append((epoch + 1, self._written, self.rank, " ".join(map(str, indices))))
        append_rows(self.path, rows)

    def _remember(self, epoch: int, step: int, indices: np.ndarray) -> None:
        self._read.append((epoch, indices.tolist()))

    def _path_of(self, rank: int) -> Path:
        of_rank = f"{self._file.stem}.rank{rank}{self._file.suffix}"
        return self._file.with_name(of_rank) if rank else self._file

    def _cut_off(self, path: Path, step: int) -> bool:
        """Remove the rows after a step; return False if the file is no such table."""
        how = dict(newline="", encoding="ascii", errors="replace", opener=open_regular)
        with writing(path), open(path, **how) as file:
            if file.readline().rstrip() != ",".join(self.COLUMNS):
                return False
            with replacing(path) as unfinished:
                _append(unfinished, [self.COLUMNS, *_rows_within(file, step)])
        return True


def _rows_within(file, step: int) -> Iterator[list[str]]:
    """Yield the rows up to a step, or to the first one that a kill left incomplete."""
    for row in csv.reader(file):
        is_whole = len(row) == len(SampleLog.COLUMNS) and row[1].isdecimal() and len(row[1]) < 20
        if not is_whole or int(row[1]) > step:
            return
        yield row


def _write_names(path: Path, samples: Samples) -> None:
    labels = (" ".join(map(str, classes_of(label))) for label in samples.labels)
    paths = (table_cell(printable(samples.name(index))) for index in range(len(samples)))
    rows = zip(itertools.count(), labels, paths)
    with replacing(path) as unfinished:
        _append(unfinished, [("index", "label", "path")])
        _append(unfinished, rows)


def start_table(path: Path, columns: Sequence[str]) -> None:
    """Start a csv file; an earlier table that has rows is kept under a number."""
    with writing(path):
        if _is_worth_keeping(path, columns):
            number = 1
            while os.path.lexists(path.with_name(f"{path.stem}-{number}{path.suffix}")):
                number += 1
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        with replacing(path) as unfinished:
            _append(unfinished, [columns])


def _is_worth_keeping(path: Path, columns: Sequence[str]) -> bool:
    """Return whether the file holds more than a header, which is all of a run without epochs."""
    if not os.path.lexists(path):
        return False
    names = ",".join(columns).encode()
    with open(path, "rb", opener=open_regular) as file:
        return file.read(len(names) + 3).rstrip() not in (b"", names)


def append_rows(path: Path, rows: Sequence[Sequence]) -> None:
    with writing(path):
        _append(path, rows)


def _append(path: Path, rows) -> None:
    with open(path, "a", newline="", encoding="utf-8", opener=open_regular) as file:
        csv.writer(file).writerows(rows)


def write_text(path: Path, text: str) -> None:
    """Write a file of the run folder atomically."""
    files.write_text(path, text, RunFolderError, _REMEDY)


def writing(path: Path) -> AbstractContextManager:
    """Raise a RunFolderError that names the file if the body cannot write it."""
    return files.writing(path, RunFolderError, _REMEDY)
