"""Which images went into which step: the option log_samples."""

import csv
import os
from collections import deque
from pathlib import Path

import mindspore as ms
import numpy as np

from ..data.batches import EpochBatches
from ..data.samples import Samples
from ..errors import ConfigError
from ..process.files import open_regular, replacing
from ..process.foreign_text import printable, table_cell
from .tables import append_rows, start_table


class SampleLog(ms.Callback):
    """Writes a row for each step that was taken: epoch, step, rank, and the indices of its images.

    The indices are of the images that were really read: where a bad one was replaced, its
    replacement's. They stand in the order of the batch, separated by spaces. Beside the file, its
    name with .names added lists index, label and path of every image, once. Epoch and step count
    from 1 as in the log. Each process writes a file of its own: FILE, FILE with .rank1, ….

    A resumed run goes on in the same table, behind the step it goes on from. Call it before what
    saves the run, so that no step is missing there.

    Args:
        file: csv file; of a new run, one that stands there is kept under a number.
        batches: of the run.
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

    def on_train_begin(self, run_context):
        self._written = run_context.original_args().cur_step_num
        if not (self._written and self._cut_off(self._written)):
            start_table(self.path, self.COLUMNS)

    def on_train_step_end(self, run_context):
        # With the data sink MindSpore calls after many steps.
        step = run_context.original_args().cur_step_num
        rows = []
        while self._written < step and self._read:
            self._written += 1
            epoch, indices = self._read.popleft()
            rows.append((epoch + 1, self._written, self.rank, " ".join(map(str, indices))))
        append_rows(self.path, rows)

    def _remember(self, epoch: int, step: int, indices: np.ndarray) -> None:
        self._read.append((epoch, indices.tolist()))

    def _cut_off(self, step: int) -> bool:
        """Remove the rows behind a step, if the file is such a table at all."""
        with self.path.open(newline="", encoding="ascii", errors="replace") as file:
            if file.readline().rstrip() != ",".join(self.COLUMNS):
                return False
            with (
                replacing(self.path) as unfinished,
                unfinished.open("w", newline="", encoding="ascii") as kept,
            ):
                table = csv.writer(kept)
                table.writerow(self.COLUMNS)
                for row in csv.reader(file):
                    if len(row) < len(self.COLUMNS) or not _is_within(row[1], step):
                        break
                    table.writerow(row)
        return True


def _is_within(text: str, step: int) -> bool:
    return text.isdecimal() and len(text) < 20 and int(text) <= step


def _write_names(path: Path, samples: Samples) -> None:
    with (
        replacing(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(("index", "label", "path"))
        for index, label in enumerate(samples.labels.tolist()):
            table.writerow((index, label, table_cell(printable(samples.name(index)))))
