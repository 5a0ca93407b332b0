"""The parts of an AnyNet: stems, transforms, blocks, stages and head.

Names follow pycls `models/blocks.py`; each docstring is the block's formula.
"""

from collections.abc import Sequence

from mindspore import nn, ops

from ..design_space import NetworkPlan
from .layers import DropPath, SqueezeExcite, batch_norm, conv2d


class ResStemCifar(nn.Cell):
    """`relu(bn(conv3x3(x)))` at full resolution."""

    kernel, stride = 3, 1

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = conv2d(in_channels, out_channels, self.kernel, self.stride)
        self.bn = batch_norm(out_channels)
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(self.bn(self.conv(x)))


class SimpleStem(ResStemCifar):
    """`relu(bn(conv3x3(x)))` at half resolution."""

    kernel, stride = 3, 2


class ResStem(ResStemCifar):
    """`maxpool3x3(relu(bn(conv7x7(x))))`, a quarter of the resolution."""

    kernel, stride = 7, 2

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.pool = nn.MaxPool2d(3, stride=2, pad_mode="pad", padding=1)

    def construct(self, x):
        return self.pool(self.relu(self.bn(self.conv(x))))


class BasicTransform(nn.Cell):
    """`bn(conv3x3(relu(bn(conv3x3(x)))))`."""

    def __init__(self, in_width: int, out_width: int, stride: int):
        super().__init__()
        self.a = conv2d(in_width, out_width, 3, stride)
        self.a_bn = batch_norm(out_width)
        self.b = conv2d(out_width, out_width, 3)
        self.b_bn = batch_norm(out_width)
        self.relu = nn.ReLU()

    def construct(self, x):
        x = self.relu(self.a_bn(self.a(x)))
        return self.b_bn(self.b(x))


class BottleneckTransform(nn.Cell):
    """`bn(conv1x1(se(relu(bn(conv3x3(relu(bn(conv1x1(x)))))))))`, the 3x3 in groups."""

    def __init__(
        self, in_width: int, out_width: int, stride: int, ratio: float, group_width: int, se_ratio
    ):
        super().__init__()
        bottleneck = round(out_width * ratio)
        squeezed = round(in_width * se_ratio)  # of the block's input, not of the bottleneck
        self.a = conv2d(in_width, bottleneck, 1)
        self.a_bn = batch_norm(bottleneck)
        self.b = conv2d(bottleneck, bottleneck, 3, stride, bottleneck // group_width)
        self.b_bn = batch_norm(bottleneck)
        self.se = SqueezeExcite(bottleneck, squeezed) if squeezed else None
        self.c = conv2d(bottleneck, out_width, 1)
        self.c_bn = batch_norm(out_width)
        self.relu = nn.ReLU()

    def construct(self, x):
        x = self.relu(self.a_bn(self.a(x)))
        x = self.relu(self.b_bn(self.b(x)))
        if self.se is not None:
            x = self.se(x)
        return self.c_bn(self.c(x))


class VanillaBlock(nn.Cell):
    """`relu(f(x))`, f = basic transform."""

    def __init__(self, transform: nn.Cell):
        super().__init__()
        self.f = transform
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(self.f(x))


class ResidualBlock(nn.Cell):
    """`relu(p(x) + f(x))`, f = transform, p = 1x1 convolution where the shape changes."""

    def __init__(self, transform: nn.Cell, in_width: int, out_width: int, stride: int, drop: float):
        super().__init__()
        self.projects = in_width != out_width or stride != 1
        if self.projects:
            self.proj = conv2d(in_width, out_width, 1, stride)
            self.bn = batch_norm(out_width)
        self.f = transform
        self.drop_path = DropPath(drop) if drop else None
        self.relu = nn.ReLU()

    def construct(self, x):
        residual = self.f(x)
        if self.drop_path is not None:
            residual = self.drop_path(residual)
        shortcut = self.bn(self.proj(x)) if self.projects else x
        return self.relu(shortcut + residual)


class LinearResidualBlock(nn.Cell):
    """`x + f(x)` where the shape stays, else `f(x)`; no activation after it."""

    def __init__(self, transform: nn.Cell, in_width: int, out_width: int, stride: int, drop: float):
        super().__init__()
        self.adds = in_width == out_width and stride == 1
        self.f = transform
        self.drop_path = DropPath(drop) if drop and self.adds else None

    def construct(self, x):
        residual = self.f(x)
        if self.drop_path is not None:
            residual = self.drop_path(residual)
        return x + residual if self.adds else residual


class Stage(nn.Cell):
    """Blocks in a row."""

    def __init__(self, blocks: Sequence[nn.Cell]):
        super().__init__()
        self.blocks = nn.CellList(blocks)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Head(nn.Cell):
    """`fc(dropout(mean(x)))`, with an optional 1x1 convolution before the mean."""

    def __init__(self, in_width: int, head_width: int, num_classes: int, drop_rate: float):
        super().__init__()
        self.has_conv = head_width > 0
        if self.has_conv:
            self.conv = conv2d(in_width, head_width, 1)
            self.bn = batch_norm(head_width)
            self.relu = nn.ReLU()
        self.dropout = nn.Dropout(p=drop_rate) if drop_rate else None
        self.fc = nn.Dense(head_width or in_width, num_classes)

    def construct(self, x):
        if self.has_conv:
            x = self.relu(self.bn(self.conv(x)))
        x = ops.mean(x, (2, 3))
        if self.dropout is not None:
            x = self.dropout(x)
        return self.fc(x)


STEMS = {"simple_stem_in": SimpleStem, "res_stem_in": ResStem, "res_stem_cifar": ResStemCifar}


def build_stages(plan: NetworkPlan, drop_path_rate: float) -> list[Stage]:
    stages, width, index, total = [], plan.stem_width, 0, sum(plan.depths)
    for stage, depth in enumerate(plan.depths):
        blocks = []
        for first in [True] + [False] * (depth - 1):
            stride = plan.strides[stage] if first else 1
            drop = drop_path_rate * index / max(1, total - 1)
            blocks.append(_build_block(plan, stage, width, stride, drop))
            width, index = plan.widths[stage], index + 1
        stages.append(Stage(blocks))
    return stages


def _build_block(plan: NetworkPlan, stage: int, in_width: int, stride: int, drop: float) -> nn.Cell:
    out_width = plan.widths[stage]
    if plan.block_type == "vanilla_block":
        return VanillaBlock(BasicTransform(in_width, out_width, stride))
    if plan.block_type == "res_basic_block":
        transform = BasicTransform(in_width, out_width, stride)
        return ResidualBlock(transform, in_width, out_width, stride, drop)
    ratio, group_width = plan.bottleneck_ratios[stage], plan.group_widths[stage]
    transform = BottleneckTransform(in_width, out_width, stride, ratio, group_width, plan.se_ratio)
    if plan.block_type == "res_bottleneck_block":
        return ResidualBlock(transform, in_width, out_width, stride, drop)
    return LinearResidualBlock(transform, in_width, out_width, stride, drop)
