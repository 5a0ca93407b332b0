"""The parts of an AnyNet: stems, transforms, blocks, stages and head.

Names follow pycls `models/blocks.py`; each docstring is the block's formula.
"""

from collections.abc import Sequence

from mindspore import Parameter, nn, ops

from ..design_space import NetworkPlan
from .layers import DropPath, SqueezeExcite, activation_of, batch_norm, conv2d


def check_images(x, channels: int) -> None:
    """Refuse what is no batch of images, in graph mode while it is compiled.

    Raises:
        ValueError: x is not (N, channels, H, W).
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"the network takes images as (N, {channels}, H, W); it was given {x.shape}"
        )


class ResStemCifar(nn.Cell):
    """`act(bn(conv3x3(x)))` at full resolution.

    Raises:
        ValueError: called with anything but images of `in_channels`.
    """

    kernel, stride = 3, 1

    def __init__(self, in_channels: int, out_channels: int, activation: str = "relu"):
        super().__init__()
        self.in_channels = in_channels
        self.conv = conv2d(in_channels, out_channels, self.kernel, self.stride)
        self.bn = batch_norm(out_channels)
        self.act = activation_of(activation)

    def construct(self, x):
        check_images(x, self.in_channels)
        return self.act(self.bn(self.conv(x)))


class SimpleStem(ResStemCifar):
    """`act(bn(conv3x3(x)))` at half resolution."""

    kernel, stride = 3, 2


class ResStem(ResStemCifar):
    """`maxpool3x3(act(bn(conv7x7(x))))`, a quarter of the resolution."""

    kernel, stride = 7, 2

    def __init__(self, in_channels: int, out_channels: int, activation: str = "relu"):
        super().__init__(in_channels, out_channels, activation)
        self.pool = nn.MaxPool2d(3, stride=2, pad_mode="pad", padding=1)

    def construct(self, x):
        check_images(x, self.in_channels)
        return self.pool(self.act(self.bn(self.conv(x))))


class BasicTransform(nn.Cell):
    """`bn(conv3x3(act(bn(conv3x3(x)))))`."""

    def __init__(self, in_width: int, out_width: int, stride: int, activation: str = "relu"):
        super().__init__()
        self.a = conv2d(in_width, out_width, 3, stride)
        self.a_bn = batch_norm(out_width)
        self.b = conv2d(out_width, out_width, 3)
        self.b_bn = batch_norm(out_width)
        self.act = activation_of(activation)

    def construct(self, x):
        x = self.act(self.a_bn(self.a(x)))
        return self.b_bn(self.b(x))

    def last_gamma(self) -> Parameter:
        return self.b_bn.gamma


class BottleneckTransform(nn.Cell):
    """`bn(conv1x1(se(act(bn(conv3x3(act(bn(conv1x1(x)))))))))`, the 3x3 in groups."""

    def __init__(
        self,
        in_width: int,
        out_width: int,
        stride: int,
        ratio: float,
        group_width: int,
        se_ratio: float,
        activation: str = "relu",
    ):
        super().__init__()
        bottleneck = round(out_width * ratio)
        squeezed = round(in_width * se_ratio)  # of the block's input, not of the bottleneck
        self.a = conv2d(in_width, bottleneck, 1)
        self.a_bn = batch_norm(bottleneck)
        self.b = conv2d(bottleneck, bottleneck, 3, stride, bottleneck // group_width)
        self.b_bn = batch_norm(bottleneck)
        self.se = SqueezeExcite(bottleneck, squeezed, activation) if squeezed else None
        self.c = conv2d(bottleneck, out_width, 1)
        self.c_bn = batch_norm(out_width)
        self.act = activation_of(activation)

    def construct(self, x):
        x = self.act(self.a_bn(self.a(x)))
        x = self.act(self.b_bn(self.b(x)))
        if self.se is not None:
            x = self.se(x)
        return self.c_bn(self.c(x))

    def last_gamma(self) -> Parameter:
        return self.c_bn.gamma


class VanillaBlock(nn.Cell):
    """`act(f(x))`, f = basic transform."""

    adds = False

    def __init__(self, transform: nn.Cell, activation: str = "relu"):
        super().__init__()
        self.f = transform
        self.act = activation_of(activation)

    def construct(self, x):
        return self.act(self.f(x))


class ResidualBlock(nn.Cell):
    """`act(p(x) + f(x))`, f = transform, p = 1x1 convolution where the shape changes."""

    adds = True

    def __init__(
        self,
        transform: nn.Cell,
        in_width: int,
        out_width: int,
        stride: int,
        drop: float,
        activation: str = "relu",
    ):
        super().__init__()
        self.projects = in_width != out_width or stride != 1
        if self.projects:
            self.proj = conv2d(in_width, out_width, 1, stride)
            self.bn = batch_norm(out_width)
        self.f = transform
        self.drop_path = DropPath(drop) if drop else None
        self.act = activation_of(activation)

    def construct(self, x):
        residual = self.f(x)
        if self.drop_path is not None:
            residual = self.drop_path(residual)
        shortcut = self.bn(self.proj(x)) if self.projects else x
        return self.act(shortcut + residual)


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
    """`fc(dropout(pool(x)))`, with an optional `act(bn(conv1x1(x)))` before the pooling."""

    def __init__(
        self,
        in_width: int,
        head_width: int,
        num_classes: int,
        drop_rate: float,
        global_pool: str = "avg",
        activation: str = "relu",
    ):
        super().__init__()
        self.has_conv = head_width > 0
        if self.has_conv:
            self.conv = conv2d(in_width, head_width, 1)
            self.bn = batch_norm(head_width)
            self.act = activation_of(activation)
        self.dropout = nn.Dropout(p=drop_rate) if drop_rate else None
        self.num_features = head_width or in_width
        self.reset(num_classes, global_pool)

    def reset(self, num_classes: int, global_pool: str) -> None:
        """Put a new classifier in place, or none for 0 classes."""
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
        """Return what the classifier works on."""
        if self.has_conv:
            x = self.act(self.bn(self.conv(x)))
        if self.pool == "avg":
            x = ops.mean(x, (2, 3))
        elif self.pool == "max":
            x = ops.amax(x, (2, 3))
        return x if self.dropout is None else self.dropout(x)


POOLS = ("avg", "max", "none")
STEMS = {"simple_stem_in": SimpleStem, "res_stem_in": ResStem, "res_stem_cifar": ResStemCifar}


def build_stages(plan: NetworkPlan, drop_path_rate: float) -> list[Stage]:
    """Build the stages; block i of n drops its branch at `drop_path_rate * i / (n - 1)`."""
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
    out_width, act = plan.widths[stage], plan.activation
    if plan.block_type == "vanilla_block":
        return VanillaBlock(BasicTransform(in_width, out_width, stride, act), act)
    if plan.block_type == "res_basic_block":
        transform = BasicTransform(in_width, out_width, stride, act)
        return ResidualBlock(transform, in_width, out_width, stride, drop, act)
    ratio, group_width = plan.bottleneck_ratios[stage], plan.group_widths[stage]
    transform = BottleneckTransform(
        in_width, out_width, stride, ratio, group_width, plan.se_ratio, act
    )
    if plan.block_type == "res_bottleneck_block":
        return ResidualBlock(transform, in_width, out_width, stride, drop, act)
    return LinearResidualBlock(transform, in_width, out_width, stride, drop)
