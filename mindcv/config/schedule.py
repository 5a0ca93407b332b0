"""The learning rates of a config, and contradictions between the options of its schedule."""

import logging
from collections.abc import Iterator

from ..errors import ConfigError
from ..scheduler import SCHEDULES, Schedule
from .options import Config

_logger = logging.getLogger("mindcv.train")

# Arguments of `create_scheduler` whose options have other names.
_OPTIONS = {"num_epochs": "epoch_size", "milestones": "multi_step_decay_milestones"}


def build_schedule(config: Config, updates_per_epoch: int, world_size: int = 1) -> list[float]:
    """Return the learning rate of every update of a run with `world_size` processes.

    Raises:
        ConfigError: the schedule does not fit into the updates, or min_lr is above the scaled lr;
            `schedule_contradictions` finds what is wrong without knowing either.
    """
    lr = scale_rate(config, world_size)
    if SCHEDULES[config.scheduler].falls_to_min and config.min_lr > lr:
        raise ConfigError(f"min_lr {config.min_lr} is above the scaled lr {lr:g}")
    schedule = _schedule(config, updates_per_epoch, lr)
    for _, problem in schedule.problems():
        raise ConfigError(f"scheduler {config.scheduler}: {problem}")
    schedule.warn()
    return schedule.rates()


def updates_of_epoch(config: Config, images: int, world_size: int) -> int:
    """Return the updates of an epoch: batches of that many images, or groups that accumulate."""
    from ..data.order import steps_of_epoch  # imports NumPy: 0.1 s

    used = min(images, config.num_samples or images)
    steps = steps_of_epoch(used, world_size, config.batch_size, config.drop_remainder)
    return steps // config.gradient_accumulation_steps


def epochs_alike(config: Config, other: Config) -> int:
    """Return after how many epochs the rates of two runs first differ, or the shorter run ends."""
    steps = max(map(_enough_steps, (config, other)))
    lines = [_schedule(one, steps, max(one.lr, one.min_lr)).rates() for one in (config, other)]
    pairs = enumerate(zip(*lines))
    return next((step // steps for step, (a, b) in pairs if a != b), min(map(len, lines)) // steps)


def _schedule(config: Config, updates_per_epoch: int, lr: float) -> Schedule:
    names = "scheduler min_lr warmup_epochs warmup_steps warmup_factor decay_epochs decay_rate"
    names += " decay_shape num_cycles cycle_decay lr_epoch_stair"
    return Schedule(
        steps_per_epoch=updates_per_epoch,
        lr=lr,
        num_epochs=config.epoch_size,
        milestones=config.multi_step_decay_milestones,
        **{name: getattr(config, name) for name in names.split()},
    )


def _enough_steps(config: Config) -> int:
    """Return steps per epoch of which any schedule that some dataset allows has enough.

    A warm-up in steps must fit into the first epoch, and each cycle into the last one.
    """
    return 10 + (config.warmup_steps or 0) + 2 * config.num_cycles


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
    for argument, message in _schedule(c, _enough_steps(c), c.lr).problems():
        yield _OPTIONS.get(argument, argument), message
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
    if c.scheduler in ("step_decay", "multi_step_decay", "exponential_decay") and c.decay_rate > 1:
        yield "decay_rate", f"factor {c.decay_rate} is above 1; the rate would grow"
