"""The running average of the weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore import dtype as mstype

WARM_UP = 2000.0  # updates over which the decay of the average rises
# Name endings; within an epoch, ranks differ in these parameters.
STATISTICS = ("moving_mean", "moving_variance")


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
