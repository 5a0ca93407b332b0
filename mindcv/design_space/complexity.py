"""Count parameters, multiply-accumulates and activations from a network's plan alone."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import accumulate
from operator import mul


@dataclass(frozen=True)
class StemRow:
    """A stem's convolution, and whether 3x3 max pooling at stride 2 follows it."""

    kernel: int
    stride: int
    pools: bool = False


@dataclass(frozen=True)
class BlockRow:
    """Whether the block's transform has a bottleneck and its shortcut a 1x1 convolution."""

    has_bottleneck: bool
    projects: bool


STEMS = {
    "simple_stem_in": StemRow(3, 2),
    "res_stem_in": StemRow(7, 2, pools=True),
    "res_stem_cifar": StemRow(3, 1),
}
BLOCKS = {
    "vanilla_block": BlockRow(has_bottleneck=False, projects=False),
    "res_basic_block": BlockRow(has_bottleneck=False, projects=True),
    "res_bottleneck_block": BlockRow(has_bottleneck=True, projects=True),
    "res_bottleneck_linear_block": BlockRow(has_bottleneck=True, projects=False),
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


@dataclass(frozen=True)
class Complexity:
    """Costs for one image."""

    params: int  # trainable
    macs: int  # multiply-accumulates of convolutions and classifier, without bias additions
    activations: int  # output elements of all convolutions (paper, section 3)


@dataclass(frozen=True)
class PartComplexity:
    """Costs of one part of a network: stem, stage 1, stage 2, …, head."""

    name: str
    image_size: int  # side of its output, pixels; 1 for the head
    complexity: Complexity


def complexity(plan: NetworkPlan, image_size: int = 224) -> Complexity:
    """Count the costs of the network for a square image of `image_size` pixels."""
    costs = [astuple(part.complexity) for part in complexity_by_part(plan, image_size)]
    return Complexity(*map(sum, zip(*costs)))


def complexity_by_part(plan: NetworkPlan, image_size: int = 224) -> list[PartComplexity]:
    """Count the costs of stem, stages and head, which add up to `complexity`."""
    count, stem = _Counter(image_size), STEMS[plan.stem_type]
    count.conv_bn(plan.in_channels, plan.stem_width, stem.kernel, stem.stride)
    if stem.pools:
        count.pool()
    parts = [count.part("stem")]
    for number, blocks in enumerate(plan.stages(), start=1):
        count = _Counter(count.size)
        for block in blocks:
            _count_block(count, BLOCKS[plan.block_type], block)
        parts.append(count.part(f"stage {number}"))
    count, width = _Counter(count.size), plan.widths[-1]
    if plan.head_width:
        count.conv_bn(width, plan.head_width, 1)
        width = plan.head_width
    if plan.num_classes:
        count.params += (width + 1) * plan.num_classes
        count.macs += width * plan.num_classes
    count.size = 1
    return [*parts, count.part("head")]


class _Counter:
    def __init__(self, size: int):
        self.size = size  # side of the feature map so far, pixels
        self.params = self.macs = self.activations = 0

    def part(self, name: str) -> PartComplexity:
        return PartComplexity(name, self.size, Complexity(self.params, self.macs, self.activations))

    def conv_bn(self, in_width, out_width, kernel, stride=1, groups=1, keep_size=False):
        """Count a convolution, padded to keep the size at stride 1, and its batch normalisation."""
        size = (self.size - 1) // stride + 1
        weights = in_width // groups * out_width * kernel**2
        self.params += weights + 2 * out_width
        self.macs += weights * size**2
        self.activations += out_width * size**2
        if not keep_size:
            self.size = size

    def squeeze_excite(self, width: int, squeezed: int):
        self.params += 2 * width * squeezed + width + squeezed
        self.macs += 2 * width * squeezed
        self.activations += width + squeezed

    def pool(self):
        self.size = (self.size - 1) // 2 + 1


def _count_block(count: _Counter, row: BlockRow, block: BlockPlan) -> None:
    width, inner = block.out_width, block.bottleneck
    if row.projects and not block.keeps_shape:
        count.conv_bn(block.in_width, width, 1, block.stride, keep_size=True)
    if not row.has_bottleneck:
        count.conv_bn(block.in_width, width, 3, block.stride)
        count.conv_bn(width, width, 3)
        return
    count.conv_bn(block.in_width, inner, 1)
    count.conv_bn(inner, inner, 3, block.stride, groups=block.groups)
    if block.squeezed:
        count.squeeze_excite(inner, block.squeezed)
    count.conv_bn(inner, width, 1)
