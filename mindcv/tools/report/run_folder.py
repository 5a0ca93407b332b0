"""Read the folder of a training run, even of an interrupted one."""

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from ...config import HEADER, Config, build_schedule, load_config
from ...config.options import OPTIONS
from ...errors import ConfigError, DataError, MindCVError
from ...process.files import read_regular, reading
from ...task import MULTI_LABEL, SINGLE_LABEL, TASKS, Task
from ..charts import Chart, Points

_CHARTS = (  # title, and the text that names of its columns contain
    ("loss", "loss"),
    ("accuracy, %", "top"),
    ("mAP and F1, %", "val_m"),
    ("learning rate", "lr"),
)
_NAMES = {  # of columns of metrics.csv, in words
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "lr": "learning rate",
    "skipped": "skipped updates",
    **{f"val_{key}": f"{name}, %" for task in TASKS.values() for key, name in task.figures.items()},
}
_LOGGED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ [A-Z]+ (.*)$", re.M)
_FIRST = re.compile(r"mindcv(-regnet)? \d")  # line of a session; 1.0.0 was called mindcv
_LARGEST = 2**26  # bytes of a file
_MANY_POINTS = 2000  # more than the pixels of a curve on a screen
_MANY_UPDATES = 10**7  # whose rates take half a gigabyte


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
    def task(self) -> Task:
        """The task whose score is in metrics.csv."""
        several = any(name.endswith(f"val_{MULTI_LABEL.score}") for name in self.columns)
        return MULTI_LABEL if several else SINGLE_LABEL

    @cached_property
    def decides(self) -> str:
        """The column that ranks the epochs: of the averaged weights if they were evaluated."""
        column = f"val_{self.task.score}"
        return f"ema_{column}" if f"ema_{column}" in self.columns else column

    @cached_property
    def best(self) -> Row | None:
        """The first epoch with the highest score, as the run itself chooses, if any."""
        evaluated = [row for row in self.rows if self.decides in row.values]
        return max(evaluated, key=lambda row: row.values[self.decides], default=None)

    @cached_property
    def facts(self) -> dict[str, str]:
        """What classes.json and train.log say of the run, by name; no entry for what is missing."""
        found = {}
        with suppress(DataError, ValueError, KeyError, TypeError):
            data = json.loads(_read(self.path / "classes.json"))
            found["training images"] = f"{data['images']:,}"
            found["classes"] = f"{data['num_classes']:,}"
        with suppress(DataError, ValueError, IndexError):
            log = _read(self.path / "train.log")
            for count in re.findall(r" model .+: ([\d,]+) parameters", log):
                found["parameters"] = count
            lines = [(datetime.fromisoformat(time), text) for time, text in _LOGGED.findall(log)]
            starts = [n for n, (_, text) in enumerate(lines) if _FIRST.match(text)]
            sessions = [lines[n:end] for n, end in pairwise([*starts, len(lines)])]
            taken = sum((own[-1][0] - own[0][0] for own in sessions), timedelta())
            several = f" in {len(sessions)} sessions" if len(sessions) > 1 else ""
            found["started"] = f"{sessions[0][0][0]:%Y-%m-%d %H:%M}"
            found["duration"] = f"{taken}{several}"
            found["software"] = sessions[-1][0][1]
        return found

    @cached_property
    def columns(self) -> list[str]:
        """The columns of metrics.csv that hold a number, without the epoch."""
        return list(dict.fromkeys(name for row in self.rows for name in row.values))

    def describe(self, column: str) -> str:
        """Return a column of metrics.csv in words, with the weights it is of, if there are two."""
        own = _without_ema(column)
        text = _NAMES.get(own, own)
        if not own.startswith("val_") or not any("ema_" in name for name in self.columns):
            return text
        return f"{text}, {'averaged' if own != column else 'raw'} weights"

    @cached_property
    def charts(self) -> list[Chart]:
        """Return the charts; curves with very many points are thinned out."""
        charts, mark = [], self.best.epoch if self.best else None
        for title, word in _CHARTS:
            columns = sorted((c for c in self.columns if word in c), key=_without_ema)
            curves = {self.describe(name): self._points(name) for name in columns}
            dashed = [self.describe(name) for name in columns if name != _without_ema(name)]
            if curves:
                charts.append(Chart(title, curves, mark=mark, dashed=dashed))
        return charts

    def _points(self, column: str) -> Points:
        points = [(row.epoch, row.values[column]) for row in self.rows if column in row.values]
        if column == "lr":
            points = self._rates(points)
        return _thinned(points)

    def _rates(self, recorded: Points) -> Points:
        """Return the rate of every update by the config, if it gives the recorded ones too."""
        ranks = re.search(r"(\d+) process", self.facts.get("software", ""))
        last = self.rows[-1]
        try:
            batches = round(last.values["step"] / last.epoch)
            steps = batches // self.config.gradient_accumulation_steps
            if steps * self.config.epoch_size > _MANY_UPDATES:
                return recorded
            rates = build_schedule(self.config, steps, int(ranks[1]) if ranks else 1)
            is_same = [
                math.isclose(rates[e * steps - 1], rate, rel_tol=1e-6) for e, rate in recorded
            ]
        except (MindCVError, KeyError, AttributeError, ArithmeticError, IndexError):
            return recorded
        if not all(is_same):
            return recorded
        done = range(min(len(rates), last.epoch * steps))
        return [((update + 1) / steps, rates[update]) for update in _thinned(done)]

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


def _thinned(points: Sequence) -> list:
    every = max(1, math.ceil((len(points) - 1) / _MANY_POINTS))
    return [*points[:-1:every], *points[-1:]]


def _without_ema(column: str) -> str:
    return column.removeprefix("ema_")


def read_run_folder(folder: str) -> RunFolder:
    """Read a run folder.

    Raises:
        DataError: the folder or its config.yaml or metrics.csv is missing.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"no run folder {folder}; expected the ckpt_save_dir of a training run")
    remedy = "; expected the ckpt_save_dir of a training run, with config.yaml and metrics.csv"
    if (path / "result.log").is_file():
        remedy += "; result.log is MindCV's own"
    texts = {name: _read(path / name, remedy) for name in ("config.yaml", "metrics.csv")}
    rows, notes = _read_table(texts["metrics.csv"])
    _check_complete(path / "config.yaml", texts["config.yaml"])
    config = None
    try:
        config = load_config(str(path / "config.yaml"), rules=lambda config: ())
    except ConfigError as error:
        notes.append(f"config.yaml is not one that this version reads: {error}")
    scores = {f"val_{task.score}" for task in TASKS.values()}
    if not any(scores & {_without_ema(name) for name in row.values} for row in rows):
        notes.append("metrics.csv holds no accuracy: the run did not evaluate (val_while_train)")
    return RunFolder(path, texts["config.yaml"], config, rows=tuple(rows), notes=tuple(notes))


def _read(path: Path, remedy: str = "") -> str:
    with reading(path, DataError, remedy):
        return read_regular(path, _LARGEST).decode(errors="replace")


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
    head, *lines = re.sub("[\0\r]", "", complete).split("\n")
    header = head.split(",")
    if "epoch" not in header:
        return [], [f"metrics.csv has no column epoch in its first line {head[:80]!r}"]
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines, 2):
        try:
            row = _read_row(header, line.split(","))
        except ValueError as error:
            notes.append(f"line {number} of metrics.csv, {line[:60]!r}, is left out: {error}")
        else:
            rows[row.epoch] = row
    if not rows:
        notes.append("no epoch was finished yet: metrics.csv holds no complete row")
    return [rows[epoch] for epoch in sorted(rows)], notes


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
