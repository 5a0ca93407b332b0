"""The learning-rate lists of MindCV's `scheduler.dynamic_lr`, which follow torch's schedulers.

Each function returns `epochs * steps_per_epoch` rates, one per step. Lengths and milestones are in
epochs, those of `cyclic_lr` in steps. `lr`, `eta_max` and `max_lr` are peak rates. The functions
keep one rate throughout an epoch; those with `refined` in their name, the warm restarts,
`one_cycle_lr` and `cyclic_lr` change it from step to step.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import partial


def annealed(start: float, end: float, time: float, length: float) -> float:
    """Return the rate of a half cosine from `start` at time 0 to `end` at `length`."""
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * time / length))


def _by_time(rate: Callable[[float], float], steps_per_epoch, epochs, refined=False) -> list[float]:
    """Return the rate of each step; `rate` takes the time in epochs, whole unless refined."""
    steps = range(epochs * steps_per_epoch)
    return [rate(i / steps_per_epoch if refined else i // steps_per_epoch) for i in steps]


def constant_lr(factor, total_iters, *, lr, steps_per_epoch, epochs):
    """Return `lr * factor` for the first `total_iters` epochs, then `lr`."""
    return _by_time(lambda t: lr * factor if t < total_iters else lr, steps_per_epoch, epochs)


def linear_lr(start_factor, end_factor, total_iters, *, lr, steps_per_epoch, epochs, refined=False):
    """Return rates from `lr * start_factor` to `lr * end_factor`, reached after `total_iters`."""
    start, end = lr * start_factor, lr * end_factor

    def rate(t):
        return start + min(t, total_iters) / total_iters * (end - start)

    return _by_time(rate, steps_per_epoch, epochs, refined)


def polynomial_lr(total_iters, power, *, lr, steps_per_epoch, epochs, refined=False):
    """Return `lr * (1 - t / total_iters) ** power`, 0 from `total_iters` on."""

    def rate(t):
        return lr * (1 - min(t, total_iters) / total_iters) ** power

    return _by_time(rate, steps_per_epoch, epochs, refined)


def exponential_lr(gamma, *, lr, steps_per_epoch, epochs, refined=False):
    """Return `lr * gamma ** t`."""
    return _by_time(lambda t: lr * gamma**t, steps_per_epoch, epochs, refined)


def step_lr(step_size, gamma, *, lr, steps_per_epoch, epochs):
    """Return rates multiplied by `gamma` every `step_size` epochs."""
    return _by_time(lambda t: lr * gamma ** (t // step_size), steps_per_epoch, epochs)


def multi_step_lr(milestones, gamma, *, lr, steps_per_epoch, epochs):
    """Return rates multiplied by `gamma` at each milestone."""
    drops = sorted(milestones)
    return _by_time(lambda t: lr * gamma ** bisect_right(drops, t), steps_per_epoch, epochs)


def cosine_decay_lr(
    decay_epochs,
    eta_min,
    *,
    eta_max,
    steps_per_epoch,
    epochs,
    num_cycles=1,
    cycle_decay=1.0,
    refined=False,
):
    """Return cosine cycles of `decay_epochs` each, then `eta_min`.

    Each peak is `cycle_decay` times the one before.
    """

    def rate(t):
        cycle, since = divmod(t, decay_epochs)
        if cycle >= num_cycles:
            return eta_min
        return annealed(eta_max * cycle_decay**cycle, eta_min, since, decay_epochs)

    return _by_time(rate, steps_per_epoch, epochs, refined)


def cosine_annealing_lr(t_max, eta_min, *, eta_max, steps_per_epoch, epochs):
    """Return a cosine that falls for `t_max` epochs and climbs for as many, and so on."""
    return _by_time(lambda t: annealed(eta_max, eta_min, t, t_max), steps_per_epoch, epochs)


def cosine_annealing_warm_restarts_lr(te, tm, eta_min, *, eta_max, steps_per_epoch, epochs):
    """Return cosine cycles of `te`, `te * tm`, `te * tm ** 2`, … epochs, step by step."""
    start, length, rates = 0, te, []
    for step in range(epochs * steps_per_epoch):
        if step == (start + length) * steps_per_epoch:
            start, length = start + length, length * tm
        rates.append(annealed(eta_max, eta_min, step / steps_per_epoch - start, length))
    return rates


def one_cycle_lr(
    max_lr,
    pct_start=0.3,
    anneal_strategy="cos",
    div_factor=25.0,
    final_div_factor=10000.0,
    three_phase=False,
    *,
    steps_per_epoch,
    epochs,
):
    """Return a climb from `max_lr / div_factor` and a fall (Smith and Topin, Super-Convergence).

    The climb takes the share `pct_start` of the steps. The fall ends at `max_lr / div_factor /
    final_div_factor`; with `three_phase` it first mirrors the climb. ValueError: `anneal_strategy`
    is neither cos nor linear.
    """
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy {anneal_strategy!r} is unknown; expected cos or linear")
    steps, first = epochs * steps_per_epoch, max_lr / div_factor
    top, last = pct_start * steps - 1.0, first / final_div_factor
    phases = [(top, max_lr), (steps - 1.0, last)]  # last step and rate
    if three_phase:
        phases.insert(1, (2 * top, first))

    def rate(step):
        since, start = 0.0, first
        for until, end in phases:
            if step <= until:
                break
            since, start = until, end
        if anneal_strategy == "cos":
            return annealed(start, end, step - since, until - since)
        return start + (end - start) * (step - since) / (until - since)

    return [rate(step) for step in range(steps)]


def cyclic_lr(
    base_lr,
    max_lr,
    step_size_up=2000,
    step_size_down=None,
    mode="triangular",
    gamma=1.0,
    scale_fn=None,
    scale_mode="cycle",
    *,
    steps_per_epoch,
    epochs,
):
    """Return triangles between `base_lr` and `max_lr` (Smith, Cyclical Learning Rates).

    Args:
        step_size_up, step_size_down: steps of the climb and of the fall, by default equal.
        mode: triangular; triangular2, half as high from cycle to cycle; exp_range, `gamma ** step`
            as high.
        scale_fn: a function for the height instead of mode; takes the number of the cycle, from 1,
            or with scale_mode iterations that of the step, from 0.

    Raises:
        ValueError: unknown mode.
    """
    modes = {
        "triangular": (lambda cycle: 1.0, "cycle"),
        "triangular2": (lambda cycle: 0.5 ** (cycle - 1), "cycle"),
        "exp_range": (lambda step: gamma**step, "iterations"),
    }
    if scale_fn is None:
        if mode not in modes:
            raise ValueError(f"mode {mode!r} is unknown; expected {', '.join(modes)}")
        scale_fn, scale_mode = modes[mode]
    length = step_size_up + (step_size_up if step_size_down is None else step_size_down)

    def rate(step):
        cycle, since = divmod(step, length)
        up = since <= step_size_up
        height = since / step_size_up if up else (length - since) / (length - step_size_up)
        scale = scale_fn(cycle + 1 if scale_mode == "cycle" else step)
        return base_lr + (max_lr - base_lr) * height * scale

    return [rate(step) for step in range(epochs * steps_per_epoch)]


linear_refined_lr = partial(linear_lr, refined=True)
polynomial_refined_lr = partial(polynomial_lr, refined=True)
exponential_refined_lr = partial(exponential_lr, refined=True)
cosine_decay_refined_lr = partial(cosine_decay_lr, refined=True)
