"""`python -m mindcv supervise`: restart a training that failed, from its newest checkpoint."""

import argparse
import sys

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
    from . import read_job, supervise

    words = arguments.job[1:] if arguments.job[:1] == ["--"] else arguments.job
    job = read_job(words)
    sys.exit(supervise(job, arguments.max_restarts, arguments.backoff, arguments.max_stalls))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 on")
    return value
