"""Learning-rate schedules: a plain list with one rate per step. No mindspore is imported here."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

# A schedule maps the time since the warm-up to a rate. Time is counted in steps, with a stair in
# epochs; both are whole numbers, so that every drop and restart falls on exactly one of them.
Schedule = Callable[[int], float]

_DECAY_SHAPES = {  # share of the way from lr to min_lr that is left, by progress 0..1
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "1-sqrt": lambda progress: 1.0 - math.sqrt(progress),
}


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

    The rate climbs linearly from `lr * warmup_factor` to `lr` over the warm-up; the schedule fills
    the rest of the run, so all its epochs, milestones too, count from the end of the warm-up. The
    rates are those of MindCV 0.3.0, which has no wsd.

    Args:
        steps_per_epoch: optimizer steps in an epoch.
        scheduler: constant, cosine_decay (also warmup_cosine_decay), step_decay, multi_step_decay,
            exponential_decay, polynomial_decay, one_cycle, cyclic or wsd.
        lr: peak rate.
        min_lr: rate after a cosine decay, at the end of one_cycle and wsd, lowest rate of cyclic.
        warmup_epochs: epochs of warm-up; 0 for one_cycle and cyclic, which climb by themselves.
        warmup_factor: first rate of the warm-up as a share of lr.
        decay_epochs: epochs of a cosine cycle, after the last one min_lr, None: the cycles share
            the time after the warm-up; epochs between drops of step_decay; epochs of the decay at
            the end of wsd, None: a tenth of the run, rounded up.
        decay_rate: factor of a drop, or per epoch of exponential_decay; power of polynomial_decay.
        milestones: epochs of the drops of multi_step_decay, increasing, after the warm-up.
        num_epochs: epochs of the whole run.
        num_cycles: cycles of cosine_decay (restarts are one less) and of cyclic.
        cycle_decay: factor on the peak from cosine cycle to cycle.
        lr_epoch_stair: one rate per epoch instead of one per step.
        warmup_steps: steps of warm-up, in place of warmup_epochs.
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
    epoch = 1 if lr_epoch_stair else steps_per_epoch  # in units of time, see Schedule
    warmup = warmup_epochs * epoch if warmup_steps is None else warmup_steps
    asked = f"warmup_epochs {warmup_epochs}" if warmup_steps is None else f"warmup_steps {warmup}"
    rest = num_epochs * epoch - warmup
    if rest < 1:
        raise ValueError(
            f"{asked} leave nothing of num_epochs {num_epochs} with {steps_per_epoch} steps each"
        )
    if scheduler in ("one_cycle", "cyclic") and (warmup or lr_epoch_stair):
        raise ValueError(
            f"{scheduler} climbs by itself, step by step: it takes no warm-up and no stair"
        )
    decay = decay_epochs and decay_epochs * epoch
    if scheduler == "constant":
        schedule = _constant(lr)
    elif scheduler in ("cosine_decay", "warmup_cosine_decay"):
        length = decay or rest // num_cycles
        if length < 1 or length * num_cycles > rest:
            raise ValueError(
                f"{asked} + {num_cycles} x decay_epochs {decay_epochs} exceed num_epochs "
                f"{num_epochs}; the decay would never end"
            )
        schedule = _cosine(lr, min_lr, length, num_cycles, cycle_decay)
    elif scheduler == "step_decay":
        if decay is None:
            raise ValueError("step_decay needs decay_epochs, the epochs between two drops")
        schedule = _step(lr, decay_rate, decay)
    elif scheduler == "multi_step_decay":
        drops = list(milestones or ())
        if drops != sorted(drops):
            raise ValueError(f"milestones {drops} must increase")
        schedule = _multi_step(lr, decay_rate, [drop * epoch for drop in drops])
    elif scheduler == "exponential_decay":
        schedule = _exponential(lr, decay_rate, epoch)
    elif scheduler == "polynomial_decay":
        schedule = _polynomial(lr, decay_rate, rest)
    elif scheduler == "one_cycle":
        schedule = _one_cycle(lr, min_lr, rest)
    elif scheduler == "cyclic":
        if 2 * num_cycles > rest:
            raise ValueError(f"num_cycles {num_cycles} need two steps each, the run has {rest}")
        schedule = _cyclic(lr, min_lr, rest // (2 * num_cycles))
    elif scheduler == "wsd":
        length = decay or -(-num_epochs // 10) * epoch
        if length > rest:
            raise ValueError(
                f"{asked} + decay_epochs {length // epoch} exceed num_epochs {num_epochs}; "
                "the decay would never end"
            )
        schedule = _warmup_stable_decay(lr, min_lr, rest - length, length, decay_shape)
    else:
        raise ValueError(
            f"scheduler {scheduler!r} is unknown; expected constant, cosine_decay, step_decay, "
            "multi_step_decay, exponential_decay, polynomial_decay, one_cycle, cyclic or wsd"
        )
    rates = [lr * (warmup_factor + (1.0 - warmup_factor) * t / warmup) for t in range(warmup)]
    rates += [schedule(t) for t in range(rest)]
    repeats = steps_per_epoch // epoch
    return [rate for rate in rates for _ in range(repeats)]


def _constant(lr: float) -> Schedule:
    return lambda t: lr


def _cosine(lr: float, min_lr: float, length: int, cycles: int, decay: float) -> Schedule:
    """Loshchilov and Hutter, SGDR, equation 5, with cycles of equal length."""

    def rate(t: int) -> float:
        cycle, since = divmod(t, length)
        if cycle >= cycles:
            return min_lr
        peak = lr * decay**cycle
        return min_lr + 0.5 * (peak - min_lr) * (1.0 + math.cos(math.pi * since / length))

    return rate


def _step(lr: float, factor: float, every: int) -> Schedule:
    return lambda t: lr * factor ** (t // every)


def _multi_step(lr: float, factor: float, drops: Sequence[int]) -> Schedule:
    return lambda t: lr * factor ** bisect_right(drops, t)


def _exponential(lr: float, factor: float, epoch: int) -> Schedule:
    return lambda t: lr * factor ** (t / epoch)


def _polynomial(lr: float, power: float, length: int) -> Schedule:
    return lambda t: lr * (1.0 - t / length) ** power


def _one_cycle(lr: float, min_lr: float, length: int) -> Schedule:
    """Smith and Topin, Super-Convergence, in torch's two cosine phases.

    From lr / 25 to lr over three tenths of the run, then down to min_lr at the last step.
    """
    top, last = 0.3 * length - 1.0, length - 1.0

    def rate(t: int) -> float:
        if t <= top:
            start, end, progress = lr / 25.0, lr, t / top
        else:
            start, end, progress = lr, min_lr, (t - top) / (last - top)
        return end + (start - end) / 2.0 * (math.cos(math.pi * progress) + 1.0)

    return rate


def _cyclic(lr: float, min_lr: float, half: int) -> Schedule:
    """Smith, Cyclical Learning Rates, the triangular policy: `half` steps up, as many down."""

    def rate(t: int) -> float:
        since = t % (2 * half)
        height = since / half if since <= half else 2.0 - since / half
        return min_lr + (lr - min_lr) * height

    return rate


def _warmup_stable_decay(
    lr: float, min_lr: float, stable: int, length: int, shape: str
) -> Schedule:
    """Hu et al. 2024, MiniCPM (arXiv 2404.06395): a plateau at lr, then a short decay.

    1 - sqrt is from Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations; linear and cosine are the other shapes in common use.
    """
    if shape not in _DECAY_SHAPES:
        raise ValueError(f"decay_shape {shape!r} is unknown; expected {', '.join(_DECAY_SHAPES)}")
    left = _DECAY_SHAPES[shape]

    def rate(t: int) -> float:
        if t < stable:
            return lr
        return min_lr + (lr - min_lr) * left((t - stable) / length)

    return rate
