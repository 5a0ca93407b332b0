"""What belongs to an update beside the optimizer: clipped gradients and the weights' average."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype

WARM_UP = 2000.0  # updates over which the decay of the average rises
STATISTICS = ("moving_mean", "moving_variance")  # ends of names; each rank has its own in an epoch


def create_clip(mode: str, limit: float) -> nn.Cell:
    """Return a cell that maps a tuple of gradients to clipped ones.

    Args:
        mode: global_norm, scale all gradients alike so that the norm of them all is at most the
            limit (as torch's `clip_grad_norm_` does); norm, the same for each gradient alone;
            value, clip each element to [-limit, limit].
        limit: above 0.

    Raises:
        ValueError: unknown mode, or a limit that is not above 0.
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
    # As one row: MindSpore's CPU kernel sums a row five times as fast as all axes of four.
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

    The decay rises from 0, so that the first, random weights are soon forgotten (source: MindCV,
    `utils/train_step.py`). Running statistics of normalisation layers are averaged likewise. The
    averages are named `ema.<weight>`, also in checkpoints.

    Args:
        network: whose parameters are averaged; call the cell after each update.
        decay: limit of d, in [0, 1).
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
        """Exchange weights and averages, and back again at the end, to the last bit.

        What the body changes in the network, e.g. running statistics, it changes in the averages.
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
    """Return those that are running means and variances of normalisation layers."""
    return [parameter for parameter in parameters if parameter.name.endswith(STATISTICS)]


def copy_value(parameter: Parameter) -> np.ndarray:
    """Return a copy; `asnumpy` alone shows memory that the next step changes."""
    return np.array(parameter.asnumpy())


def set_value(parameter: Parameter, values: np.ndarray) -> None:
    """Write new values into the memory of a parameter that compiled graphs already use.

    `Parameter.set_data` may give it another memory. In PyNative mode an optimizer that ran before
    then goes on to change the old one, and the weights stand still (seen in 2.10 on CPU).
    """
    ops.assign(parameter, Tensor(np.array(values), parameter.dtype))
