"""Dropout with reproducible draws, in place of MindSpore's."""

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

_ROUNDS = (0x6255, 0x72A9, 0x5E2D, 0x7C4B, 0x4D35, 0x69C7)  # odd factors below 2**15
_HALF = 0xFFFF


def count_dropout(network: nn.Cell, seed: int, rank: int = 0) -> Parameter | None:
    """Replace each `nn.Dropout` by one that draws as a function of seed, rank, layer and count.

    MindSpore's kernels hide their generators, so a resumed run could not continue their draws.
    Layers in stochastic depth (`DropPath`) are replaced too; the parameters of the network stay as
    they are. Call it before mixed precision wraps the layers.

    Returns:
        the count, an int32 scalar to increase by 1 after each step; None if there is no dropout.
    """
    count = Parameter(Tensor(0, ms.int32), name="dropout_count", requires_grad=False)
    return count if _replace(network, (seed, rank), count, 0) else None


def _replace(network: nn.Cell, key: tuple[int, ...], count: Parameter, layers: int) -> int:
    for name, cell in list(network.name_cells().items()):
        if type(cell) is not nn.Dropout:
            layers = _replace(cell, key, count, layers)
            continue
        layer = CountedDropout(cell.p, (*key, layers), count)
        if isinstance(network, (nn.SequentialCell, nn.CellList)):
            network[int(name)] = layer
        else:
            setattr(network, name, layer)
        layers += 1
    return layers


class CountedDropout(nn.Cell):
    """Drop each element with probability p < 1 in training, and scale the others by 1 / (1 - p).

    The draw of an element is a hash of the count, the layer's own number and the element's
    position: each axis has a random 32-bit number for every position. They are added one axis after
    the other, with a six-round Feistel network after each. So the graph holds as many constants as
    the lengths of the axes add up to, not one per element.

    Sums and products stay below 2**31, since no device documents what an overflow gives. Shapes
    meet in sums only, since bitwise_and and bitwise_xor document no broadcasting.

    `key` is (seed, rank, layer); all layers share `count`, see `count_dropout`.
    """

    def __init__(self, p: float, key: tuple[int, ...], count: Parameter):
        super().__init__()
        self.p, self.key = p, key
        self.limit, self.scale = round(p * 2**24), 1.0 / (1.0 - p)
        # Bypasses `Cell.__setattr__`: the count must not become a parameter of the network, which
        # weight files would hold.
        object.__setattr__(self, "count", count)

    def construct(self, x):
        if not self.training or self.p == 0:
            return x
        count = ops.add(self.count, 0)
        high = ops.bitwise_right_shift(count, 16)
        low = count - high * 65536
        for own_high, own_low in _numbers(x.shape, self.key):
            high, low = _mix(high + own_high, low + own_low)
        draw = high * 256 + ops.bitwise_right_shift(low, 8)
        return x * (ops.cast(draw >= self.limit, x.dtype) * self.scale)


@ms.constexpr
def _numbers(shape: tuple[int, ...], key: tuple[int, ...]) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return (high, low) of the layer's number, then of those along each axis longer than 1."""
    # Raw numbers: NumPy promises to keep these, but not the distributions made of them.
    generator, numbers = np.random.PCG64(key), []
    for axis in (None, *(axis for axis, length in enumerate(shape) if length > 1)):
        places = [length if axis == other else 1 for other, length in enumerate(shape)]
        raw = generator.random_raw(math.prod(places)).reshape(places)
        halves = raw >> 16 & _HALF, raw & _HALF
        numbers.append(tuple(Tensor(half.astype(np.int32)) for half in halves))
    return tuple(numbers)


def _mix(high, low):
    # Computed from the data: the compiler would turn a known mask into a full-sized constant.
    mask = ops.cast(low >= 0, ms.int32) * _HALF
    high, low = ops.bitwise_and(high, mask), ops.bitwise_and(low, mask)
    for factor in _ROUNDS:
        turned = ops.bitwise_and(ops.bitwise_right_shift(low * factor, 7), mask)
        high, low = low, ops.bitwise_xor(high, turned)
    return high, low
