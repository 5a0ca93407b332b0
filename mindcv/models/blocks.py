"""The parts of an AnyNet: stems, transforms, blocks, stages and head.

Names follow pycls `models/blocks.py`; each docstring is the part's formula.
"""

import itertools
import math
from collections.abc import Sequence

from mindspore import nn, ops
from mindspore.common.initializer import Normal, Uniform, initializer

from ..design_space.plan import BLOCKS, STEMS, BlockPlan, BlockRow, NetworkPlan
from .layers import DropPath, SqueezeExcite


def conv2d(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Build a convolution with an odd kernel, padded to keep the size at stride 1."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        pad_mode="pad",
        padding=kernel // 2,
        group=groups,
    )


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Build batch normalisation with the paper's eps of 1e-5 and momentum of 0.1.

    MindSpore's momentum is the share that is kept: its 0.9 is 0.1 in torch and pycls. As in torch,
    the biased variance normalises a batch, and the unbiased one enters moving_variance: n / (n - 1)
    times as large, with n = N * H * W. MindSpore's documentation does not say so; it was measured
    with 2.10 on CPU, and CANN's bn_training_update does the same on Ascend. A single value per
    channel (n = 1), where torch raises, makes moving_variance nan on CPU.
    """
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9)


ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


def initialize_weights(network: nn.Cell) -> None:
    """Initialise as pycls does (`core/net.py`, `init_weights`).

    Convolutions: normal with variance 2 / (kernel area * output channels), regardless of groups;
    their biases (squeeze-and-excitation) as in torch, uniform within 1 / sqrt(fan-in). Classifier:
    normal with standard deviation 0.01, bias 0. Normalisation: gamma 1, beta 0.
    """
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            area = math.prod(cell.kernel_size)
            _reset(cell.weight, Normal(math.sqrt(2.0 / (area * cell.out_channels))))
            if cell.has_bias:
                fan_in = area * cell.in_channels // cell.group
                _reset(cell.bias, Uniform(1.0 / math.sqrt(fan_in)))
        elif isinstance(cell, nn.BatchNorm2d):
            _reset(cell.gamma, "ones")
            _reset(cell.beta, "zeros")
        elif isinstance(cell, nn.Dense):
            _reset(cell.weight, Normal(0.01))
            if cell.has_bias:
                _reset(cell.bias, "zeros")


def zero_last_gammas(stages: nn.CellList) -> None:
    """Zero the last gamma of each branch that is added to a shortcut, so that it starts as 0."""
    for stage in stages:
        for block in stage.blocks:
            if block.adds:  # without a shortcut, everything after the block would be constant
                *_, norm = (c for _, c in block.f.cells_and_names() if type(c) is nn.BatchNorm2d)
                _reset(norm.gamma, "zeros")


def _reset(parameter, method) -> None:
    parameter.set_data(initializer(method, parameter.shape, parameter.dtype))


def check_images(x, channels: int) -> None:
    """Refuse x unless it is (N, channels, H, W); in graph mode this runs at compilation."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"the network takes images as (N, {channels}, H, W); it was given {x.shape}"
        )


class Stem(nn.Cell):
    """`act(bn(conv(x)))`; `res_stem_in` adds 3x3 max pooling at stride 2."""

    def __init__(self, plan: NetworkPlan):
        super().__init__()
        row = STEMS[plan.stem_type]
        self.in_channels = plan.in_channels
        self.conv = conv2d(plan.in_channels, plan.stem_width, row.kernel, row.stride)
        self.bn = batch_norm(plan.stem_width)
        self.act = ACTIVATIONS[plan.activation]()
        self.pool = nn.MaxPool2d(3, stride=2, pad_mode="pad", padding=1) if row.pools else None

    def construct(self, x):
        check_images(x, self.in_channels)
        x = self.act(self.bn(self.conv(x)))
        return x if self.pool is None else self.pool(x)


class BasicTransform(nn.Cell):
    """`bn(conv3x3(act(bn(conv3x3(x)))))`."""

    def __init__(self, plan: BlockPlan, activation: str):
        super().__init__()
        self.a = conv2d(plan.in_width, plan.out_width, 3, plan.stride)
        self.a_bn = batch_norm(plan.out_width)
        self.b = conv2d(plan.out_width, plan.out_width, 3)
        self.b_bn = batch_norm(plan.out_width)
        self.act = ACTIVATIONS[activation]()

    def construct(self, x):
        x = self.act(self.a_bn(self.a(x)))
        return self.b_bn(self.b(x))


class BottleneckTransform(nn.Cell):
    """`bn(conv1x1(se(act(bn(conv3x3(act(bn(conv1x1(x)))))))))`; the 3x3 is grouped."""

    def __init__(self, plan: BlockPlan, activation: str):
        super().__init__()
        width, squeezed = plan.bottleneck, plan.squeezed
        self.a = conv2d(plan.in_width, width, 1)
        self.a_bn = batch_norm(width)
        self.b = conv2d(width, width, 3, plan.stride, groups=plan.groups)
        self.b_bn = batch_norm(width)
        self.se = None
        if squeezed:
            act = ACTIVATIONS[activation]
            self.se = SqueezeExcite(width, rd_channels=squeezed, act_layer=act)
        self.c = conv2d(width, plan.out_width, 1)
        self.c_bn = batch_norm(plan.out_width)
        self.act = ACTIVATIONS[activation]()

    def construct(self, x):
        x = self.act(self.a_bn(self.a(x)))
        x = self.act(self.b_bn(self.b(x)))
        if self.se is not None:
            x = self.se(x)
        return self.c_bn(self.c(x))


class Block(nn.Cell):
    """`act(p(x) + f(x))`: f the transform, p the shortcut.

    Where the shape changes, p is a 1x1 convolution, or absent in linear blocks, which have no
    activation either; vanilla blocks have no shortcut at all.
    """

    def __init__(self, row: BlockRow, plan: BlockPlan, drop: float, activation: str):
        super().__init__()
        self.projects = row.projects and not plan.keeps_shape
        self.adds = self.projects or (row.has_shortcut and plan.keeps_shape)
        if self.projects:
            self.proj = conv2d(plan.in_width, plan.out_width, 1, plan.stride)
            self.bn = batch_norm(plan.out_width)
        transform = BottleneckTransform if row.has_bottleneck else BasicTransform
        self.f = transform(plan, activation)
        self.drop_path = DropPath(drop) if drop and self.adds else None
        self.act = ACTIVATIONS[activation]() if row.activates else None

    def construct(self, x):
        branch = self.f(x)
        if self.drop_path is not None:
            branch = self.drop_path(branch)
        if self.adds:
            shortcut = self.bn(self.proj(x)) if self.projects else x
            branch = shortcut + branch
        return branch if self.act is None else self.act(branch)


class Stage(nn.Cell):
    def __init__(self, blocks: Sequence[nn.Cell]):
        super().__init__()
        self.blocks = nn.CellList(blocks)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Head(nn.Cell):
    """`fc(dropout(pool(x)))`; with a head width, `act(bn(conv1x1(x)))` comes first."""

    def __init__(self, plan: NetworkPlan, drop_rate: float, global_pool: str):
        super().__init__()
        self.has_conv = plan.head_width > 0
        if self.has_conv:
            self.conv = conv2d(plan.widths[-1], plan.head_width, 1)
            self.bn = batch_norm(plan.head_width)
            self.act = ACTIVATIONS[plan.activation]()
        self.dropout = nn.Dropout(p=drop_rate) if drop_rate else None
        self.num_features = plan.head_width or plan.widths[-1]
        self.reset(plan.num_classes, global_pool)

    def reset(self, num_classes: int, global_pool: str) -> None:
        """Replace the pooling and the classifier; 0 classes: none."""
        pool = global_pool or "none"
        if pool not in POOLS:
            raise ValueError(f"global_pool {global_pool!r} is unknown; expected {', '.join(POOLS)}")
        if pool == "none" and num_classes:
            raise ValueError(
                "global_pool='none' leaves a feature map, which no classifier takes; "
                f"expected num_classes=0 with it, got {num_classes}"
            )
        self.pool = pool
        self.fc = nn.Dense(self.num_features, num_classes) if num_classes else nn.Identity()

    def construct(self, x):
        return self.fc(self.features(x))

    def features(self, x):
        """Return the classifier's input."""
        if self.has_conv:
            x = self.act(self.bn(self.conv(x)))
        if self.pool == "avg":
            x = ops.mean(x, (2, 3))
        elif self.pool == "max":
            x = ops.amax(x, (2, 3))
        return x if self.dropout is None else self.dropout(x)


POOLS = ("avg", "max", "none")


def build_stages(plan: NetworkPlan, drop_path_rate: float) -> list[Stage]:
    """Build the stages; block i of n drops its branch at `drop_path_rate * i / (n - 1)`."""
    row, last = BLOCKS[plan.block_type], max(1, sum(plan.depths) - 1)
    drops = (drop_path_rate * index / last for index in itertools.count())
    return [
        Stage([Block(row, block, next(drops), plan.activation) for block in blocks])
        for blocks in plan.stages()
    ]
