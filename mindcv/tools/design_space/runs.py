"""`design-space run`: train a population by train.py, several models at once."""

import math
import signal
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ...checkpoint import FolderLock
from ...config import load_config
from ...errors import ConfigError, DataError, FolderInUse, Interrupted
from ...process.signals import StopSignal
from ..arguments import at_least, file_path
from .study import (
    NO_MODEL,
    OPEN,
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
from .training import KILLED, Training, remove_checkpoints, remove_training, result_of, shares

_INTERVAL = 0.2  # seconds between looks at the trainings
_PATIENCE = 120.0  # seconds for the trainings of a killed runner to save
_SIGNALLED = (128 + signal.SIGINT, 128 + signal.SIGTERM, KILLED)
_OF_ALL = {2: ConfigError, 4: DataError}  # exit codes that the next training would have too
_MOST_KILLS = 3  # of a model, after which it goes on


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("study", metavar="DIR", type=file_path, help="the folder of sample")
    text = "trainings at once (default: the study's)"
    parser.add_argument("--workers", type=at_least(1), metavar="N", help=text)
    parser.add_argument("--retry_failed", action="store_true", help="train failed models anew")
    text = "keep checkpoints; otherwise metrics and logs only"
    parser.add_argument("--keep", action="store_true", help=text)
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


class Runner:
    """Trains the models of a study that have no record yet."""

    def __init__(self, folder: Path, study: Study, workers: int, keeps: bool):
        self.folder, self.study, self.workers, self.keeps = folder, study, workers, keeps
        self.models = read_population(folder)
        self.records, notes = read_records(folder)
        self.free = shares(workers, study.devices)
        self.todo: deque[Mapping[str, Any]] = deque()
        self.running: list[Training] = []
        self.kills = Counter()
        self.has_forwarded = False
        self.signals = StopSignal(only_remembers=True)
        for note in notes:
            _say(note)

    def run(self, retries: bool) -> None:
        """Train until nothing is left, the budget is used or a signal comes (Interrupted)."""
        self._check_recipe()
        # The spaces in turn, so that a part of a study is balanced.
        models = sorted(self.models, key=lambda model: model["index"])
        self.todo += [model for model in models if self._is_open(model, retries)]
        cores = " | ".join(",".join(map(str, share.cores)) for share in self.free)
        _say(f"{len(self.todo)} of {len(self.models)} models to train, on cores {cores}")
        hours = math.inf if self.study.budget is None else self.study.budget
        deadline = time.monotonic() + 3600 * hours
        try:
            while self.running or (self.todo and not self._stops(deadline)):
                while self.free and self.todo and not self._stops(deadline):
                    model = self.todo.popleft()
                    config = training_config(self.folder, model)
                    training = Training(config, self.study.devices, model, self.free.pop())
                    self.running.append(training)
                self._forward_signals()
                time.sleep(_INTERVAL)
                self._collect()
        except BaseException:
            self._end_all()
            raise
        self._summarize()

    def _stops(self, deadline: float) -> bool:
        return self.signals.received is not None or time.monotonic() >= deadline

    def _check_recipe(self) -> None:
        """Refuse a recipe that changed after a model began: the others would be of another kind."""
        for path in sorted((self.folder / RUNS).glob(f"*/{RECIPE}"))[:1]:
            recipe, kinds = self.folder / RECIPE, []
            for place in (recipe, path):
                config = load_config(str(place), rules=lambda config: ())
                kinds.append(replace(config, **NO_MODEL, ckpt_save_dir=""))
            if kinds[0] != kinds[1]:
                changed = f"{recipe} changed after {path} was written"
                raise ConfigError(f"{changed}; undo that, or sample a new study")

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
            except FolderInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_INTERVAL)
        # What is repeated loses its record now, so that a `run` after a kill goes on with it.
        if record is not None and not self.signals.received:
            remove_training(place)
            append_record(self.folder, {"id": model["id"], "space": model["space"], "status": OPEN})
            del self.records[model["id"]]
        return True

    def _forward_signals(self) -> None:
        if self.signals.is_urgent:
            self._end_all()
        elif self.signals.received and not self.has_forwarded:
            self.has_forwarded = True
            _say(f"{self.signals.received.name}: {len(self.running)} trainings save and stop")
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
            model, name = training.model, training.model["id"]
            failed = training.process.returncode != 0
            code, reason = training.failure() if failed else (0, "its last epoch is missing")
            result = result_of(training.folder)
            complete = result["errors"] and result["epochs"] == training.config.epoch_size
            if complete and (not failed or code in _SIGNALLED):
                self._record(model, result)
            elif self.signals.received and not complete:
                self.todo.appendleft(model)
            elif code in _SIGNALLED and self.kills[name] < _MOST_KILLS:
                self.kills[name] += 1
                _say(f"{name}: {reason}; it goes on from its newest checkpoint")
                self.todo.appendleft(model)
            elif code in _OF_ALL and not any(r["status"] == "done" for r in self.records.values()):
                raise _OF_ALL[code](f"the first training of {self.folder} failed: {reason}")
            else:
                self._record(model, result, code, reason)

    def _record(
        self, model: Mapping[str, Any], result: dict, code: int = 0, reason: str | None = None
    ):
        """Keep the result of a training; with a reason, it failed."""
        record = {key: model[key] for key in ("id", "space")}
        record["status"] = "failed" if reason else "done"
        record["error"] = None if reason else result["errors"][-1]
        record |= result | {"exit_code": code, "reason": reason}
        append_record(self.folder, record)
        self.records[model["id"]] = record
        if not self.keeps:
            remove_checkpoints(self.folder / RUNS / model["id"])
        ending = f"failed with {code}: {reason}" if reason else f"error {record['error']:.2f} %"
        _say(
            f"{len(self.records)} of {len(self.models)}: {model['space']} {model['id']} {ending}, "
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
            _say(f"failed: {record['space']} {record['id']}: {record['reason']}")
        rest = f", {len(self.todo)} are left; the same command goes on" if self.todo else ""
        message = f"{len(self.records) - len(failed)} trained, {len(failed)} failed{rest}"
        if self.signals.received:
            raise Interrupted(self.signals.received, f"{self.folder}: {message}")
        _say(message)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # a closed terminal does not end the study
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
