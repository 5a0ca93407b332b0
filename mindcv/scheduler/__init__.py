"""Learning-rate schedules: a plain list with one rate per step. MindSpore is not imported here."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..mindcv_paths import submodule
from ..names import canonical
from .dynamic_lr import (
    annealed,
    cosine_decay_lr,
    cyclic_lr,
    multi_step_lr,
    one_cycle_lr,
    step_lr,
)

_logger = logging.getLogger("mindcv.train")


def __getattr__(name: str):
    return submodule(__name__, name)


@dataclass(frozen=True)
class Schedule:
    """The arguments of `create_scheduler`, with the checks and the rates that follow from them.

    Times are whole numbers of steps (with lr_epoch_stair, of epochs), so that every drop and
    restart falls on one of them.
    """

    steps_per_epoch: int
    scheduler: str
    lr: float
    min_lr: float
    warmup_epochs: int
    warmup_factor: float
    decay_epochs: int | None
    decay_rate: float
    milestones: Sequence[int]
    num_epochs: int
    num_cycles: int
    cycle_decay: float
    lr_epoch_stair: bool
    warmup_steps: int | None
    decay_shape: str

    @property
    def row(self) -> "ScheduleRow":
        return SCHEDULES[self.scheduler]

    @property
    def epoch(self) -> int:
        """Length of an epoch."""
        return 1 if self.lr_epoch_stair else self.steps_per_epoch

    @property
    def warmup(self) -> int:
        return self.warmup_epochs * self.epoch if self.warmup_steps is None else self.warmup_steps

    @property
    def warmup_key(self) -> str:
        return "warmup_epochs" if self.warmup_steps is None else "warmup_steps"

    @property
    def named_warmup(self) -> str:
        return f"{self.warmup_key} {getattr(self, self.warmup_key)}"

    @property
    def rest(self) -> int:
        """Length of the run after the warm-up."""
        return max(self.num_epochs * self.epoch - self.warmup, 0)

    @property
    def cycle(self) -> int:
        return self.decay_epochs * self.epoch if self.decay_epochs else self.rest // self.num_cycles

    @property
    def final_decay(self) -> int:
        """Length of the decay of wsd, by default a tenth of the run, rounded up."""
        return (self.decay_epochs or -(-self.num_epochs // 10)) * self.epoch

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (argument, message) for arguments that contradict each other."""
        row, key = self.row, self.warmup_key
        if row.climbs:
            if self.warmup:
                yield key, f"{self.scheduler} climbs by itself: it takes no warm-up; set {key} 0"
            if self.lr_epoch_stair:
                yield (
                    "lr_epoch_stair",
                    f"{self.scheduler} changes from step to step: it takes no stair; set it False",
                )
        elif self.warmup_steps is not None and self.lr_epoch_stair:
            yield (
                key,
                f"warmup_steps {self.warmup_steps} and lr_epoch_stair do not go together: with a "
                "stair the rate changes only between epochs; use warmup_epochs",
            )
        if self.rest and (problem := row.problem(self)):
            yield problem

    def remarks(self) -> Iterator[str]:
        """Yield what the user may not have meant."""
        if self.warmup and not self.warmup_factor and self.lr_epoch_stair:
            yield "with warmup_factor 0 and lr_epoch_stair the whole first epoch trains at rate 0"
        if not self.rest:
            run = f"the run of {self.num_epochs} epochs"
            yield f"the schedule is cut: {run} ends within the warm-up, {self.named_warmup}"
        elif remark := self.row.remark(self):
            yield remark

    def warn(self) -> None:
        for remark in self.remarks():
            _logger.warning("scheduler %s: %s", self.scheduler, remark)

    def rates(self) -> list[float]:
        """Return one rate per step; a schedule that is longer than the run is cut."""
        start, climb = self.warmup_factor, 1.0 - self.warmup_factor
        rates = [self.lr * (start + climb * t / self.warmup) for t in range(self.warmup)]
        rates += self.row.rates(self) if self.rest else []
        rates = rates[: self.num_epochs * self.epoch]
        repeats = self.steps_per_epoch // self.epoch
        return [rate for rate in rates for _ in range(repeats)]


@dataclass(frozen=True)
class ScheduleRow:
    """One schedule: its rates after the warm-up, a contradiction in it, and an oddity."""

    rates: Callable[[Schedule], list[float]]
    problem: Callable[[Schedule], tuple[str, str] | None] = lambda s: None
    remark: Callable[[Schedule], str | None] = lambda s: None
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
    the rest of the run, so its epochs, milestones included, count from the end of the warm-up. One
    that is longer than the run is cut, with a warning in the log; a wsd whose decay does not fit
    after the warm-up is an error. The rates equal those of MindCV, which has no wsd.

    Args:
        scheduler: a name in SCHEDULES, in any case; warmup_cosine_decay is cosine_decay.
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
        ValueError: unknown schedule, or arguments that contradict each other.
    """
    given = dict(locals())  # all arguments; `Schedule` has the same
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
    scheduler = canonical(scheduler, SCHEDULES)
    if scheduler not in SCHEDULES:
        raise ValueError(f"scheduler {scheduler!r} is unknown; expected {', '.join(SCHEDULES)}")
    schedule = Schedule(**given | {"scheduler": scheduler, "milestones": tuple(milestones or ())})
    for _, problem in schedule.problems():
        raise ValueError(problem)
    schedule.warn()
    return schedule.rates()


def _in_steps(s: Schedule) -> dict[str, int]:
    """Return how the functions of `dynamic_lr` count time in steps, the rest of the run long."""
    return {"steps_per_epoch": 1, "epochs": s.rest}


def _cosine(s: Schedule) -> list[float]:
    """Loshchilov and Hutter, SGDR, equation 5, with cycles of equal length."""
    cycles = dict(num_cycles=s.num_cycles, cycle_decay=s.cycle_decay)
    return cosine_decay_lr(s.cycle, s.min_lr, eta_max=s.lr, **_in_steps(s), **cycles)


def _empty_cycles(s: Schedule) -> tuple[str, str] | None:
    if s.cycle:
        return None
    unit = "epochs" if s.lr_epoch_stair else "steps"
    return "num_cycles", f"{s.num_cycles} cycles do not fit into {s.rest} {unit} after the warm-up"


def _unfinished_cycles(s: Schedule) -> str | None:
    if s.cycle * s.num_cycles <= s.rest:
        return None
    cycles = "" if s.num_cycles == 1 else f"{s.num_cycles} cycles of "
    return (
        f"the schedule is cut before it reaches min_lr: {s.named_warmup} + {cycles}decay_epochs "
        f"{s.decay_epochs} exceed {s.num_epochs} epochs"
    )


def _step(s: Schedule) -> list[float]:
    return step_lr(s.decay_epochs * s.epoch, s.decay_rate, lr=s.lr, **_in_steps(s))


def _no_interval(s: Schedule) -> tuple[str, str] | None:
    if s.decay_epochs is None:
        return "scheduler", "step_decay needs decay_epochs, the epochs between two drops"
    return None


def _multi_step(s: Schedule) -> list[float]:
    drops = [drop * s.epoch for drop in s.milestones]
    return multi_step_lr(drops, s.decay_rate, lr=s.lr, **_in_steps(s))


def _unordered(s: Schedule) -> tuple[str, str] | None:
    if list(s.milestones) == sorted(set(s.milestones)):
        return None
    return "milestones", f"milestones {list(s.milestones)} must increase"


def _unreached(s: Schedule, drop: int) -> str | None:
    if drop * s.epoch < s.rest:
        return None
    return f"the drop {drop} epochs after the warm-up lies beyond the run of {s.num_epochs} epochs"


def _one_cycle(s: Schedule) -> list[float]:
    """The first of torch's two cosine phases starts from lr / 25, the second ends at min_lr."""
    ratio = s.lr / 25.0 / s.min_lr if s.min_lr else math.inf
    return one_cycle_lr(s.lr, final_div_factor=ratio, **_in_steps(s))


def _cyclic(s: Schedule) -> list[float]:
    """Half of each cycle up, half of it down."""
    return cyclic_lr(s.min_lr, s.lr, s.rest // (2 * s.num_cycles), **_in_steps(s))


def _too_few_steps(s: Schedule) -> tuple[str, str] | None:
    if 2 * s.num_cycles <= s.rest:
        return None
    return "num_cycles", f"{s.num_cycles} cycles need two steps each, the run has {s.rest}"


def _warmup_stable_decay(s: Schedule) -> list[float]:
    """Hu et al. 2024, MiniCPM (arXiv 2404.06395): a plateau at lr, then a short decay."""
    shape, length = DECAY_SHAPES[s.decay_shape], s.final_decay
    decay = [s.min_lr + (s.lr - s.min_lr) * shape(t / length) for t in range(length)]
    return [s.lr] * (s.rest - length) + decay


def _no_final_decay(s: Schedule) -> tuple[str, str] | None:
    if s.decay_shape not in DECAY_SHAPES:
        known = ", ".join(DECAY_SHAPES)
        return "decay_shape", f"decay_shape {s.decay_shape!r} is unknown; expected {known}"
    room = s.rest // s.epoch
    if s.final_decay <= s.rest:
        return None
    if s.decay_epochs is None:
        return (
            "scheduler",
            f"wsd decays over a tenth of the run of {s.num_epochs} epochs when decay_epochs is "
            "left out, and the warm-up leaves no room for that; set decay_epochs or shorten the "
            "warm-up",
        )
    return (
        "decay_epochs",
        f"{s.named_warmup} + decay_epochs {s.decay_epochs} exceed the run of {s.num_epochs} "
        "epochs, the decay would never end; "
        + (
            f"use decay_epochs {room}, or None for a tenth of the run"
            if room
            else "shorten the warm-up"
        ),
    )


DECAY_SHAPES = {  # remaining share of lr - min_lr, by progress from 0 to 1
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: annealed(1.0, 0.0, progress, 1.0),
    # Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations.
    "1-sqrt": lambda progress: 1.0 - math.sqrt(progress),
}
_COSINE = ScheduleRow(
    _cosine, _empty_cycles, _unfinished_cycles, falls_to_min=True, has_cycles=True
)
SCHEDULES = {
    "constant": ScheduleRow(lambda s: [s.lr] * s.rest),
    "cosine_decay": _COSINE,
    "warmup_cosine_decay": _COSINE,
    "exponential_decay": ScheduleRow(
        lambda s: [s.lr * s.decay_rate ** (t / s.epoch) for t in range(s.rest)]
    ),
    "polynomial_decay": ScheduleRow(
        lambda s: [s.lr * (1.0 - t / s.rest) ** s.decay_rate for t in range(s.rest)]
    ),
    "step_decay": ScheduleRow(_step, _no_interval, lambda s: _unreached(s, s.decay_epochs)),
    "multi_step_decay": ScheduleRow(
        _multi_step, _unordered, lambda s: _unreached(s, max(s.milestones, default=0))
    ),
    "one_cycle": ScheduleRow(_one_cycle, climbs=True, falls_to_min=True),
    "cyclic": ScheduleRow(_cyclic, _too_few_steps, climbs=True, falls_to_min=True),
    "wsd": ScheduleRow(_warmup_stable_decay, _no_final_decay, falls_to_min=True),
}
