"""Which options may change when a run is resumed."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from ..errors import ConfigError
from .options import OPTIONS, Config, marked
from .schedule import epochs_alike

_logger = logging.getLogger("mindcv.train")

_REASONS = {
    "num_parallel_workers": "the draws of MindSpore's random operations depend on it",
}


def describe_config(config: Config) -> dict[str, Any]:
    """Return the options as JSON values."""
    return json.loads(json.dumps(asdict(config)))


def check_unchanged(before: Mapping[str, Any], config: Config, epochs: int = 1) -> None:
    """Refuse to resume a run with options that would change its course.

    `epoch_size` may change if the learning rates of the epochs so far stay the same.

    Args:
        before: `describe_config` of the saved run; an option missing there had its default.
        epochs: number of epochs finished or begun.

    Raises:
        ConfigError: lists each changed option with both values.
    """
    lines = list(_changes(before, config, epochs))
    if lines:
        raise ConfigError(
            "resume: these options would change the course of the run:\n"
            + "\n".join(f"  {line}" for line in lines)
            + "\nleave them as they were; to start a new run from the weights, name another "
            "ckpt_save_dir and the file with --ckpt_path"
        )


def _changes(before: Mapping[str, Any], config: Config, epochs: int) -> Iterator[str]:
    now = describe_config(config)
    allowed = marked("may_change")
    if config.precise_bn_samples:  # statistics are measured at these points; training uses them
        allowed = allowed - {"ckpt_save_interval", "val_interval", "val_while_train"}
    if config.resume_opt:
        allowed = allowed | {"ckpt_path", "pretrained"}
    for key in now:
        default = json.loads(json.dumps(OPTIONS[key].default))
        old = before.get(key, default)
        if key == "epoch_size" and old != now[key]:
            yield from _length(old, config, epochs)
        elif key not in allowed and old != now[key]:
            reason = f" ({_REASONS[key]})" if key in _REASONS else ""
            yield f"{key}: {_shown(old)} -> {_shown(now[key])}{reason}"


def _length(old: int, config: Config, epochs: int) -> Iterator[str]:
    """Say why the run's length cannot change; if it can, log how its schedule continues."""
    change = f"epoch_size: {old} -> {config.epoch_size}"
    if config.epoch_size < epochs:
        yield f"{change} (epoch {epochs} is done or begun)"
        return
    alike = epochs_alike(replace(config, epoch_size=old), config)
    if alike < epochs:
        until = f"only the first {alike} epochs" if alike else "no epoch"
        yield (
            f"{change} (with {config.scheduler} {until} would have had the learning rates that "
            f"they had, and {epochs} are done or begun)"
        )
        return
    _logger.info(
        "resume: %s; the %d epochs so far keep their learning rates, the schedule goes on as if "
        "the run had had that length from the start",
        change,
        epochs,
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
