"""The plan of a network: its widths by RegNet's rule, and the shape of each block.

Radosavovic et al., Designing Network Design Spaces, section 3.3; rounding as in pycls
`models/regnet.py`: half to even, in float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np


@dataclass(frozen=True)
class StemRow:
    """A stem's convolution, and whether 3x3 max pooling at stride 2 follows it."""

    kernel: int
    stride: int
    pools: bool = False


@dataclass(frozen=True)
class BlockRow:
    """The transform of a block, its shortcut, and whether an activation follows their sum."""

    has_bottleneck: bool
    has_shortcut: bool = True
    projects: bool = True  # where the shape changes, the shortcut is a 1x1 convolution; else none
    activates: bool = True


STEMS = {
    "simple_stem_in": StemRow(3, 2),
    "res_stem_in": StemRow(7, 2, pools=True),
    "res_stem_cifar": StemRow(3, 1),
}
BLOCKS = {
    "vanilla_block": BlockRow(has_bottleneck=False, has_shortcut=False, projects=False),
    "res_basic_block": BlockRow(has_bottleneck=False),
    "res_bottleneck_block": BlockRow(has_bottleneck=True),
    "res_bottleneck_linear_block": BlockRow(has_bottleneck=True, projects=False, activates=False),
}
STEM_TYPES, BLOCK_TYPES, ACTIVATIONS = tuple(STEMS), tuple(BLOCKS), ("relu", "silu")


@dataclass(frozen=True)
class BlockPlan:
    """The shape of one block; widths are in channels."""

    in_width: int
    out_width: int
    stride: int
    bottleneck: int  # inside a bottleneck transform
    groups: int  # of its 3x3 convolution
    squeezed: int  # of squeeze-and-excitation; 0: none

    @property
    def keeps_shape(self) -> bool:
        return self.in_width == self.out_width and self.stride == 1


@dataclass(frozen=True)
class NetworkPlan:
    """Everything that shapes an AnyNet; the tuples have one entry per stage.

    Raises:
        ValueError: an unknown name, tuples of unequal length, a value out of range, or a group
            width that does not divide its bottleneck width.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]  # of each stage's first block
    bottleneck_ratios: tuple[float, ...]  # bottleneck width / output width; bottleneck blocks only
    group_widths: tuple[int, ...]  # channels per group of the 3x3; bottleneck blocks only
    stem_type: str = "simple_stem_in"
    stem_width: int = 32
    block_type: str = "res_bottleneck_block"
    se_ratio: float = 0.0  # squeeze-and-excitation width / input width of the block; 0: none
    head_width: int = 0  # channels of a 1x1 convolution before pooling; 0: none
    num_classes: int = 1000  # 0: no classifier
    in_channels: int = 3
    activation: str = "relu"  # does not change the counts

    def __post_init__(self):
        choices = {"stem_type": STEMS, "block_type": BLOCKS, "activation": ACTIVATIONS}
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} {value!r} is unknown; expected {', '.join(known)}")
        lowest = dict(stem_width=1, in_channels=1, num_classes=0, head_width=0, se_ratio=0)
        for name, least in lowest.items():
            if not (value := getattr(self, name)) >= least:
                raise ValueError(f"{name} is {value}; expected at least {least}")
        rows = (self.widths, self.depths, self.strides, self.bottleneck_ratios, self.group_widths)
        if not self.depths or len({len(row) for row in rows}) != 1:
            raise ValueError(
                "widths, depths, strides, bottleneck ratios and group widths need one value per "
                f"stage; got {', '.join(str(len(row)) for row in rows)} values"
            )
        for stage, (width, depth, stride, ratio, group) in enumerate(zip(*rows), start=1):
            if not (min(width, depth, stride, group) >= 1 and round(width * ratio) >= 1):
                raise ValueError(
                    f"stage {stage} has width {width}, depth {depth}, stride {stride}, bottleneck "
                    f"ratio {ratio}, group width {group}; expected at least 1 channel, block, pixel"
                )
            if round(width * ratio) % group:
                raise ValueError(
                    f"stage {stage}: group width {group} does not divide the bottleneck width "
                    f"{round(width * ratio)}; RegNet adjusts the widths by itself"
                )

    @property
    def groups(self) -> tuple[int, ...]:
        """Groups of the 3x3 convolutions in each stage."""
        rows = zip(self.widths, self.bottleneck_ratios, self.group_widths)
        return tuple(round(width * ratio) // group for width, ratio, group in rows)

    @property
    def reductions(self) -> tuple[int, ...]:
        """Image side / side of the feature map, for the stem and each stage."""
        stem = STEMS[self.stem_type]
        return tuple(accumulate(self.strides, mul, initial=stem.stride * (1 + stem.pools)))

    def stages(self) -> Iterator[list[BlockPlan]]:
        """Yield the blocks of each stage; only a stage's first block has its stride."""
        width = self.stem_width
        for stage, out_width in enumerate(self.widths):
            blocks = []
            for index in range(self.depths[stage]):
                blocks.append(
                    BlockPlan(
                        in_width=width,
                        out_width=out_width,
                        stride=1 if index else self.strides[stage],
                        bottleneck=round(out_width * self.bottleneck_ratios[stage]),
                        groups=self.groups[stage],
                        squeezed=round(width * self.se_ratio),  # of the block's input
                    )
                )
                width = out_width
            yield blocks


def plan_regnet(
    w_a: float,
    w_0: int,
    w_m: float,
    d: int,
    group_w: int,
    stride: int = 2,
    bot_mul: float = 1.0,
    stem_type: str = "simple_stem_in",
    stem_w: int = 32,
    block_type: str = "res_bottleneck_block",
    head_w: int = 0,
    num_classes: int = 1000,
    se_r: float = 0.0,
    in_channels: int = 3,
    activation: str = "relu",
    rounding: str = "pycls",
) -> NetworkPlan:
    """Return the plan of a RegNet: widths by the quantized-linear rule, adjusted to the groups.

    `RegNet` explains the arguments.

    Raises:
        ValueError: a value is unknown or out of range.
    """
    widths, depths = generate_regnet(w_a, w_0, w_m, d)
    stages = len(widths)
    ratios = [bot_mul] * stages
    widths, groups = adjust_block_compatibility(widths, ratios, [group_w] * stages, rounding)
    return NetworkPlan(
        widths=tuple(widths),
        depths=tuple(depths),
        strides=(stride,) * stages,
        bottleneck_ratios=tuple(ratios),
        group_widths=tuple(groups),
        stem_type=stem_type,
        stem_width=stem_w,
        block_type=block_type,
        head_width=head_w,
        num_classes=num_classes,
        se_ratio=se_r or 0.0,
        in_channels=in_channels,
        activation=activation,
    )


def plan_anynet(
    depths: Sequence[int],
    stem_type: str = "simple_stem_in",
    stem_w: int = 32,
    block_type: str = "res_bottleneck_block",
    widths: Sequence[int] = (),
    strides: Sequence[int] = (),
    bot_muls: Sequence[float] | None = None,
    group_ws: Sequence[int] | None = None,
    head_w: int = 0,
    num_classes: int = 1000,
    se_r: float = 0.0,
    in_channels: int = 3,
    activation: str = "relu",
) -> NetworkPlan:
    """Return the plan of an AnyNet; `AnyNet` explains the arguments.

    Raises:
        ValueError: a value is unknown or out of range, or a group width does not divide its
            bottleneck width.
    """
    ratios = tuple(bot_muls or [1.0] * len(depths))
    return NetworkPlan(
        widths=tuple(widths),
        depths=tuple(depths),
        strides=tuple(strides or [2] * len(depths)),
        bottleneck_ratios=ratios,
        group_widths=tuple(group_ws or [round(w * r) for w, r in zip(widths, ratios)]),
        stem_type=stem_type,
        stem_width=stem_w,
        block_type=block_type,
        head_width=head_w,
        num_classes=num_classes,
        se_ratio=se_r or 0.0,
        in_channels=in_channels,
        activation=activation,
    )


ROUNDINGS = ("pycls", "torchvision")


def generate_regnet(
    w_a: float, w_0: int, w_m: float, depth: int, quantum: int = 8
) -> tuple[list[int], list[int]]:
    """Return the widths and depths of a RegNet's stages.

    Block j has the ideal width u_j = w_0 + w_a * j (equation 2), which is rounded to the nearest
    power of w_m times w_0 (equations 3 and 4) and then to the nearest multiple of `quantum`. Blocks
    of equal width form a stage.

    Args:
        w_a: slope, channels per block, >= 0.
        w_0: width of the first block, a positive multiple of `quantum`.
        w_m: ratio of neighbouring stage widths, > 1.

    Raises:
        ValueError: a parameter is out of range.
    """
    if quantum < 1:
        raise ValueError(f"quantum={quantum} must be at least 1")
    in_range = 0 <= w_a < math.inf and 1 < w_m < math.inf and w_0 > 0 and depth >= 1
    if not in_range or w_0 % quantum:
        raise ValueError(
            f"w_a={w_a}, w_0={w_0}, w_m={w_m}, depth={depth} is no RegNet: expected w_a >= 0, "
            f"w_0 a positive multiple of {quantum}, w_m > 1 and depth >= 1"
        )
    wanted = np.arange(depth) * w_a + w_0
    powers = np.round(np.log(wanted / w_0) / np.log(w_m))
    quantized = np.round(w_0 * np.power(w_m, powers) / quantum).astype(int) * quantum
    widths, depths = np.unique(quantized, return_counts=True)
    return widths.tolist(), depths.tolist()


def adjust_block_compatibility(
    widths: Sequence[int],
    bottleneck_ratios: Sequence[float],
    group_widths: Sequence[int],
    rounding: str = "pycls",
) -> tuple[list[int], list[int]]:
    """Return stage widths and group widths, adjusted so that groups divide bottleneck widths.

    A group width is limited to its bottleneck width, which is then rounded to the nearest multiple
    of the group width (and of the bottleneck ratio, if above 1). Source: pycls `models/blocks.py`.

    Args:
        bottleneck_ratios: bottleneck width / output width; whole numbers if above 1.
        rounding: pycls: halves go to the even multiple. torchvision: see `make_divisible`; at a
            ratio of 1 these are exactly torchvision's widths.

    Raises:
        ValueError: unequal lengths, a value that is not positive, a ratio above 1 that is not
            whole, or an unknown rounding.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding {rounding!r} is unknown; expected {', '.join(ROUNDINGS)}")
    if not len(widths) == len(bottleneck_ratios) == len(group_widths):
        raise ValueError("widths, bottleneck_ratios and group_widths must have equal lengths")
    new_widths, new_groups = [], []
    for width, ratio, group in zip(widths, bottleneck_ratios, group_widths):
        if min(width, ratio, group) <= 0 or (ratio > 1 and ratio % 1):
            raise ValueError(
                f"width {width}, bottleneck ratio {ratio}, group width {group}: expected positive "
                "values and a whole number for a ratio above 1"
            )
        bottleneck = int(max(1, width * ratio))
        group = int(min(group, bottleneck))
        multiple = math.lcm(group, int(ratio)) if ratio > 1 else group
        if rounding == "pycls":
            bottleneck = max(multiple, round(bottleneck / multiple) * multiple)
        else:
            bottleneck = make_divisible(bottleneck, multiple)
        new_widths.append(int(bottleneck / ratio))
        new_groups.append(group)
    return new_widths, new_groups


def make_divisible(v: float, divisor: int, min_value: int | None = None) -> int:
    """Return the nearest multiple of `divisor`, at least `min_value` (None: `divisor`).

    Halves go up, and a multiple below 0.9 of `v` moves up to the next (torchvision
    `models/_utils.py`, `_make_divisible`).
    """
    nearest = max(min_value or divisor, int(v + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * v else nearest
