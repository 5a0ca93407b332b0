"""Read the folder of a training run, even of an interrupted one."""

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...config import HEADER, Config, load_config
from ...config.options import OPTIONS
from ...errors import ConfigError, DataError
from ...process.files import read_regular, reading
from ..charts import Chart

_CHARTS = (  # title, and the text that names of its columns contain
    ("loss", "loss"),
    ("accuracy, %", "top"),
    ("learning rate", "lr"),
)
_LARGEST = 2**26  # bytes of metrics.csv or config.yaml
_MANY_POINTS = 2000  # more than the pixels of a curve on a screen


@dataclass(frozen=True)
class Row:
    """An epoch of metrics.csv: the columns with a finite number."""

    epoch: int
    values: dict[str, float]


@dataclass(frozen=True)
class RunFolder:
    path: Path
    config_text: str  # config.yaml
    config: Config | None  # None: this version cannot read it
    rows: tuple[Row, ...]  # in the order of epochs
    notes: tuple[str, ...]  # sentences about what is missing or damaged

    @property
    def name(self) -> str:
        """The model, or the folder's name if the model is unknown."""
        return self.config.model if self.config else self.path.resolve().name

    @cached_property
    def decides(self) -> str:
        """The column that ranks the epochs: of the averaged weights if they were evaluated."""
        averaged = any("ema_val_top1" in row.values for row in self.rows)
        return "ema_val_top1" if averaged else "val_top1"

    @cached_property
    def best(self) -> Row | None:
        """The first epoch with the highest top-1, as the run itself chooses, if any."""
        evaluated = [row for row in self.rows if self.decides in row.values]
        return max(evaluated, key=lambda row: row.values[self.decides], default=None)

    def charts(self) -> list[Chart]:
        """Return the charts; curves with very many epochs are thinned out."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.values))
        charts, mark = [], self.best.epoch if self.best else None
        for title, word in _CHARTS:
            curves = {name: self._points(name) for name in names if word in name}
            if curves:
                charts.append(Chart(title, curves, mark=mark))
        return charts

    def _points(self, name: str) -> list[tuple[int, float]]:
        points = [(row.epoch, row.values[name]) for row in self.rows if name in row.values]
        if len(points) <= _MANY_POINTS:
            return points
        every = math.ceil(len(points) / _MANY_POINTS)
        return [*points[:-1:every], points[-1]]

    def row_of(self, checkpoint: Path) -> Row | None:
        """Return the epoch in a checkpoint's name; None: no epoch, or another run's checkpoint."""
        if checkpoint.resolve().parent != self.path.resolve():
            return None
        if checkpoint.stem.endswith("_best"):
            return self.best
        named = re.fullmatch(r".+-(\d+)_\d+", checkpoint.stem)
        return next((row for row in self.rows if named and row.epoch == int(named[1])), None)

    def best_checkpoint(self) -> Path | None:
        """Return the checkpoint of the best epoch, if any."""
        if self.config and (self.path / f"{self.config.model}_best.ckpt").is_file():
            return self.path / f"{self.config.model}_best.ckpt"
        found = sorted(self.path.glob("*_best.ckpt"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DataError(f"{self.path} holds {names}; name one by --ckpt_path")
        return found[0] if found else None


def read_run_folder(folder: str) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: the folder or its config.yaml or metrics.csv is missing.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"no run folder {folder}; expected the ckpt_save_dir of a training run")
    texts = {}
    remedy = "; expected the ckpt_save_dir of a training run, with config.yaml and metrics.csv"
    if (path / "result.log").is_file():
        remedy += "; result.log is MindCV's own"
    for name in ("config.yaml", "metrics.csv"):
        with reading(path / name, DataError, remedy):
            texts[name] = read_regular(path / name, _LARGEST).decode(errors="replace")
    rows, notes = _read_table(texts["metrics.csv"])
    _check_complete(path / "config.yaml", texts["config.yaml"])
    config = None
    try:
        config = load_config(str(path / "config.yaml"), rules=lambda config: ())
    except ConfigError as error:
        notes.append(f"config.yaml is not one that this version reads: {error}")
    if not any("val_top1" in row.values for row in rows):
        notes.append("metrics.csv holds no accuracy: the run did not evaluate (val_while_train)")
    return RunFolder(path, texts["config.yaml"], config, rows=tuple(rows), notes=tuple(notes))


def _check_complete(path: Path, text: str) -> None:
    """Refuse a truncated config, whose missing options would take their defaults.

    In a config of another version single options are missing; in a truncated one, all options after
    some point.
    """
    keys = {line.partition(":")[0] for line in text.splitlines() if ":" in line}
    there = [name in keys for name in OPTIONS]
    count = sum(there)
    is_ours = text.startswith(HEADER)
    if count == 0 or (is_ours and count < len(there) and all(there[:count])):
        where = f"after {list(OPTIONS)[count - 1]}" if count else "before its first option"
        raise DataError(
            f"{path} ends {where}: it was cut while it was written; the options of the run stand "
            'under "config" in the .json beside each checkpoint, too'
        )


def _read_table(text: str) -> tuple[list[Row], list[str]]:
    """Return the rows, the last one for an epoch that was trained twice, and notes."""
    complete, _, rest = text.rpartition("\n")
    notes = []
    if rest:
        notes.append(
            f"the last line of metrics.csv, {rest[:60]!r}, has no end: the run was stopped while "
            "it was written; it is left out"
        )
    lines = _lines(complete.replace("\0", ""), notes)
    header = next(lines, (0, []))[1]
    if "epoch" not in header:
        return [], [f"metrics.csv has no column epoch in its first line {','.join(header)[:80]!r}"]
    rows: dict[int, Row] = {}
    for number, fields in lines:
        try:
            row = _read_row(header, fields)
        except ValueError as error:
            shown = ",".join(fields)[:60]
            notes.append(f"line {number} of metrics.csv, {shown!r}, is left out: {error}")
        else:
            rows[row.epoch] = row
    if not rows:
        notes.append("no epoch was finished yet: metrics.csv holds no complete row")
    return [rows[epoch] for epoch in sorted(rows)], notes


def _lines(text: str, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each line, up to the first that csv cannot parse."""
    lines = csv.reader(io.StringIO(text))
    try:
        for fields in lines:
            yield lines.line_num, fields
    except csv.Error as error:
        notes.append(f"metrics.csv is damaged from line {lines.line_num} on: {error}")


def _read_row(header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields, expected {len(header)}")
    texts = dict(zip(header, fields))
    try:
        epoch = int(texts.pop("epoch"))
        values = {name: float(text) for name, text in texts.items() if text}
    except ValueError:
        raise ValueError("a field is not a number") from None
    if not 0 < epoch < 10**9:
        raise ValueError("the epoch is out of range")
    return Row(epoch, {name: value for name, value in values.items() if math.isfinite(value)})
