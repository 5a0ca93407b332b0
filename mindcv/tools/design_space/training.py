"""One training of a study: its share of the machine, its process and what its run folder tells."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from ...checkpoint import STATE
from ...config import Config, dump_config
from ...errors import ConfigError, MindCVError, RunFolderError
from ...process.cpu import available_cores
from ...process.files import open_regular, write_text, writing
from ...process.signals import end_with_parent
from ...ranks import first_failure
from ...ranks import read_records as read_rank_records
from ..report.run_folder import read_run_folder
from ..supervise.processes import descendants, ranks, send
from .study import RECIPE

PROGRAM = ("-m", "mindcv", "train")  # for python
KILLED = 128 + signal.SIGKILL
_CARDS = "ASCEND_RT_VISIBLE_DEVICES"
_LOG = "attempt-*.log"  # the time of its start, milliseconds since 1970


@dataclass(frozen=True)
class Share:
    """What one training at a time has of the machine; its processes have it together."""

    cores: Sequence[int]
    variables: Mapping[str, str]


def shares(workers: int, devices: int) -> list[Share]:
    """Share out cores, and cards that the environment names; with few cores, some have the same."""
    cores = available_cores()
    each = max(1, len(cores) // workers)
    own = [cores[start : start + each] for start in range(0, len(cores) - each + 1, each)]
    cards = [one for one in os.environ.get(_CARDS, "").split(",") if one]
    if cards and len(cards) < workers * devices:
        raise ConfigError(
            f"{_CARDS} lists {len(cards)} cards, and {workers} trainings of {devices} devices need "
            f"{workers * devices}; lower --workers"
        )
    variables = {"OMP_NUM_THREADS": str(max(1, each // devices)), **os.environ}
    # msrun beside this Python comes first.
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}"
    parts = [",".join(cards[n * devices : (n + 1) * devices]) for n in range(workers)]
    more = [{_CARDS: part} if part else {} for part in parts]
    return [Share(part, variables | cards) for part, cards in zip(cycle(own), more)]


class Training:
    """A training that runs; its folder tells how it went."""

    def __init__(self, config: Config, devices: int, model: Mapping[str, Any], share: Share):
        self.config, self.model, self.share = config, model, share
        self.folder = folder = Path(config.ckpt_save_dir)
        self.runs_before = {record.run for record in read_rank_records(folder)}
        self.began = time.monotonic()
        words = [*launcher(devices, folder, share.variables["PATH"]), *PROGRAM]
        words += ["--config", str(folder / RECIPE), "--resume", "auto"]
        remedy = "; the same command goes on"
        with writing(folder, RunFolderError, remedy):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / RECIPE, dump_config(config), RunFolderError, remedy)
            log = folder / _LOG.replace("*", str(time.time_ns() // 10**6))
            output = open(log, "xb", opener=open_regular)
        with output:
            try:
                self.process = subprocess.Popen(
                    words,
                    env=share.variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # ctrl-C does not reach it
                    preexec_fn=partial(_begin, share.cores, os.getpid()),
                )
            except OSError as error:
                raise ConfigError(f"{words[0]} cannot be run: {error.strerror}") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the ranks, or to the process if there are none; SIGKILL to all."""
        below, itself = descendants(self.process.pid), {self.process.pid}
        send(number, below | itself if number == signal.SIGKILL else ranks(below) or itself)

    def failure(self) -> tuple[int, str]:
        """Return exit code and reason of a failed training; msrun's own code is always 1."""
        code = self.process.returncode
        if code < 0:
            return 128 - code, f"killed by {signal.Signals(-code).name}"
        cause = first_failure(self.folder, self.runs_before) if self.config.distribute else None
        if cause is None:
            return code, last_error(self.folder)
        return cause.ending.exit_code if cause.ending else KILLED, cause.describe()


def _begin(cores: Sequence[int], parent: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    end_with_parent(parent, signal.SIGTERM)  # it then saves


def launcher(devices: int, folder: Path, path: str) -> list[str]:
    """Return the words before those of `PROGRAM`; ConfigError: no msrun in `path`, a PATH."""
    if devices == 1:
        return [sys.executable]
    msrun = shutil.which("msrun", path=path)
    if msrun is None:
        raise ConfigError(
            f"devices {devices}: msrun, which comes with MindSpore, is neither beside "
            f"{sys.executable} nor in a folder of PATH; install MindSpore there, or set devices: 1"
        )
    with socket.socket() as probe:
        probe.bind(("", 0))
        options = {"worker_num": devices, "local_worker_num": devices, "join": True}
        options |= {"master_port": probe.getsockname()[1], "log_dir": folder / "msrun"}
    return [msrun, *(f"--{name}={value}" for name, value in options.items()), "python"]


def last_error(folder: Path) -> str:
    """Return the last error message in the newest log of a training, or its last line."""
    newest = max(folder.glob(_LOG))
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
    told = [line for line in lines if line.startswith("error: ")]
    return (told or lines)[-1].removeprefix("error: ")[:1000]


def result_of(folder: Path) -> dict[str, Any]:
    """Return the part of a record that a run folder tells; errors: of each evaluation, percent."""
    rows, decides = (), "val_top1"
    with suppress(MindCVError):  # a training that failed early has none
        found = read_run_folder(str(folder))
        rows, decides = found.rows, found.decides
    errors = [round(100 - row.values[decides], 4) for row in rows if decides in row.values]
    loss, epochs = (rows[-1].values.get("train_loss"), rows[-1].epoch) if rows else (None, 0)
    # Of all attempts together, by their logs.
    spans = (log.stat().st_mtime - int(log.stem.split("-")[1]) / 1000 for log in folder.glob(_LOG))
    return {"errors": errors, "loss": loss, "epochs": epochs, "seconds": round(sum(spans), 1)}


def remove_training(folder: Path) -> None:
    """Remove what a training would go on from, and what tells that it was complete."""
    remove_checkpoints(folder)
    (folder / "metrics.csv").unlink(missing_ok=True)


def remove_checkpoints(folder: Path) -> None:
    for weights in folder.glob("*.ckpt"):
        for path in (weights, weights.with_suffix(".json"), weights.with_suffix(STATE)):
            path.unlink(missing_ok=True)
