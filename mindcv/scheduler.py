"""Learning-rate schedules: a plain list with one rate per step. No mindspore is imported here."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

# A schedule is a function of the time since the warm-up, in epochs (whole numbers with a stair).
Schedule = Callable[[float], float]


def create_scheduler(
    steps_per_epoch: int,
    scheduler: str = "constant",
    lr: float = 0.01,
    min_lr: float = 1e-6,
    warmup_epochs: int = 3,
    warmup_factor: float = 0.0,
    decay_epochs: int = 10,
    decay_rate: float = 0.9,
    milestones: Sequence[int] | None = None,
    num_epochs: int = 200,
    num_cycles: int = 1,
    cycle_decay: float = 1.0,
    lr_epoch_stair: bool = False,
) -> list[float]:
    """Return the learning rate of every step, `num_epochs * steps_per_epoch` numbers.

    The rate climbs linearly from `lr * warmup_factor` to `lr` over the warm-up; the schedule fills
    the rest of the run, so all its epochs, milestones too, count from the end of the warm-up. The
    rates are those of MindCV 0.3.0.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
        scheduler: constant, cosine_decay (also warmup_cosine_decay), step_decay, multi_step_decay,
            exponential_decay or polynomial_decay.
        lr: peak rate.
        min_lr: rate after a cosine decay.
        warmup_epochs: epochs of warm-up.
        warmup_factor: first rate of the warm-up as a share of lr.
        decay_epochs: epochs of a cosine decay, afterwards min_lr; epochs between drops of
            step_decay.
        decay_rate: factor of a drop, or per epoch of exponential_decay; power of polynomial_decay.
        milestones: epochs of the drops of multi_step_decay, increasing, after the warm-up.
        num_epochs: epochs of the whole run.
        num_cycles: cosine cycles, decay_epochs each.
        cycle_decay: factor on the peak from cycle to cycle.
        lr_epoch_stair: one rate per epoch instead of one per step.

    Raises:
        ValueError: unknown schedule, or parts that do not fit into num_epochs.
    """
    if steps_per_epoch < 1 or num_epochs < 1 or warmup_epochs < 0:
        raise ValueError(
            f"steps_per_epoch {steps_per_epoch}, num_epochs {num_epochs}, warmup_epochs "
            f"{warmup_epochs}: expected at least one step and epoch and no negative warm-up"
        )
    rest = num_epochs - warmup_epochs
    if rest < 1:
        raise ValueError(f"warmup_epochs {warmup_epochs} leave nothing of num_epochs {num_epochs}")
    if decay_epochs < 1 or num_cycles < 1:
        raise ValueError(
            f"decay_epochs {decay_epochs}, num_cycles {num_cycles}: expected at least 1"
        )
    if scheduler == "constant":
        schedule = _constant(lr)
    elif scheduler in ("cosine_decay", "warmup_cosine_decay"):
        if decay_epochs * num_cycles > rest:
            raise ValueError(
                f"warmup_epochs {warmup_epochs} + {num_cycles} x decay_epochs {decay_epochs} "
                f"exceed num_epochs {num_epochs}; the decay would never end"
            )
        schedule = _cosine(lr, min_lr, decay_epochs, num_cycles, cycle_decay)
    elif scheduler == "step_decay":
        schedule = _step(lr, decay_rate, decay_epochs)
    elif scheduler == "multi_step_decay":
        drops = list(milestones or ())
        if drops != sorted(drops):
            raise ValueError(f"milestones {drops} must increase")
        schedule = _multi_step(lr, decay_rate, drops)
    elif scheduler == "exponential_decay":
        schedule = _exponential(lr, decay_rate)
    elif scheduler == "polynomial_decay":
        schedule = _polynomial(lr, decay_rate, rest)
    else:
        raise ValueError(
            f"scheduler {scheduler!r} is unknown; expected constant, cosine_decay, step_decay, "
            "multi_step_decay, exponential_decay or polynomial_decay"
        )
    warmup = _warmup(lr, warmup_factor, warmup_epochs, steps_per_epoch, lr_epoch_stair)
    main = [
        schedule(step // steps_per_epoch if lr_epoch_stair else step / steps_per_epoch)
        for step in range(rest * steps_per_epoch)
    ]
    return warmup + main


def _warmup(
    lr: float, factor: float, epochs: int, steps_per_epoch: int, stair: bool
) -> list[float]:
    steps = epochs * steps_per_epoch
    rates = []
    for step in range(steps):
        progress = step // steps_per_epoch / epochs if stair else step / steps
        rates.append(lr * (factor + (1.0 - factor) * progress))
    return rates


def _constant(lr: float) -> Schedule:
    return lambda epoch: lr


def _cosine(lr: float, min_lr: float, length: int, cycles: int, decay: float) -> Schedule:
    """Loshchilov and Hutter, SGDR, equation 5, with cycles of equal length."""

    def rate(epoch: float) -> float:
        cycle = math.floor(epoch / length)
        if cycle >= cycles:
            return min_lr
        peak = lr * decay**cycle
        phase = (epoch - cycle * length) / length
        return min_lr + 0.5 * (peak - min_lr) * (1.0 + math.cos(math.pi * phase))

    return rate


def _step(lr: float, factor: float, every: int) -> Schedule:
    return lambda epoch: lr * factor ** (int(epoch) // every)


def _multi_step(lr: float, factor: float, drops: Sequence[int]) -> Schedule:
    return lambda epoch: lr * factor ** bisect_right(drops, int(epoch))


def _exponential(lr: float, factor: float) -> Schedule:
    return lambda epoch: lr * factor**epoch


def _polynomial(lr: float, power: float, epochs: int) -> Schedule:
    return lambda epoch: lr * (1.0 - epoch / epochs) ** power
