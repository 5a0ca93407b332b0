"""`python -m mindcv supervise`: restart a training that failed, from its newest checkpoint."""

import argparse
import contextlib
import itertools
import shlex
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from ...checkpoint import CheckpointStore, Position, position_of
from ...config import read_command_line, read_yaml
from ...config.options import OPTIONS
from ...errors import ConfigError, RunFolderError
from ...names import plural
from ...process.files import make_folder, open_regular, writing
from ...process.signals import StopSignal
from ...ranks import Record, first_failure, first_last_words, read_parts, read_records
from ..arguments import at_least, finite
from .processes import Processes

STARTS_COMMANDS = True  # the job's standard error is the user's
FOLDER = "attempts"
_GRACE = 30.0  # seconds that ranks without their launcher get to save
_LONGEST_DELAY = 600.0
_INTERVAL = 0.1
_HOPELESS = {2: "options or configuration are wrong", 3: "the loss is not finite"}
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Adds --resume auto to the job, and for msrun --join True and a log_dir for each attempt, "
        "<ckpt_save_dir>/attempts/<host>-<n>. SIGTERM and SIGINT are handed on to the training, "
        "which saves and ends; the same command goes on. Ends with the exit code of the job, with "
        "msrun of the rank that failed first."
    )
    parser.add_argument(
        "--max_restarts", type=at_least(0), default=10, metavar="N", help="how often (default: 10)"
    )
    parser.add_argument(
        "--backoff",
        type=finite("of seconds from 0 on", lambda seconds: seconds >= 0),
        default=10.0,
        metavar="SECONDS",
        help="wait before a restart after an attempt without a newer checkpoint, doubled for each "
        "further one (default: 10)",
    )
    parser.add_argument(
        "--max_stalls",
        type=at_least(0),
        default=1,
        metavar="N",
        help="attempts in a row that may end without a newer checkpoint (default: 1)",
    )
    parser.add_argument(
        "job",
        nargs=argparse.REMAINDER,
        help="-- mindcv train …, -- python train.py … or -- msrun … python -m mindcv train …",
    )


def run(arguments: argparse.Namespace) -> None:
    words = arguments.job[1:] if arguments.job[:1] == ["--"] else arguments.job
    limits = {key: getattr(arguments, key) for key in ("max_restarts", "backoff", "max_stalls")}
    sys.exit(supervise(read_job(words), **limits))


@dataclass(frozen=True)
class Job:
    """A training to start and restart."""

    launcher: tuple[str, ...]  # msrun with its options and everything before it; may be empty
    program: tuple[str, ...]  # runs the script, such as `python train.py`
    options: tuple[str, ...]  # of the script
    folder: Path  # run folder
    resume: str | None  # the user's own `--resume`

    def words(self, logs: Path, has_checkpoint: bool) -> list[str]:
        """Return the command of an attempt; `logs` is the folder for msrun's logs."""
        launcher, options = list(self.launcher), list(self.options)
        if launcher:
            for name, value in (("join", "True"), ("log_dir", str(logs))):
                launcher = [*_split_off(launcher, name)[0], f"--{name}", value]
        if has_checkpoint or self.resume is None:
            options = [*_split_off(options, "resume")[0], "--resume", "auto"]
        return [*launcher, *self.program, *options]


def read_job(words: Sequence[str]) -> Job:
    """Parse the command line of a training as far as a supervisor has to know and change it.

    Raises:
        ConfigError: no script is run, an option is wrong, or the job cannot be supervised.
    """
    script = next(filter(partial(_is_training, words), range(len(words))), None)
    if script is None:
        raise ConfigError(
            f"supervise: {' '.join(words) or 'nothing'} is not a training; expected "
            "`supervise -- mindcv train …`, `supervise -- python train.py …` or `supervise -- "
            "msrun … python -m mindcv train …`"
        )
    start = 0
    # env, numactl or nohup may precede msrun.
    if any(Path(word).name == "msrun" for word in words[:script]):
        # The program is the script, perhaps preceded by python, or python -m mindcv train.
        start = script - (words[script] == "train")
        start -= words[start - 1] == "-m"
        start -= start > 1 and words[start - 1] in ("python", "python3")
        if _split_off(words[:start], "join")[1] not in (None, "True"):
            raise ConfigError(
                "supervise: with --join False msrun returns at once and the result of the "
                "run is unknown; leave it out, supervise adds --join True"
            )
    options = tuple(words[script + 1 :])
    path, given = read_command_line(options, words[script], "")
    given = {**({} if path is None else read_yaml(path)), **given}
    if "resume_opt" in given:
        raise ConfigError("supervise: resume_opt with ckpt_path; write --resume FILE instead")
    folder = given["ckpt_save_dir"].text if "ckpt_save_dir" in given else None
    return Job(
        tuple(words[:start]),
        tuple(words[start : script + 1]),
        options,
        folder=Path(folder or OPTIONS["ckpt_save_dir"].default),
        resume=given["resume"].text if "resume" in given else None,
    )


def _is_training(words: Sequence[str], place: int) -> bool:
    """Return whether a word is the last before the options: a script, or `mindcv train`'s train."""
    before = Path(words[place - 1]).name if place else ""
    return words[place].endswith(".py") or (words[place] == "train" and before == "mindcv")


def _split_off(words: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """Return the words without an option and its value, and the value."""
    kept, value, rest = [], None, iter(words)
    for word in rest:
        name, equals, text = word.partition("=")
        if name == f"--{option}":
            value = text if equals else next(rest, None)
        else:
            kept.append(word)
    return kept, value


def supervise(job: Job, *, max_restarts: int, backoff: float, max_stalls: int) -> int:
    """Run a job until it is done or restarting does not help; return its exit code.

    msrun exits with 1 for every failure, so the code is that of the rank that failed first.

    Args:
        backoff: seconds before a restart after an attempt without a newer checkpoint, doubled for
            each further one in a row, up to 10 minutes.
        max_stalls: attempts in a row that may end without a newer checkpoint.

    Raises:
        ConfigError: the command does not exist or does not wait for its training, or the run folder
            is not writable.
        RunFolderError: the logs of an attempt cannot be written.
    """
    with writing(f"supervise: ckpt_save_dir {job.folder}", ConfigError):
        job.folder.mkdir(parents=True, exist_ok=True)
        make_folder(job.folder / FOLDER)
    supervisor = _Supervisor(job)
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # by nohup
    with supervisor.signals.listening(signal.SIGINT, *([] if is_ignored else [signal.SIGHUP])):
        return supervisor.run(max_restarts, backoff, max_stalls)


class _Supervisor:
    def __init__(self, job: Job):
        self.job, self.signals = job, StopSignal(only_remembers=True)
        self.failed: dict[str, float] = {}  # when the last attempt failed, and that was detected

    @property
    def _stop(self) -> signal.Signals | None:
        """The signal that asked to stop; a closed terminal (SIGHUP) asks for it too."""
        received = self.signals.received
        return signal.SIGTERM if received == signal.SIGHUP else received

    def run(self, max_restarts: int, backoff: float, max_stalls: int) -> int:
        (at, done), stalls = self._newest(), 0
        for restarts in itertools.count():
            code = self._attempt(at)
            before, (at, done) = done, self._newest()
            stalls = 0 if done > before else stalls + 1
            reason = self._reason_to_end(code)
            if reason is None and stalls > max_stalls:
                attempts = plural(stalls, "attempt")
                reason = f"not restarted: {attempts} in a row made no newer checkpoint"
            if reason is None and restarts >= max_restarts:
                reason = f"not restarted: {plural(restarts, 'restart')} allowed"
            if reason is not None:
                self._log(f"{reason}; exit code {code}")
                return code
            delay = min(backoff * 2 ** (stalls - 1), _LONGEST_DELAY) if stalls else 0
            self._log(f"restart {restarts + 1} of {max_restarts} in {delay:g} s")
            deadline = time.monotonic() + delay
            while time.monotonic() < deadline and self._stop is None:
                time.sleep(min(_INTERVAL, delay))
            if self._stop is not None:
                self._log(f"stopped by {self._stop.name} before restart {restarts + 1}")
                return 128 + self._stop

    def _reason_to_end(self, code: int) -> str | None:
        if code == 0:
            return "done"
        if self._stop is not None:
            return f"stopped by {self._stop.name}; the same command goes on"
        if code in _STOPPED:
            return "the job was asked to stop; the same command goes on"
        if code in _HOPELESS:
            return f"not restarted, since that would not help: {_HOPELESS[code]}"
        return None

    def _newest(self) -> tuple[Position | None, tuple]:
        """Return the position of the newest checkpoint that verifies, and how far it is.

        That is counted alike on any number of ranks; it is empty, and less, without a checkpoint.
        """
        manifest, _ = CheckpointStore(self.job.folder).newest()
        if manifest is None:
            return None, ()
        at, update = position_of(manifest.path.stem), manifest.record.get("update") or {}
        return at, (at.epoch, Fraction(at.step, update.get("batches", 1)), at.is_evaluated)

    def _attempt(self, newest: Position | None) -> int:
        """Run the job once; return its exit code when all its processes have ended."""
        logs = self._new_folder()
        words = self.job.words(logs, newest is not None)
        runs_before = {record.run for record in read_records(self.job.folder)}
        at = f"from epoch {newest.epoch}, step {newest.step}" if newest else "without a checkpoint"
        self._log(f"attempt {logs.name} begins {at}: {shlex.join(words)}")
        began, wall_clock = time.monotonic(), time.time()
        path = logs / "output.log"
        with _writing_logs(path):
            output = path.open("wb", buffering=0)
        with output:  # if the disk fills up later, the attempt goes on
            processes = Processes(words, output, logs)
            found = self._wait(processes, logs, {**self.failed, "wait": wall_clock})
            self.failed = {"failure": time.time()}
            leaves_ranks = found == 0 and self._stop is None and processes.has_ranks()
            ended = [one for one in read_records(self.job.folder) if one.ending]
            ended = [one for one in ended if one.run not in runs_before]
            stopped = [one for one in ended if one.ending.exit_code in _STOPPED]
            stopped = min(stopped, key=lambda one: one.ending.time, default=None)
            stop_code = 128 + self._stop if self._stop else stopped and stopped.ending.exit_code
            left = processes.end(_GRACE, self.signals)  # such as ranks without their msrun
        cause = first_failure(self.job.folder, runs_before) or first_last_words(logs)
        if cause and cause.ending:
            self.failed["failure"] = min(cause.ending.time, self.failed["failure"])
        self.failed["detect"] = time.time()
        code = _exit_code(found, cause, stop_code)
        who = stopped if code in _STOPPED else cause
        swept = f", {plural(left, 'process')} left over, now ended" if left else ""
        self._log(
            f"attempt {logs.name} ended after {time.monotonic() - began:.0f} s with {code}{swept}"
            + (f": {who.describe()}" if who else "")
        )
        if leaves_ranks:
            raise ConfigError(
                "supervise: the command ended with 0 while its training was running, so its "
                f"result is unknown: {shlex.join(words)}; use a command that waits for it"
            )
        return code

    def _new_folder(self) -> Path:
        """Create the log folder of an attempt; several hosts may share the run folder."""
        for number in itertools.count(1):
            folder = self.job.folder / FOLDER / f"{socket.gethostname()}-{number}"
            with _writing_logs(folder):
                try:
                    folder.mkdir()
                    return folder
                except FileExistsError:
                    continue

    def _wait(self, processes: Processes, logs: Path, before: dict[str, float]) -> int:
        """Return the command's exit code; forward a first signal, kill at a second.

        `before` holds times before the start, which the line about it begins with.
        """
        is_handed_on = is_training = False
        while (code := processes.poll()) is None:
            if self.signals.is_urgent:
                processes.end(0, self.signals)
            elif self._stop is not None and not is_handed_on:
                self._log(f"{self._stop.name}: the job is asked to stop and may save")
                processes.signal(self._stop)
                is_handed_on = True
            if not is_training and "first step" in (parts := read_parts(logs)):
                is_training = True
                # What the time from the failure (or the start) to the first step went to.
                names, ends = zip(*{**before, **parts}.items())
                since = names[0] if names[0] == "failure" else "start"
                pairs = zip(names[1:], ends, ends[1:])
                spent = ", ".join(f"{name} {end - begin:.1f}" for name, begin, end in pairs)
                self._log(f"training {ends[-1] - ends[0]:.1f} s after the {since}: {spent}")
            time.sleep(_INTERVAL)
        return code

    def _log(self, event: str) -> None:
        line = f"supervise: {time.strftime('%Y-%m-%d %H:%M:%S')} {event}"
        # A full disk or a closed terminal does not end the job.
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)
        path = self.job.folder / FOLDER / "supervise.log"
        with (
            contextlib.suppress(OSError),
            open(path, "a", encoding="utf-8", opener=open_regular) as log,
        ):
            log.write(line + "\n")


def _writing_logs(path: Path) -> contextlib.AbstractContextManager:
    remedy = "; the checkpoints are untouched. Make room or put the folder back; "
    return writing(f"supervise: {path}", RunFolderError, f"{remedy}the same command goes on")


def _exit_code(found: int, cause: Record | None, stop_code: int | None) -> int:
    """Return the exit code of the job: of the first failed rank, a signal, or the command.

    `found` is the command's code, negative for a signal; msrun returns 1 for every failure. `cause`
    is the rank that failed first, `stop_code` the code of a training that was asked to stop.
    """
    if found == 0 and cause is None:
        return 0
    if stop_code is not None and (cause is None or cause.ending is None):
        return stop_code  # msrun kills ranks that are still stopping
    if cause is not None:
        return cause.ending.exit_code if cause.ending else 1
    return found if found > 0 else 128 - found
