"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype

from .values import copy_value, set_value

WARM_UP = 2000.0  # updates over which the decay rises


class WeightAverage(nn.Cell):
    """Keep `average += (1 - d) * (weight - average)`, d = decay * (1 - exp(-updates / 2000)).

    The decay rises from 0, so that the first, random weights are soon forgotten (source: MindCV,
    `utils/train_step.py`). Running statistics of normalisation layers are averaged likewise. The
    averages are named `ema.<weight>`, and that is what checkpoints call them.

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
