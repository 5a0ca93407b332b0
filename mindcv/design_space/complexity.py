"""Parameters, multiply-accumulates and activations of a network, counted from its plan alone."""

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

STEM_TYPES = ("simple_stem_in", "res_stem_in", "res_stem_cifar")
BLOCK_TYPES = (
    "vanilla_block",
    "res_basic_block",
    "res_bottleneck_block",
    "res_bottleneck_linear_block",
)
ACTIVATIONS = ("relu", "silu")


@dataclass(frozen=True)
class NetworkPlan:
    """Everything that shapes an AnyNet, one entry a stage in the tuples.

    Attributes:
        stem_type: simple_stem_in, res_stem_in or res_stem_cifar.
        block_type: vanilla_block, res_basic_block, res_bottleneck_block or
            res_bottleneck_linear_block.
        widths, depths, strides: output channels, blocks and stride of each stage.
        bottleneck_ratios: bottleneck width / output width; bottleneck blocks only.
        group_widths: channels of one group of the 3x3 convolution; bottleneck blocks only.
        se_ratio: squeeze-and-excitation width / input width of the block; 0: none.
        head_width: channels of a 1x1 convolution before pooling; 0: none.
        num_classes: classes; 0: no classifier.
        activation: relu or silu, everywhere in the network; costs nothing by the counts here.

    Raises:
        ValueError: unknown stem type, block type or activation, tuples of unequal length, a value
            out of range, or a group width that does not divide its bottleneck width.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]
    bottleneck_ratios: tuple[float, ...]
    group_widths: tuple[int, ...]
    stem_type: str = "simple_stem_in"
    stem_width: int = 32
    block_type: str = "res_bottleneck_block"
    se_ratio: float = 0.0
    head_width: int = 0
    num_classes: int = 1000
    in_channels: int = 3
    activation: str = "relu"

    def __post_init__(self):
        for kind, value, known in (
            ("stem_type", self.stem_type, STEM_TYPES),
            ("block_type", self.block_type, BLOCK_TYPES),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise ValueError(f"{kind} {value!r} is unknown; expected {', '.join(known)}")
        for name, least in (
            ("stem_width", 1),
            ("in_channels", 1),
            ("num_classes", 0),
            ("head_width", 0),
            ("se_ratio", 0),
        ):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")
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
        """Number of groups of the 3x3 convolutions, stage by stage."""
        rows = zip(self.widths, self.bottleneck_ratios, self.group_widths)
        return tuple(round(width * ratio) // group for width, ratio, group in rows)

    @property
    def reductions(self) -> tuple[int, ...]:
        """Image side / side of the feature map, of the stem and of each stage."""
        stem = {"simple_stem_in": 2, "res_stem_in": 4, "res_stem_cifar": 1}[self.stem_type]
        return tuple(accumulate(self.strides, mul, initial=stem))


@dataclass(frozen=True)
class Complexity:
    """Costs of one image.

    Attributes:
        params: trainable parameters.
        macs: multiply-accumulates of convolutions and the classifier, without bias additions.
        activations: output elements of all convolutions (paper, section 3).
    """

    params: int
    macs: int
    activations: int


@dataclass(frozen=True)
class PartComplexity:
    """Costs of one part of a network.

    Attributes:
        name: stem, stage 1, stage 2, …, head.
        image_size: side of the feature map that the part gives, pixels; 1 after the head's mean.
        complexity: the part's share of the network's costs.
    """

    name: str
    image_size: int
    complexity: Complexity


def complexity(plan: NetworkPlan, image_size: int = 224) -> Complexity:
    """Count the costs of the network for a square image of `image_size` pixels."""
    costs = [part.complexity for part in complexity_by_part(plan, image_size)]
    return Complexity(
        sum(cost.params for cost in costs),
        sum(cost.macs for cost in costs),
        sum(cost.activations for cost in costs),
    )


def complexity_by_part(plan: NetworkPlan, image_size: int = 224) -> list[PartComplexity]:
    """Count the costs of stem, stages and head; they add up to those of the network."""
    count = _Counter(image_size)
    width = _stem(count, plan)
    parts = [count.part("stem")]
    block = {
        "vanilla_block": _vanilla_block,
        "res_basic_block": _basic_block,
        "res_bottleneck_block": _bottleneck_block,
        "res_bottleneck_linear_block": _linear_bottleneck_block,
    }[plan.block_type]
    for stage, depth in enumerate(plan.depths):
        count = _Counter(count.size)
        for index in range(depth):
            stride = plan.strides[stage] if index == 0 else 1
            block(count, plan, stage, width, stride)
            width = plan.widths[stage]
        parts.append(count.part(f"stage {stage + 1}"))
    count = _Counter(count.size)
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
        self.size = size  # side of the current feature map, pixels
        self.params = self.macs = self.activations = 0

    def part(self, name: str) -> PartComplexity:
        return PartComplexity(name, self.size, Complexity(self.params, self.macs, self.activations))

    def conv_bn(self, in_width, out_width, kernel, stride=1, groups=1, keep_size=False):
        """Count convolution and batch normalisation, padded to keep the size at stride 1."""
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


def _stem(count: _Counter, plan: NetworkPlan) -> int:
    if plan.stem_type == "res_stem_in":
        count.conv_bn(plan.in_channels, plan.stem_width, 7, 2)
        count.pool()
    else:
        stride = 1 if plan.stem_type == "res_stem_cifar" else 2
        count.conv_bn(plan.in_channels, plan.stem_width, 3, stride)
    return plan.stem_width


def _vanilla_block(count: _Counter, plan: NetworkPlan, stage: int, width: int, stride: int):
    count.conv_bn(width, plan.widths[stage], 3, stride)
    count.conv_bn(plan.widths[stage], plan.widths[stage], 3)


def _shortcut(count: _Counter, width: int, out_width: int, stride: int):
    if width != out_width or stride != 1:
        count.conv_bn(width, out_width, 1, stride, keep_size=True)


def _basic_block(count: _Counter, plan: NetworkPlan, stage: int, width: int, stride: int):
    _shortcut(count, width, plan.widths[stage], stride)
    _vanilla_block(count, plan, stage, width, stride)


def _bottleneck_block(count: _Counter, plan: NetworkPlan, stage: int, width: int, stride: int):
    _shortcut(count, width, plan.widths[stage], stride)
    _linear_bottleneck_block(count, plan, stage, width, stride)


def _linear_bottleneck_block(
    count: _Counter, plan: NetworkPlan, stage: int, width: int, stride: int
):
    out_width = plan.widths[stage]
    bottleneck = round(out_width * plan.bottleneck_ratios[stage])
    squeezed = round(width * plan.se_ratio)
    count.conv_bn(width, bottleneck, 1)
    count.conv_bn(bottleneck, bottleneck, 3, stride, bottleneck // plan.group_widths[stage])
    if squeezed:
        count.squeeze_excite(bottleneck, squeezed)
    count.conv_bn(bottleneck, out_width, 1)
