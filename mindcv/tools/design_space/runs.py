"""`design-space run`: train a population by train.py, several models at once."""

import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from ...checkpoint import STATE, FolderLock
from ...config import Config, dump_config, load_config
from ...errors import ConfigError, DataError, Interrupted, MindCVError, RunFolderError
from ...process.cpu import available_cores
from ...process.files import open_regular, replacing, writing
from ...process.signals import StopSignal, end_with_parent
from ...ranks import first_failure
from ...ranks import read_records as read_rank_records
from ..arguments import at_least, file_path
from ..report.run_folder import read_run_folder
from ..supervise.processes import descendants, ranks, send
from .study import (
    RECIPE,
    RUNS,
    STUDY,
    Study,
    append_record,
    read_population,
    read_records,
    read_study,
    training_config,
)

PROGRAM = ("-m", "mindcv", "train")  # for python
_INTERVAL = 0.2  # seconds between looks at the trainings
_PATIENCE = 120.0  # seconds for the trainings of a killed runner to save
_KILLED = 128 + signal.SIGKILL
_SIGNALLED = (128 + signal.SIGINT, 128 + signal.SIGTERM, _KILLED)
_OF_ALL = {2: ConfigError, 4: DataError}  # exit codes that the next training would have too
_MOST_KILLS = 3  # of a model, after which it goes on
_CARDS = "ASCEND_RT_VISIBLE_DEVICES"
_LOG = "attempt-*.log"  # the time of its start, milliseconds since 1970


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("study", metavar="DIR", type=file_path, help="the folder of sample")
    parser.add_argument(
        "--workers", type=at_least(1), metavar="N", help="trainings at once (default: the study's)"
    )
    parser.add_argument("--retry_failed", action="store_true", help="train failed models anew")
    parser.add_argument(
        "--keep", action="store_true", help="keep checkpoints; otherwise metrics and logs only"
    )
    parser.epilog = (
        "Each training has its share of the cores, and of the cards that ASCEND_RT_VISIBLE_DEVICES "
        "lists. SIGINT and SIGTERM stop in order: the trainings save, the same command goes on."
    )


def run(arguments: Namespace) -> None:
    folder = Path(arguments.study)
    study = read_study(folder / STUDY)
    lock = FolderLock(folder, f"study {folder}")
    try:
        runner = Runner(folder, study, arguments.workers or study.workers, arguments.keep)
        with runner.signals.listening(signal.SIGINT):
            runner.run(arguments.retry_failed)
    finally:
        lock.release()


@dataclass(frozen=True)
class Share:
    """What one training at a time has of the machine."""

    cores: tuple[int, ...]
    cards: str | None  # for ASCEND_RT_VISIBLE_DEVICES; None: it is not set


def shares(workers: int, devices: int) -> list[Share]:
    """Share out cores, and cards that the environment names; with few cores, some have the same.

    Raises:
        ConfigError: there are fewer cards than workers x devices.
    """
    cores = available_cores()
    each = max(1, len(cores) // workers)
    own = [cores[start : start + each] for start in range(0, len(cores) - each + 1, each)]
    cards = [one for one in os.environ.get(_CARDS, "").split(",") if one]
    if cards and len(cards) < workers * devices:
        raise ConfigError(
            f"{_CARDS} lists {len(cards)} cards, and {workers} trainings of {devices} devices need "
            f"{workers * devices}; lower --workers"
        )
    parts = [",".join(cards[n * devices : (n + 1) * devices]) or None for n in range(workers)]
    return [Share(tuple(part), card) for part, card in zip(cycle(own), parts)]


class _Training:
    """A training that runs.

    Raises:
        ConfigError: the model's options are wrong, or it cannot be started.
        RunFolderError: its folder cannot be written.
    """

    def __init__(self, config: Config, devices: int, model: Mapping[str, Any], share: Share):
        self.config, self.model, self.share = config, model, share
        self.folder = folder = Path(config.ckpt_save_dir)
        self.runs_before = {record.run for record in read_rank_records(folder)}
        self.began = time.monotonic()
        with writing(folder, RunFolderError, "; the same command goes on"):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / RECIPE) as unfinished:
                unfinished.write_text(dump_config(config), encoding="utf-8")
            log = folder / _LOG.replace("*", str(time.time_ns() // 10**6))
            output = open(log, "xb", opener=open_regular)
        with output:
            self.process = subprocess.Popen(
                [*launcher(devices, folder), *PROGRAM]
                + ["--config", str(folder / RECIPE), "--resume", "auto"],
                env=environment(share),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # ctrl-C does not reach it
                preexec_fn=partial(_begin, share.cores, os.getpid()),
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the ranks, or to the process if there are none; SIGKILL to all."""
        below, itself = descendants(self.process.pid), {self.process.pid}
        send(number, below | itself if number == signal.SIGKILL else ranks(below) or itself)

    def failure(self, code: int) -> tuple[int, str]:
        """Return exit code and reason of a failed training; msrun's own code is always 1."""
        if code < 0:
            return 128 - code, f"killed by {signal.Signals(-code).name}"
        cause = first_failure(self.folder, self.runs_before) if self.config.distribute else None
        if cause is None:
            return code, last_error(self.folder)
        return cause.ending.exit_code if cause.ending else _KILLED, cause.describe()


def _begin(cores: Sequence[int], parent: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    end_with_parent(parent, signal.SIGTERM)  # it then saves


def launcher(devices: int, folder: Path) -> list[str]:
    """Return the words before those of `PROGRAM`."""
    if devices == 1:
        return [sys.executable]
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    options = dict(
        worker_num=devices,
        local_worker_num=devices,
        master_port=port,
        join=True,
        log_dir=folder / "msrun",
    )
    msrun = Path(sys.executable).with_name("msrun")
    return [str(msrun), *(f"--{name}={value}" for name, value in options.items()), "python"]


def environment(share: Share) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": str(len(share.cores)), **os.environ}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"  # of msrun
    return own | ({_CARDS: share.cards} if share.cards else {})


def last_error(folder: Path) -> str:
    """Return the last error message in the newest log of a training, or its last line."""
    newest = max(folder.glob(_LOG))
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
    told = [line for line in lines if line.startswith("error: ")]
    return (told or lines)[-1].removeprefix("error: ")[:1000]


def seconds_of(folder: Path) -> float:
    """Return how long a model was trained, all attempts together, by their logs."""
    logs = folder.glob(_LOG)
    return sum(log.stat().st_mtime - int(log.stem.split("-")[1]) / 1000 for log in logs)


def metrics_of(folder: Path) -> dict[str, Any]:
    """Return the part of a record that metrics.csv tells: errors, loss, and epochs trained."""
    rows, decides = (), "val_top1"
    with suppress(MindCVError):  # a training that failed early has none
        found = read_run_folder(str(folder))
        rows, decides = found.rows, found.decides
    errors = [round(100 - row.values[decides], 4) for row in rows if decides in row.values]
    loss = rows[-1].values.get("train_loss") if rows else None
    return {"errors": errors, "loss": loss, "epochs": rows[-1].epoch if rows else 0}


def is_complete(config: Config) -> bool:
    """Return whether a training has evaluated its last epoch."""
    metrics = metrics_of(Path(config.ckpt_save_dir))
    return metrics["epochs"] == config.epoch_size and bool(metrics["errors"])


def remove_checkpoints(folder: Path) -> None:
    for weights in folder.glob("*.ckpt"):
        for path in (weights, weights.with_suffix(".json"), weights.with_suffix(STATE)):
            path.unlink(missing_ok=True)


class Runner:
    """Trains the models of a study that have no record yet."""

    def __init__(self, folder: Path, study: Study, workers: int, keeps: bool):
        self.folder, self.study, self.keeps = folder, study, keeps
        self.models = read_population(folder)
        self.records, notes = read_records(folder)
        self.free = shares(workers, study.devices)
        self.workers = workers
        self.todo: deque[Mapping[str, Any]] = deque()
        self.running: list[_Training] = []
        self.kills = Counter()
        self.has_forwarded = False
        self.signals = StopSignal(only_remembers=True)
        for note in notes:
            self._say(note)

    def run(self, retries: bool) -> None:
        """Train until nothing is left, the budget is used or a signal comes.

        Raises:
            Interrupted: by a signal, after the trainings have saved.
            ConfigError: another `run` uses the folder, or the trainings' options are wrong.
            DataError: their images are missing.
            RunFolderError: the folder cannot be written.
        """
        # The spaces in turn, so that a part of a study is balanced.
        models = sorted(self.models, key=lambda model: model["index"])
        self.todo += [model for model in models if self._is_open(model, retries)]
        cores = " | ".join(",".join(map(str, share.cores)) for share in self.free)
        self._say(f"{len(self.todo)} of {len(self.models)} models to train, on cores {cores}")
        hours = math.inf if self.study.budget is None else self.study.budget
        deadline = time.monotonic() + 3600 * hours
        try:
            while self.running or (self.todo and not self._stops(deadline)):
                while self.free and self.todo and not self._stops(deadline):
                    self._start(self.todo.popleft())
                self._forward_signals()
                time.sleep(_INTERVAL)
                self._collect()
        except BaseException:
            self._end_all()
            raise
        self._summarize()

    def _stops(self, deadline: float) -> bool:
        return self.signals.received is not None or time.monotonic() >= deadline

    def _is_open(self, model: Mapping[str, Any], retries: bool) -> bool:
        """Return whether to train a model, once nobody uses its folder."""
        place, record = self.folder / RUNS / model["id"], self.records.get(model["id"])
        if record is not None and not self.keeps:
            remove_checkpoints(place)  # a kill may have come before
        if record is not None and not (retries and record["status"] == "failed"):
            return False
        # The trainings of a runner that was killed still save.
        deadline = time.monotonic() + _PATIENCE
        while place.is_dir() and not self.signals.received:
            try:
                FolderLock(place, f"training {place}").release()
                break
            except ConfigError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_INTERVAL)
        return True

    def _start(self, model: Mapping[str, Any]) -> None:
        """Start a training, or make the record that a kill has prevented."""
        config = training_config(self.folder, model)
        recipe = Path(config.ckpt_save_dir, RECIPE)
        if recipe.exists():
            begun = load_config(str(recipe), rules=lambda config: ())
            if replace(begun, ckpt_save_dir=config.ckpt_save_dir) != config:
                raise ConfigError(
                    f"{self.folder / RECIPE} changed after {recipe} was written; undo that, or "
                    "sample a new study"
                )
        if is_complete(config):
            self._record(model)
        else:
            self.running.append(_Training(config, self.study.devices, model, self.free.pop()))

    def _forward_signals(self) -> None:
        if self.signals.is_urgent:
            self._end_all()
        elif self.signals.received and not self.has_forwarded:
            self.has_forwarded = True
            self._say(f"{self.signals.received.name}: {len(self.running)} trainings save and stop")
            for training in self.running:
                training.send(signal.SIGTERM)

    def _end_all(self) -> None:
        for training in self.running:
            training.send(signal.SIGKILL)
            training.process.wait()

    def _collect(self) -> None:
        """Record what has ended, or put it back."""
        for training in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(training)
            self.free.append(training.share)
            model, found = training.model, training.process.returncode
            code, reason = training.failure(found) if found else (0, "its last epoch is missing")
            if is_complete(training.config):
                self._record(model)
            elif self.signals.received:
                self.todo.appendleft(model)
            elif code in _SIGNALLED and self.kills[model["id"]] < _MOST_KILLS:
                self.kills[model["id"]] += 1
                self._say(f"{model['id']}: {reason}; it goes on from its newest checkpoint")
                self.todo.appendleft(model)
            elif code in _OF_ALL and not any(r["status"] == "done" for r in self.records.values()):
                raise _OF_ALL[code](f"the first training of {self.folder} failed: {reason}")
            else:
                self._record(model, code, reason)

    def _record(self, model: Mapping[str, Any], code: int = 0, reason: str | None = None) -> None:
        """Keep the result of a training; with a reason, it failed."""
        place = self.folder / RUNS / model["id"]
        metrics = metrics_of(place)
        record = {
            "id": model["id"],
            "space": model["space"],
            "status": "failed" if reason else "done",
            "error": None if reason else metrics["errors"][-1],
            **metrics,
            "seconds": round(seconds_of(place), 1),
            "exit_code": code,
            "reason": reason,
        }
        append_record(self.folder, record)
        self.records[model["id"]] = record
        if not self.keeps:
            remove_checkpoints(place)
        result = f"failed with {code}: {reason}" if reason else f"error {record['error']:.2f} %"
        self._say(
            f"{len(self.records)} of {len(self.models)}: {model['space']} {model['id']} {result}, "
            f"{record['seconds']:.0f} s; {self.time_left()} left"
        )

    def time_left(self) -> timedelta:
        """Return the time that the rest will take, as long as the models so far."""
        mean = statistics.mean(record["seconds"] for record in self.records.values())
        now = time.monotonic()
        begun = sum(max(0.0, mean - (now - one.began)) for one in self.running)
        return timedelta(seconds=round((len(self.todo) * mean + begun) / self.workers))

    def _summarize(self) -> None:
        failed = [one for one in self.records.values() if one["status"] == "failed"]
        for record in failed:
            self._say(f"failed: {record['space']} {record['id']}: {record['reason']}")
        rest = f", {len(self.todo)} are left; the same command goes on" if self.todo else ""
        message = f"{len(self.records) - len(failed)} trained, {len(failed)} failed{rest}"
        if self.signals.received:
            raise Interrupted(self.signals.received, f"{self.folder}: {message}")
        self._say(message)

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a closed terminal does not end the study
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
