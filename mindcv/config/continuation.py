"""Which options a resumed run may change, and how its updates go on over other processes."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..names import plural
from .options import OPTIONS, Config, marked
from .schedule import epochs_alike

_ACCUMULATION = "gradient_accumulation_steps"
_SHOWN = 4  # possibilities of a kind in a message
_MOST_RANKS = 8192  # of which one is proposed

_logger = logging.getLogger("mindcv.train")


def describe_config(config: Config) -> dict[str, Any]:
    """Return the options as JSON values."""
    return {key: _as_json(value) for key, value in vars(config).items()}


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def continue_config(
    path: Path, record: Mapping[str, Any], config: Config, world_size: int
) -> Config:
    """Return the config with which the run of a checkpoint goes on over `world_size` ranks.

    An update keeps its number of images. On another number of ranks batch_size may differ, and
    gradient_accumulation_steps become what keeps that number.

    Args:
        path, record: of the checkpoint's manifest.

    Raises:
        ConfigError: an option would change the course of the run, see `check_unchanged`; no
            gradient_accumulation_steps keep the images of an update; or the checkpoint lies within
            an update that the ranks cannot divide. The message says what is possible.
    """
    before, ranks = record["config"], record["runtime"]["world_size"]
    update = record.get("update")
    batches = before.get(_ACCUMULATION, OPTIONS[_ACCUMULATION].default)
    if update:
        batches = update["batches"]
    if world_size != ranks:
        if not update:
            raise ConfigError(
                f"resume: {path} was saved by an earlier version of mindcv, which dealt the images "
                f"to the ranks otherwise; resume on {plural(ranks, 'rank')} until the next "
                "checkpoint"
            )
        batches = _batches_on(world_size, path, record, config.batch_size)
        before = before | {"batch_size": config.batch_size}
    if config.gradient_accumulation_steps == batches:
        before = before | {_ACCUMULATION: batches}
    check_unchanged(before, config, record["epoch"])
    return replace(config, gradient_accumulation_steps=batches)


def _batches_on(world_size: int, path: Path, record: Mapping[str, Any], batch_size: int) -> int:
    """Return the batches of an update, one after another, that keep its number of images."""
    images, before = record["update"]["images"], record["update"]["batches"]
    ranks = record["runtime"]["world_size"]
    batches, rest = divmod(images, world_size * batch_size)
    if rest or not batches:
        raise ConfigError(
            f"resume: {path} is of a run of {plural(ranks, 'rank')} with {images} images an "
            f"update, which {plural(world_size, 'rank')} with batch_size {batch_size} cannot keep; "
            f"possible (ranks x batch_size x {_ACCUMULATION}): "
            f"{_possible(images, world_size, batch_size)}"
        )
    if record["steps"] * batches % max(1, before):
        raise ConfigError(
            f"resume: {path} was saved after {record['steps'] % before} of the {before} batches of "
            f"an update, where {plural(world_size, 'rank')} cannot begin; resume from a checkpoint "
            f"between two updates, or on {plural(ranks, 'rank')} until the next one"
        )
    return batches


def _possible(images: int, world_size: int, batch_size: int) -> str:
    """Name divisions of an update: on these ranks with smaller batches, and on other ranks."""
    sizes = [own for own in range(batch_size, 1, -1) if images % (world_size * own) == 0]
    pairs = [(world_size, own) for own in sizes[:_SHOWN]]
    most = min(images // batch_size, _MOST_RANKS)
    ranks = [n for n in range(1, most + 1) if images % (n * batch_size) == 0]
    pairs += [(n, batch_size) for n in sorted(ranks, key=lambda n: abs(n - world_size))[:_SHOWN]]
    found = [f"{n} x {own} x {images // (n * own)}" for n, own in pairs]
    return ", ".join(found) or f"none with batch_size {batch_size} or less"


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
        old = before.get(key, _as_json(OPTIONS[key].default))
        if key == "epoch_size" and old != now[key]:
            yield from _length_changes(old, config, epochs)
        elif key not in allowed and old != now[key]:
            reason = " (MindSpore's random operations depend on it)"
            reason = reason if key == "num_parallel_workers" else ""
            yield f"{key}: {_shown(old)} -> {_shown(now[key])}{reason}"


def _length_changes(old: int, config: Config, epochs: int) -> Iterator[str]:
    """Say why the run's length cannot change; if it can, log how its schedule continues."""
    change = f"epoch_size: {old} -> {config.epoch_size}"
    if config.epoch_size < epochs:
        yield f"{change} (epoch {epochs} is done or begun)"
        return
    alike = epochs_alike(replace(config, epoch_size=old), config)
    if alike < epochs:
        until = f"only the first {plural(alike, 'epoch')}" if alike else "no epoch"
        yield (
            f"{change} (with {config.scheduler} {until} would have had the learning rates that "
            f"they had, and {epochs} are done or begun)"
        )
    else:
        same = f"the learning rates of {plural(epochs, 'epoch')} so far stay"
        goes_on = "the schedule goes on as if the run had had that length from the start"
        _logger.info("resume: %s; %s, %s", change, same, goes_on)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
