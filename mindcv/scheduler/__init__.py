"""Learning-rate schedules: a plain list with one rate per step. MindSpore is not imported here."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Course:
    """The arguments of `create_scheduler` that shape the rates after the warm-up.

    Times are whole numbers of steps (with lr_epoch_stair, of epochs), so that every drop and
    restart falls on one of them. `epoch` is the length of an epoch, `rest` that of the run after
    the warm-up.
    """

    lr: float
    min_lr: float
    epoch: int
    rest: int
    warmup: str
    num_epochs: int
    num_cycles: int
    cycle_decay: float
    decay_epochs: int | None
    decay_rate: float
    decay_shape: str
    milestones: Sequence[int]

    @property
    def cycle(self) -> int:
        return self.decay_epochs * self.epoch if self.decay_epochs else self.rest // self.num_cycles

    @property
    def final_decay(self) -> int:
        return (self.decay_epochs or default_decay(self.num_epochs)) * self.epoch


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule: its rate, by the time since the warm-up, and a check of its course."""

    rate: Callable[[_Course, int], float]
    problem: Callable[[_Course], str | None] = lambda course: None
    climbs: bool = False  # starts with a climb of its own: it takes no warm-up and no stair
    falls_to_min: bool = False  # min_lr is its lowest rate
    has_cycles: bool = False  # it falls in cosine cycles


def create_scheduler(
    steps_per_epoch: int,
    scheduler: str = "constant",
    lr: float = 0.01,
    min_lr: float = 1e-6,
    warmup_epochs: int = 3,
    warmup_factor: float = 0.0,
    decay_epochs: int | None = 10,
    decay_rate: float = 0.9,
    milestones: Sequence[int] | None = None,
    num_epochs: int = 200,
    num_cycles: int = 1,
    cycle_decay: float = 1.0,
    lr_epoch_stair: bool = False,
    warmup_steps: int | None = None,
    decay_shape: str = "linear",
) -> list[float]:
    """Return the learning rate of every step, `num_epochs * steps_per_epoch` numbers.

    The rate climbs linearly from `lr * warmup_factor` to `lr` over the warm-up. The schedule fills
    the rest of the run, so its epochs, milestones included, count from the end of the warm-up. The
    rates equal those of MindCV 0.3.0, which has no wsd.

    Args:
        scheduler: a name in SCHEDULES; warmup_cosine_decay is another name for cosine_decay.
        lr: peak rate.
        min_lr: rate after a cosine decay, at the end of one_cycle and wsd; lowest rate of cyclic.
        warmup_epochs, warmup_steps: length of the warm-up; warmup_steps wins. It must be 0 for
            one_cycle and cyclic, which climb by themselves.
        decay_epochs: for cosine_decay, the length of a cycle, with min_lr after the last one (None:
            the cycles share the time after the warm-up); for step_decay, the interval between
            drops; for wsd, the length of the final decay (None: a tenth of the run, rounded up).
        decay_rate: factor of a drop, or per epoch of exponential_decay; power of polynomial_decay.
        milestones: epochs of the drops of multi_step_decay, increasing.
        num_cycles: cycles of cosine_decay and cyclic.
        cycle_decay: factor on the peak from one cosine cycle to the next.
        lr_epoch_stair: one rate per epoch instead of one per step.
        decay_shape: of wsd: linear, cosine or 1-sqrt.

    Raises:
        ValueError: unknown schedule, or parts that do not fit into num_epochs or to each other.
    """
    if steps_per_epoch < 1 or num_epochs < 1 or warmup_epochs < 0 or (warmup_steps or 0) < 0:
        raise ValueError(
            f"steps_per_epoch {steps_per_epoch}, num_epochs {num_epochs}, warmup_epochs "
            f"{warmup_epochs}, warmup_steps {warmup_steps}: expected at least one step and epoch "
            "and no negative warm-up"
        )
    if num_cycles < 1 or (decay_epochs is not None and decay_epochs < 1):
        raise ValueError(
            f"decay_epochs {decay_epochs}, num_cycles {num_cycles}: expected at least 1"
        )
    if lr_epoch_stair and warmup_steps is not None:
        raise ValueError(f"warmup_steps {warmup_steps} and a stair of epochs do not go together")
    if scheduler not in SCHEDULES:
        raise ValueError(f"scheduler {scheduler!r} is unknown; expected {', '.join(SCHEDULES)}")
    row = SCHEDULES[scheduler]
    epoch = 1 if lr_epoch_stair else steps_per_epoch
    warmup = warmup_epochs * epoch if warmup_steps is None else warmup_steps
    named = f"warmup_epochs {warmup_epochs}" if warmup_steps is None else f"warmup_steps {warmup}"
    rest = num_epochs * epoch - warmup
    if rest < 1:
        raise ValueError(
            f"{named} leave nothing of num_epochs {num_epochs} with {steps_per_epoch} steps each"
        )
    if row.climbs and (warmup or lr_epoch_stair):
        raise ValueError(
            f"{scheduler} climbs by itself, step by step: it takes no warm-up and no stair"
        )
    course = _Course(
        lr=lr,
        min_lr=min_lr,
        epoch=epoch,
        rest=rest,
        warmup=named,
        num_epochs=num_epochs,
        num_cycles=num_cycles,
        cycle_decay=cycle_decay,
        decay_epochs=decay_epochs,
        decay_rate=decay_rate,
        decay_shape=decay_shape,
        milestones=milestones or (),
    )
    if problem := row.problem(course):
        raise ValueError(problem)
    rates = [lr * (warmup_factor + (1.0 - warmup_factor) * t / warmup) for t in range(warmup)]
    rates += [row.rate(course, t) for t in range(rest)]
    repeats = steps_per_epoch // epoch
    return [rate for rate in rates for _ in range(repeats)]


def default_decay(num_epochs: int) -> int:
    """Return the default length of wsd's decay in epochs: a tenth of the run, rounded up."""
    return -(-num_epochs // 10)


def _cosine(c: _Course, t: int) -> float:
    """Loshchilov and Hutter, SGDR, equation 5, with cycles of equal length."""
    cycle, since = divmod(t, c.cycle)
    if cycle >= c.num_cycles:
        return c.min_lr
    peak = c.lr * c.cycle_decay**cycle
    return c.min_lr + 0.5 * (peak - c.min_lr) * (1.0 + math.cos(math.pi * since / c.cycle))


def _too_many_cycles(c: _Course) -> str | None:
    if 1 <= c.cycle * c.num_cycles <= c.rest:
        return None
    return _too_long(c, f"{c.num_cycles} x decay_epochs {c.decay_epochs}")


def _too_long(c: _Course, decay: str) -> str:
    return f"{c.warmup} + {decay} exceed num_epochs {c.num_epochs}; the decay would never end"


def _no_interval(c: _Course) -> str | None:
    if c.decay_epochs is None:
        return "step_decay needs decay_epochs, the epochs between two drops"
    return None


def _multi_step(c: _Course, t: int) -> float:
    return c.lr * c.decay_rate ** bisect_right(c.milestones, t, key=lambda drop: drop * c.epoch)


def _unordered(c: _Course) -> str | None:
    drops = list(c.milestones)
    return None if drops == sorted(drops) else f"milestones {drops} must increase"


def _one_cycle(c: _Course, t: int) -> float:
    """Smith and Topin, Super-Convergence, in torch's two cosine phases, the first from lr / 25."""
    top, last = 0.3 * c.rest - 1.0, c.rest - 1.0
    if t <= top:
        start, end, progress = c.lr / 25.0, c.lr, t / top
    else:
        start, end, progress = c.lr, c.min_lr, (t - top) / (last - top)
    return end + (start - end) / 2.0 * (math.cos(math.pi * progress) + 1.0)


def _cyclic(c: _Course, t: int) -> float:
    """Smith, Cyclical Learning Rates, the triangular policy: half a cycle up, half a cycle down."""
    half = c.rest // (2 * c.num_cycles)
    since = t % (2 * half)
    height = since / half if since <= half else 2.0 - since / half
    return c.min_lr + (c.lr - c.min_lr) * height


def _too_few_steps(c: _Course) -> str | None:
    if 2 * c.num_cycles <= c.rest:
        return None
    return f"num_cycles {c.num_cycles} need two steps each, the run has {c.rest}"


def _warmup_stable_decay(c: _Course, t: int) -> float:
    """Hu et al. 2024, MiniCPM (arXiv 2404.06395): a plateau at lr, then a short decay."""
    since = t - (c.rest - c.final_decay)
    if since < 0:
        return c.lr
    return c.min_lr + (c.lr - c.min_lr) * DECAY_SHAPES[c.decay_shape](since / c.final_decay)


def _no_final_decay(c: _Course) -> str | None:
    if c.decay_shape not in DECAY_SHAPES:
        return f"decay_shape {c.decay_shape!r} is unknown; expected {', '.join(DECAY_SHAPES)}"
    if c.final_decay > c.rest:
        return _too_long(c, f"decay_epochs {c.final_decay // c.epoch}")
    return None


DECAY_SHAPES = {  # remaining share of lr - min_lr, by progress from 0 to 1
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    # Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations.
    "1-sqrt": lambda progress: 1.0 - math.sqrt(progress),
}
_COSINE = ScheduleRow(_cosine, _too_many_cycles, falls_to_min=True, has_cycles=True)
SCHEDULES = {
    "constant": ScheduleRow(lambda c, t: c.lr),
    "cosine_decay": _COSINE,
    "warmup_cosine_decay": _COSINE,
    "exponential_decay": ScheduleRow(lambda c, t: c.lr * c.decay_rate ** (t / c.epoch)),
    "polynomial_decay": ScheduleRow(lambda c, t: c.lr * (1.0 - t / c.rest) ** c.decay_rate),
    "step_decay": ScheduleRow(
        lambda c, t: c.lr * c.decay_rate ** (t // (c.decay_epochs * c.epoch)), _no_interval
    ),
    "multi_step_decay": ScheduleRow(_multi_step, _unordered),
    "one_cycle": ScheduleRow(_one_cycle, climbs=True, falls_to_min=True),
    "cyclic": ScheduleRow(_cyclic, _too_few_steps, climbs=True, falls_to_min=True),
    "wsd": ScheduleRow(_warmup_stable_decay, _no_final_decay, falls_to_min=True),
}
