"""How train and validate start and end: signals, options, ranks, exit code."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import (
    Config,
    Rules,
    is_launched,
    model_contradictions,
    parse_arguments,
    training_contradictions,
)
from .process import signals, terminal
from .process.entry_point import check_environment, guarded
from .ranks import last_words, recorded_ending


def run(
    main: Callable[[Config], None],
    program: str,
    description: str,
    *,
    arguments: Sequence[str] | None = None,
    rules: Rules = training_contradictions,
    defaults: Callable[[Config, Collection[str]], tuple[Mapping[str, Any], str]] | None = None,
    has_run_folder: bool = True,
) -> None:
    """Run a command on the config of its command line, and end with the right exit code.

    0: done; 1: unexpected error; 2: user or config error; 3: non-finite loss; 4: data; 5:
    checkpoint, weights or run folder; 130 and 143: interrupted. With the option `debug`, errors
    show a traceback.

    Args:
        program, description, arguments, rules, defaults: see `parse_arguments`.
        has_run_folder: its processes keep records in `ckpt_save_dir`, see `mindcv.ranks`.
    """
    signals.take_over()
    config = None

    def all_rules(config):
        yield from rules(config)
        yield from model_contradictions(config)

    with guarded(show_traceback=lambda: config is not None and config.debug), last_words():
        check_environment()
        config = parse_arguments(
            program, description, all_rules, arguments=arguments, defaults=defaults
        )
        if not config.debug:
            quieten()
        keeps_records = has_run_folder and not config.dry_run
        with recorded_ending(Path(config.ckpt_save_dir) if keeps_records else None):
            main(config)


def quieten() -> None:
    """Keep what libraries print off the terminal of this process.

    A process started by msrun has its own log file, worker_<rank>.log. There the lines of MindSpore
    and ours stay together, including its warnings: only they say which process is missing or
    unreachable.
    """
    if "MS_ROLE" in os.environ:
        return
    if is_launched() or not terminal.divert_stderr():
        # MindSpore's warnings are for its developers; its errors stay visible.
        os.environ.setdefault("GLOG_v", "3")
