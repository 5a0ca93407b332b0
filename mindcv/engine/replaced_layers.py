"""Replace layers of a network for its training: synchronised, reproducible or in float16.

Call `synchronize_batch_norm` and `count_dropout` before `mixed_precision`, which wraps the layers.
Parameters keep their names and values.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops
from mindspore import dtype as mstype

from ..errors import ConfigError

_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")
_ROUNDS = (0x6255, 0x72A9, 0x5E2D, 0x7C4B, 0x4D35, 0x69C7)  # odd factors below 2**15
_HALF = 0xFFFF
DROPOUT_COUNT = "dropout_count"
# Layers that O1 computes in float16.
FLOAT16_LAYERS = tuple(kind for kind in amp.get_white_list() if issubclass(kind, nn.Cell))


def replace_layers(
    network: nn.Cell, is_meant: Callable[[nn.Cell], bool], make: Callable[[nn.Cell], nn.Cell]
) -> int:
    """Replace each layer that `is_meant` by what `make` returns for it; return how many."""
    replaced = 0
    is_list = isinstance(network, (nn.SequentialCell, nn.CellList))  # they run a list of their own
    cells = enumerate(list(network)) if is_list else list(network.name_cells().items())
    for place, cell in cells:
        if not is_meant(cell):
            replaced += replace_layers(cell, is_meant, make)
            continue
        names = [(parameter, parameter.name) for parameter in cell.get_parameters()]
        layer = make(cell)
        if is_list:
            network[place] = layer
        else:
            setattr(network, place, layer)
        for parameter, name in names:
            parameter.name = name  # a cell prefixes the names of parameters it is given
        replaced += 1
    return replaced


def synchronize_batch_norm(network: nn.Cell, world_size: int) -> int:
    """Replace each BatchNorm2d by one over the images of all processes; return how many."""

    def make(cell: nn.BatchNorm2d) -> SyncBatchNorm:
        layer = SyncBatchNorm(cell.num_features, cell.eps, 1.0 - cell.momentum, world_size)
        for part in _PARTS:
            setattr(layer, part, getattr(cell, part))
        return layer

    return replace_layers(network, lambda cell: type(cell) is nn.BatchNorm2d, make)


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes, (N, C, H, W) float32.

    Each process must have the same number of images. It uses AllReduce, whose gradient MindSpore
    knows: `nn.SyncBatchNorm` cannot be built under several processes on CPU (seen in 2.10), so it
    could not be tested here.
    """

    def __init__(self, num_features: int, eps: float, momentum: float, world_size: int):
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.world_size = world_size
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, x):
        if not self.training or self.use_batch_statistics is False:
            outputs = self.bn_infer(
                x, self.gamma, self.beta, self.moving_mean, self.moving_variance
            )
            return outputs[0]
        # Two reductions: the mean of squares minus the squared mean would lose digits.
        mean = self.all_reduce(x.mean((0, 2, 3))) / self.world_size
        centered = x - mean.reshape((1, -1, 1, 1))
        variance = self.all_reduce(ops.square(centered).mean((0, 2, 3))) / self.world_size
        count = x.shape[0] * x.shape[2] * x.shape[3] * self.world_size
        unbiased = variance * (count / max(1, count - 1))
        share = self.momentum
        moved = (
            ops.assign(self.moving_mean, (1.0 - share) * self.moving_mean + share * mean),
            ops.assign(
                self.moving_variance, (1.0 - share) * self.moving_variance + share * unbiased
            ),
        )
        scale = (self.gamma * ops.rsqrt(variance + self.eps)).reshape((1, -1, 1, 1))
        return ops.depend(centered * scale + self.beta.reshape((1, -1, 1, 1)), moved)


def count_dropout(
    network: nn.Cell, seed: int, world_size: int = 1, rank: int = 0
) -> Parameter | None:
    """Replace each `nn.Dropout` by one that draws as a function of seed, layer and batch.

    Batch `count * world_size + rank` is the same one for any number of processes. MindSpore's
    kernels hide their generators, so a resumed run could not continue their draws. Layers in
    stochastic depth (`DropPath`) are replaced too.

    Returns:
        the count, an int32 scalar to increase by 1 after each step; None if there is no dropout.
    """
    count = Parameter(Tensor(0, ms.int32), name=DROPOUT_COUNT, requires_grad=False)
    layers = itertools.count()
    replaced = replace_layers(
        network,
        lambda cell: type(cell) is nn.Dropout,
        # The 0 was the rank once: a single process draws what it always drew.
        lambda cell: CountedDropout(cell.p, (seed, 0, next(layers)), count, (world_size, rank)),
    )
    return count if replaced else None


class CountedDropout(nn.Cell):
    """Drop each element with probability p < 1 in training, and scale the others by 1 / (1 - p).

    The draw of an element is a hash of the batch's number, the layer's own number and the element's
    position: each axis has a random 32-bit number for every position. They are added one axis after
    the other, with a six-round Feistel network after each. So the graph holds as many constants as
    the lengths of the axes add up to, not one per element.

    Sums and products stay below 2**31, since no device documents what an overflow gives. Shapes
    meet in sums only, since bitwise_and and bitwise_xor document no broadcasting.

    `key` is the layer's own; all layers share `count` and `ranks`, (world_size, rank), see
    `count_dropout`.
    """

    def __init__(
        self, p: float, key: tuple[int, ...], count: Parameter, ranks: tuple[int, int] = (1, 0)
    ):
        super().__init__()
        self.p, self.key = p, key
        self.world_size, self.rank = ranks
        self.limit, self.scale = round(p * 2**24), 1.0 / (1.0 - p)
        # Bypasses `Cell.__setattr__`: the count must not become a parameter of the network, which
        # weight files would hold.
        object.__setattr__(self, "count", count)

    def construct(self, x):
        if not self.training or self.p == 0:
            return x
        count = ops.add(self.count, 0)
        if self.world_size > 1:
            count = count * self.world_size + self.rank
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


def mixed_precision(
    network: nn.Cell,
    level: str = "O0",
    cast_list: Sequence[str] = (),
    keep_bn_fp32: bool | None = None,
) -> nn.Cell:
    """Make a network compute partly in float16; its parameters and output stay float32.

    The levels are MindSpore's (`mindspore.amp`), and it applies O2, O3 and auto. Its own O1 and
    custom lists rewrite source files, which fails for a package with relative imports (seen in
    2.10); here they wrap the layers instead.

    Args:
        network: changed in place.
        level: O0, float32; O1, convolutions and dense layers in float16; O2, all but normalisation;
            O3, all; auto, MindSpore's choice per operator.
        cast_list: names of `mindspore.nn` layers that replace the level's own list: layers in
            float16 for O1, in float32 for O2 (source: MindCV, `utils/amp.py`).
        keep_bn_fp32: for O2 and O3, whether to compute normalisation in float32; None for the
            level's own choice.

    Raises:
        ConfigError: a name in the list is no layer of `mindspore.nn`, the network has none of the
            listed layers, or the level takes no list.
    """
    if cast_list and level not in ("O1", "O2"):
        raise ConfigError(
            f"amp_cast_list: amp_level {level} takes no list; use O1 or O2, or leave the list out"
        )
    listed = tuple(map(_layer, cast_list))
    cells = [cell for _, cell in network.cells_and_names()]
    if listed and not any(isinstance(cell, listed) for cell in cells):
        raise ConfigError(f"amp_cast_list: the network has no layer {' or '.join(cast_list)}")
    if level == "O1":
        replace_layers(network, lambda cell: isinstance(cell, listed or FLOAT16_LAYERS), _Float16)
        return network
    if level in ("O2", "O3"):
        keeps = level == "O2" if keep_bn_fp32 is None else keep_bn_fp32
        layers = amp.get_black_list() if keeps else []
        if not (listed or layers):
            return amp.auto_mixed_precision(network, "O3")
        return amp.custom_mixed_precision(network, black_list=list(listed) or layers)
    return amp.auto_mixed_precision(network, level)


class _Float16(nn.Cell):
    """Computes a layer in float16 and returns float32."""

    def __init__(self, layer: nn.Cell):
        super().__init__(auto_prefix=False)
        self.layer = layer.to_float(mstype.float16)

    def construct(self, x):
        return ops.cast(self.layer(x), mstype.float32)


def _layer(name: str) -> type[nn.Cell]:
    found = getattr(nn, name.removeprefix("nn."), None)
    if not (isinstance(found, type) and issubclass(found, nn.Cell)):
        raise ConfigError(f"amp_cast_list: mindspore.nn has no layer {name!r}, e.g. Conv2d, Dense")
    return found
