"""The learning rates of a config, and contradictions between the options of its schedule."""

import logging
from collections.abc import Iterator

from ..errors import ConfigError
from ..scheduler import SCHEDULES, ScheduleRow, create_scheduler, default_decay
from .options import Config

_logger = logging.getLogger("mindcv.train")


def build_schedule(config: Config, updates_per_epoch: int, world_size: int = 1) -> list[float]:
    """Return the learning rate of every update of a run with `world_size` processes.

    Raises:
        ConfigError: the schedule does not fit into the updates, or min_lr is above the scaled lr;
            `schedule_contradictions` finds what is wrong without knowing either.
    """
    lr = scale_rate(config, world_size)
    if SCHEDULES[config.scheduler].falls_to_min and config.min_lr > lr:
        raise ConfigError(f"min_lr {config.min_lr} is above the scaled lr {lr:g}")
    return _rates(config, updates_per_epoch, lr)


def epochs_alike(config: Config, other: Config) -> int:
    """Return after how many epochs the rates of two runs first differ, or the shorter run ends."""
    # Few steps suffice: an epoch's rates follow from its number. A warm-up in steps must fit into
    # the first epoch.
    steps = max(10, config.warmup_steps or 0, other.warmup_steps or 0)
    lines = [_rates(one, steps, max(one.lr, one.min_lr)) for one in (config, other)]
    pairs = enumerate(zip(*lines))
    return next((step // steps for step, (a, b) in pairs if a != b), min(map(len, lines)) // steps)


def _rates(config: Config, updates_per_epoch: int, lr: float) -> list[float]:
    try:
        return create_scheduler(
            updates_per_epoch,
            config.scheduler,
            lr=lr,
            min_lr=config.min_lr,
            warmup_epochs=config.warmup_epochs,
            warmup_factor=config.warmup_factor,
            decay_epochs=config.decay_epochs,
            decay_rate=config.decay_rate,
            milestones=config.multi_step_decay_milestones,
            num_epochs=config.epoch_size,
            num_cycles=config.num_cycles,
            cycle_decay=config.cycle_decay,
            lr_epoch_stair=config.lr_epoch_stair,
            warmup_steps=config.warmup_steps,
            decay_shape=config.decay_shape,
        )
    except ValueError as error:
        raise ConfigError(f"scheduler {config.scheduler}: {error}") from None


def scale_rate(config: Config, world_size: int) -> float:
    """Return the peak rate, which `lr_base_size` scales to the images per update."""
    if config.lr_base_size is None:
        return config.lr
    images = config.batch_size * world_size * config.gradient_accumulation_steps
    rate = config.lr * images / config.lr_base_size
    _logger.info(
        "lr %g scaled to %g: %d images an update, lr_base_size %d",
        config.lr,
        rate,
        images,
        config.lr_base_size,
    )
    return rate


def schedule_contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for every contradiction in the schedule."""
    c, row = config, SCHEDULES[config.scheduler]
    yield from _warmup(c, row)
    yield from _decay(c, row)
    yield from _drops(c)
    last_peak = c.lr * c.cycle_decay ** (c.num_cycles - 1)
    # A scaled rate depends on the number of processes; build_schedule checks it.
    if row.falls_to_min and c.min_lr > c.lr and c.lr_base_size is None:
        yield "min_lr", f"min_lr {c.min_lr} is above lr {c.lr}; the rate would grow"
    elif row.has_cycles and last_peak < c.min_lr:
        yield (
            "cycle_decay",
            f"the peak of the last of {c.num_cycles} cycles, {last_peak:g}, falls below min_lr "
            f"{c.min_lr}",
        )


def _warmup(c: Config, row: ScheduleRow) -> Iterator[tuple[str, str]]:
    if row.climbs:
        key = "warmup_epochs" if c.warmup_steps is None else "warmup_steps"
        if getattr(c, key) > 0:
            yield key, f"{c.scheduler} climbs by itself; set {key} 0"
        if c.lr_epoch_stair:
            yield "lr_epoch_stair", f"{c.scheduler} changes from step to step; set it False"
        return
    if _warmup_epochs(c) >= c.epoch_size:
        yield (
            "warmup_epochs",
            f"{c.warmup_epochs} epochs of warm-up leave nothing of epoch_size {c.epoch_size}; "
            "shorten the warm-up or train longer",
        )
    if c.warmup_steps is not None and c.lr_epoch_stair:
        yield (
            "warmup_steps",
            "with lr_epoch_stair the rate changes only between epochs: use warmup_epochs",
        )
    elif c.lr_epoch_stair and c.warmup_epochs > 0 and c.warmup_factor == 0:
        yield (
            "lr_epoch_stair",
            "with warmup_factor 0 the whole first epoch would train at rate 0; set warmup_factor, "
            "e.g. 0.01",
        )


def _decay(c: Config, row: ScheduleRow) -> Iterator[tuple[str, str]]:
    rest = c.epoch_size - _warmup_epochs(c)
    if rest < 1 or not (row.has_cycles or c.scheduler == "wsd"):
        return
    # A warm-up in steps takes part of an epoch, which whole epochs of decay cannot use.
    room = rest - 1 if c.warmup_steps else rest
    cycles = c.num_cycles if row.has_cycles else 1
    if cycles > rest:
        yield "num_cycles", f"{cycles} cycles do not fit into {rest} epochs"
    elif c.decay_epochs is not None and c.decay_epochs * cycles > room:
        key = "warmup_epochs" if c.warmup_steps is None else "warmup_steps"
        several = "" if cycles == 1 else f"{cycles} cycles of "
        advice = f"use decay_epochs {room // cycles} or leave it out"
        yield (
            "decay_epochs",
            f"{key} {getattr(c, key)} + {several}decay_epochs {c.decay_epochs} exceed epoch_size "
            f"{c.epoch_size}, the decay would never end; "
            f"{advice if room >= cycles else 'leave it out'}",
        )
    elif not row.has_cycles and c.decay_epochs is None and default_decay(c.epoch_size) > room:
        yield (
            "scheduler",
            f"wsd decays over a tenth of epoch_size {c.epoch_size} when decay_epochs is left out, "
            "and the warm-up leaves no room for that; set decay_epochs or shorten the warm-up",
        )


def _drops(c: Config) -> Iterator[tuple[str, str]]:
    if c.scheduler in ("step_decay", "multi_step_decay", "exponential_decay") and c.decay_rate > 1:
        yield "decay_rate", f"factor {c.decay_rate} is above 1; the rate would grow"
    if c.scheduler == "step_decay" and c.decay_epochs is None:
        yield "scheduler", "step_decay needs decay_epochs, the epochs between two drops"
    elif c.scheduler == "step_decay" and _warmup_epochs(c) + c.decay_epochs >= c.epoch_size:
        yield (
            "decay_epochs",
            f"the first drop, {c.decay_epochs} epochs after the warm-up, is never reached within "
            f"epoch_size {c.epoch_size}",
        )
    if c.scheduler == "multi_step_decay":
        milestones = c.multi_step_decay_milestones
        if sorted(set(milestones)) != list(milestones):
            yield "multi_step_decay_milestones", f"{list(milestones)} must increase"
        elif milestones[-1] >= c.epoch_size - _warmup_epochs(c):
            yield (
                "multi_step_decay_milestones",
                f"milestone {milestones[-1]}, counted from the end of the warm-up, is never "
                f"reached within epoch_size {c.epoch_size}",
            )


def _warmup_epochs(config: Config) -> int:
    """Return the epochs of warm-up; 0 if it is in steps, as the dataset's size is unknown here."""
    return config.warmup_epochs if config.warmup_steps is None else 0
