"""The plan of a network: its widths by RegNet's rule, and the shape of each block.

Radosavovic et al., Designing Network Design Spaces, section 3.3; rounding as in pycls
`models/regnet.py`: half to even, in float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from operator import mul

import numpy as np

Numbers = int | float | np.ndarray  # of one network, or an array for many


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
    """The shape of one block, or of one in each of many networks (arrays); in channels."""

    in_width: int
    out_width: int
    stride: int
    bottleneck: int  # inside a bottleneck transform
    group_width: int  # of its 3x3 convolution
    squeezed: int  # of squeeze-and-excitation; 0: none

    @property
    def groups(self) -> int:
        return self.bottleneck // self.group_width

    @property
    def keeps_shape(self) -> bool:
        return (self.in_width == self.out_width) & (self.stride == 1)


def plan_stage(width: Numbers, stage: tuple, se_ratio: float) -> tuple[BlockPlan, BlockPlan]:
    """Return the first block of a stage and any further one.

    Args:
        width: channels of its input.
        stage: its width, stride, bottleneck ratio and group width.
    """
    out_width, stride, ratio, group = stage
    inner = _whole(out_width * ratio)
    return tuple(
        BlockPlan(
            in_width=in_width,
            out_width=out_width,
            stride=stride,
            bottleneck=inner,
            group_width=group,
            squeezed=_whole(in_width * se_ratio) if se_ratio else 0,  # of the block's input
        )
        for in_width, stride in ((width, stride), (out_width, 1))
    )


def _whole(number: Numbers) -> Numbers:
    """Round half to even."""
    return np.rint(number).astype(int) if isinstance(number, np.ndarray) else round(number)


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
        rows = zip(self.widths, self.strides, self.bottleneck_ratios, self.group_widths)
        for depth, stage in zip(self.depths, rows):
            first, further = plan_stage(width, stage, self.se_ratio)
            yield [first, *[further] * (depth - 1)]
            width = first.out_width


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
    given = locals()
    shared = {name: given[name] for name in signature(plan_anynet).parameters if name in given}
    widths, depths = generate_regnet(w_a, w_0, w_m, d)
    stages = len(widths)
    ratios = [bot_mul] * stages
    widths, groups = adjust_block_compatibility(widths, ratios, [group_w] * stages, rounding)
    rows = dict(widths=widths, strides=[stride] * stages, bot_muls=ratios, group_ws=groups)
    return plan_anynet(depths, **rows, **shared)


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


def anynet_settings(plan: NetworkPlan) -> dict[str, object]:
    """Return the arguments that `plan_anynet` makes into a plan, without defaults."""
    names = {"stem_width": "stem_w", "head_width": "head_w", "se_ratio": "se_r"}
    names |= {"bottleneck_ratios": "bot_muls", "group_widths": "group_ws"}
    one_stage = dict(widths=(8,), depths=(1,), strides=(2,), group_widths=(8,))
    default, settings = NetworkPlan(**one_stage, bottleneck_ratios=(1.0,)), {}
    for key, value in vars(plan).items():
        alike = getattr(default, key)
        if key in ("strides", "bottleneck_ratios"):
            alike *= len(plan.depths)
        if value != alike and key not in ("num_classes", "in_channels"):
            settings[names.get(key, key)] = value
    return settings


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
    one = (np.array([value]) for value in (w_a, w_0, w_m, depth))
    widths, depths = generate_regnets(*one, quantum=quantum)
    return widths[0].tolist(), depths[0].tolist()


def generate_regnets(
    w_a: np.ndarray, w_0: np.ndarray, w_m: np.ndarray, depth: np.ndarray, quantum: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Return widths and depths of many RegNets, (N, stages), by the rule of `generate_regnet`.

    A network of fewer stages than the most has depth 0 in the others.
    """
    blocks = np.arange(depth.max(), dtype=float)[:, None]
    powers = blocks * w_a
    powers += w_0
    powers /= w_0
    powers = np.log(powers, out=powers)
    powers /= np.log(w_m)
    powers = np.rint(powers, out=powers)  # (blocks, N)
    # A level is a run of blocks of one power; powers without a block, maybe millions, take nothing.
    starts = blocks < depth
    starts[1:] &= powers[1:] != powers[:-1]
    network, block = np.nonzero(starts.T)  # of each level
    widths = w_0[network] * np.power(w_m[network], powers[block, network])
    widths = np.rint(widths / quantum).astype(int) * quantum
    # Neighbours of equal width are one stage.
    starts = (block == 0) | (np.diff(widths, prepend=0) != 0)
    network, block, widths = network[starts], block[starts], widths[starts]
    after = np.append(block[1:], 0)
    depths = np.where(after > 0, after, depth[network]) - block
    stage = np.arange(len(block)) - np.searchsorted(network, network)
    found = np.zeros((2, stage.max() + 1, len(depth)), int)
    found[:, stage, network] = widths, depths
    return found[0].T, found[1].T


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
    for width, ratio, group in zip(widths, bottleneck_ratios, group_widths):
        if min(width, ratio, group) <= 0 or (ratio > 1 and ratio % 1):
            raise ValueError(
                f"width {width}, bottleneck ratio {ratio}, group width {group}: expected positive "
                "values and a whole number for a ratio above 1"
            )
    rows = (np.array(values) for values in (widths, bottleneck_ratios, group_widths))
    new_widths, new_groups = adjust_all(*rows, rounding)
    return new_widths.tolist(), new_groups.tolist()


def adjust_all(
    widths: np.ndarray, ratios: np.ndarray, groups: np.ndarray, rounding: str = "pycls"
) -> tuple[np.ndarray, np.ndarray]:
    """Return adjusted widths and group widths, as `adjust_block_compatibility` does, in arrays."""
    bottlenecks = np.maximum(1, widths * ratios).astype(int)
    groups = np.minimum(groups, bottlenecks).astype(int)
    multiples = groups
    if np.any(ratios > 1):
        multiples = np.lcm(groups, np.maximum(ratios, 1).astype(int))
    if rounding == "pycls":
        rounded = np.rint(bottlenecks / multiples).astype(int) * multiples
        bottlenecks = np.maximum(multiples, rounded)
    else:
        bottlenecks = np.frompyfunc(make_divisible, 2, 1)(bottlenecks, multiples).astype(int)
    return (bottlenecks / ratios).astype(int), groups


def make_divisible(v: float, divisor: int, min_value: int | None = None) -> int:
    """Return the nearest multiple of `divisor`, at least `min_value` (None: `divisor`).

    Halves go up, and a multiple below 0.9 of `v` moves up to the next (torchvision
    `models/_utils.py`, `_make_divisible`).
    """
    nearest = max(min_value or divisor, int(v + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * v else nearest
