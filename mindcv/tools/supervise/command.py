"""`python -m mindcv supervise`: restart a training that failed, from its newest checkpoint."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...config import read_command_line, read_yaml
from ...config.options import OPTIONS
from ...errors import ConfigError
from ..arguments import at_least

STARTS_COMMANDS = True  # the job's standard error is the user's


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
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="wait before a restart, doubled while attempts make no progress (default: 10)",
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
        help="-- python train.py …, or -- msrun … python train.py …",
    )


def run(arguments: argparse.Namespace) -> None:
    from .attempts import supervise

    words = arguments.job[1:] if arguments.job[:1] == ["--"] else arguments.job
    code = supervise(
        read_job(words),
        max_restarts=arguments.max_restarts,
        backoff=arguments.backoff,
        max_stalls=arguments.max_stalls,
    )
    sys.exit(code)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 on")
    return value


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
            launcher = _without(_without(launcher, "log_dir"), "join")
            launcher += ["--join", "True", "--log_dir", str(logs)]
        if has_checkpoint or self.resume is None:
            options = _without(options, "resume") + ["--resume", "auto"]
        return [*launcher, *self.program, *options]


def read_job(words: Sequence[str]) -> Job:
    """Parse the command line of a training as far as a supervisor has to know and change it.

    Raises:
        ConfigError: no script is run, an option is wrong, or the job cannot be supervised.
    """
    script = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    if script is None:
        raise ConfigError(
            f"supervise: {' '.join(words) or 'nothing'} is no training; expected "
            "`supervise -- python train.py …` or `supervise -- msrun … python train.py …`"
        )
    start = 0
    # env, numactl or nohup may precede msrun.
    if any(Path(word).name == "msrun" for word in words[:script]):
        # The program is the script, perhaps preceded by python.
        start = script - (script > 1 and words[script - 1] in ("python", "python3"))
        if _value(words[:start], "join") not in (None, "True"):
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


def _value(words: Sequence[str], option: str) -> str | None:
    for word, following in zip(words, [*words[1:], None]):
        if word == f"--{option}":
            return following
        if word.startswith(f"--{option}="):
            return word.partition("=")[2]
    return None


def _without(words: Sequence[str], option: str) -> list[str]:
    """Return the words without an option and its value."""
    kept, skips = [], False
    for word in words:
        if skips or word.startswith(f"--{option}="):
            skips = False
        elif word == f"--{option}":
            skips = True
        else:
            kept.append(word)
    return kept
