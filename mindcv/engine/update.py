"""Gradient clipping, and the running average of the weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype

WARM_UP = 2000.0  # updates over which the decay of the average rises
# Name endings; within an epoch, ranks differ in these parameters.
STATISTICS = ("moving_mean", "moving_variance")


def create_clip(mode: str, limit: float) -> nn.Cell:
    """Return a cell that maps a tuple of gradients to clipped ones.

    Args:
        mode: global_norm scales all gradients alike so that their joint norm is at most the limit
            (as torch's `clip_grad_norm_` does); norm does the same for each gradient alone; value
            clips each element to [-limit, limit].

    Raises:
        ValueError: the mode is unknown, or the limit is not above 0.
    """
    if mode not in _CLIPS:
        raise ValueError(f"clip mode {mode!r} is unknown; expected {', '.join(CLIP_MODES)}")
    if not limit > 0:
        raise ValueError(f"clip limit {limit} must be above 0")
    return _CLIPS[mode](limit)


class _Clip(nn.Cell):
    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit
        self.map = ops.HyperMap()


class ClipGlobalNorm(_Clip):
    """`g * min(1, limit / (norm of all gradients + 1e-6))`."""

    def construct(self, gradients):
        squares = self.map(_square_sum, gradients)
        norm = ops.sqrt(ops.addn(squares))
        return self.map(ops.partial(_scale, _factor(norm, self.limit)), gradients)


class ClipNorm(_Clip):
    """`g * min(1, limit / (norm of g + 1e-6))` for each gradient."""

    def construct(self, gradients):
        return self.map(ops.partial(_scale_to, self.limit), gradients)


class ClipValue(_Clip):
    """`min(max(g, -limit), limit)`."""

    def construct(self, gradients):
        return self.map(ops.partial(_clamp, self.limit), gradients)


_CLIPS = {"global_norm": ClipGlobalNorm, "norm": ClipNorm, "value": ClipValue}
CLIP_MODES = tuple(_CLIPS)

_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale = ops.MultitypeFuncGraph("scale_gradient")
_scale_to = ops.MultitypeFuncGraph("scale_gradient_to")
_clamp = ops.MultitypeFuncGraph("clamp_gradient")


@_square_sum.register("Tensor")
def _square_sum_of_one(gradient):
    # Flattened: MindSpore's CPU kernel sums one axis five times as fast as four.
    return ops.square(ops.cast(gradient, mstype.float32)).reshape((-1,)).sum()


@_scale.register("Tensor", "Tensor")
def _scale_one(factor, gradient):
    return gradient * ops.cast(factor, gradient.dtype)


@_scale_to.register("Number", "Tensor")
def _scale_one_to(limit, gradient):
    return gradient * ops.cast(_factor(ops.sqrt(_square_sum(gradient)), limit), gradient.dtype)


@_clamp.register("Number", "Tensor")
def _clamp_one(limit, gradient):
    return ops.clamp(gradient, -limit, limit)


def _factor(norm, limit):
    return ops.minimum(limit / (norm + 1e-6), 1.0)


class WeightAverage(nn.Cell):
    """Keep `average += (1 - d) * (weight - average)`, d = decay * (1 - exp(-updates / 2000)).

    `decay` is in [0, 1). d rises from 0, so that the random initial weights are soon forgotten
    (source: MindCV, `utils/train_step.py`). Running statistics of normalisation layers are averaged
    likewise. The averages are named `ema.<weight>`, also in checkpoints. Call the cell after each
    update.
    """

    def __init__(self, network: nn.Cell, decay: float = 0.9999):
        super().__init__(auto_prefix=False)
        self.weights = ParameterTuple(network.get_parameters())
        self.averages = self.weights.clone(prefix="ema", init="same")
        for average in self.averages:
            average.requires_grad = False
        self.updates = Parameter(Tensor(0.0, mstype.float32), name="updates")
        self.decay = decay
        self.map = ops.HyperMap()

    def construct(self):
        updates = ops.assign(self.updates, self.updates + 1.0)
        share = 1.0 - self.decay * (1.0 - ops.exp(-updates / WARM_UP))
        moved = self.map(ops.partial(_move, share), self.averages, self.weights)
        return ops.depend(updates, moved)

    @contextmanager
    def in_place_of_the_weights(self) -> Iterator[None]:
        """Swap weights and averages for the body, and back again, to the last bit.

        What the body changes in the network, e.g. running statistics, changes in the averages.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for weight, average in zip(self.weights, self.averages):
            own = copy_value(weight)
            set_value(weight, copy_value(average))
            set_value(average, own)


_move = ops.MultitypeFuncGraph("move_average")


@_move.register("Tensor", "Tensor", "Tensor")
def _move_one(share, average, weight):
    step = ops.cast(share, weight.dtype) * (weight - average)
    return ops.assign(average, average + step)


def running_statistics(parameters: Iterable[Parameter]) -> list[Parameter]:
    return [parameter for parameter in parameters if parameter.name.endswith(STATISTICS)]


def copy_value(parameter: Parameter) -> np.ndarray:
    """Return a copy, since `asnumpy` alone shows memory that the next step changes."""
    return np.array(parameter.asnumpy())


def set_value(parameter: Parameter, values: np.ndarray) -> None:
    """Write new values into the memory of a parameter that compiled graphs already use.

    `Parameter.set_data` may allocate new memory. In PyNative mode, an optimizer that has already
    run then keeps changing the old memory, and the weights stand still (seen in 2.10 on CPU).
    """
    ops.assign(parameter, Tensor(np.array(values), parameter.dtype))
