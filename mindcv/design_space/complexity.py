"""Count parameters, multiply-accumulates and activations from a network's plan alone."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

from .plan import BLOCKS, STEMS, BlockPlan, BlockRow, NetworkPlan, plan_stage


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
    stages = zip(plan.widths, plan.strides, plan.bottleneck_ratios, plan.group_widths)
    return _count_parts(plan, image_size, zip(plan.depths, stages), whole=round)


def complexities(
    like: NetworkPlan,
    *,
    widths: np.ndarray,
    depths: np.ndarray,
    ratios: np.ndarray,
    groups: np.ndarray,
    image_size: int = 224,
) -> Complexity:
    """Count the costs of many networks at once, exactly as `complexity`: arrays of N costs.

    Args:
        like: what they share: stem, kind of block, squeeze-and-excitation, head, classes; its first
            stride is every stage's.
        widths, depths, ratios, groups: (N, stages), adjusted to each other (`adjust_all`); a stage
            of depth 0, after the others, is none.
    """
    stages = (depths > 0).sum(axis=1)
    counts = np.zeros((3, len(depths)), np.int64)
    for number in np.unique(stages):
        rows = stages == number
        depth, *columns = (each[rows, :number].T for each in (depths, widths, ratios, groups))
        shapes = ((width, like.strides[0], *rest) for width, *rest in zip(*columns))
        whole = lambda values: np.rint(values).astype(np.int64)  # noqa: E731
        parts = _count_parts(like, image_size, zip(depth, shapes), whole=whole)
        for kind, costs in enumerate(zip(*(astuple(part.complexity) for part in parts))):
            counts[kind, rows] = sum(costs)
    return Complexity(*counts)


def _count_parts(plan: NetworkPlan, image_size: int, stages: Iterable, *, whole) -> list:
    """Count stem, stages and head; a stage's values are those of one network, or arrays."""
    count, stem = _Counter(image_size), STEMS[plan.stem_type]
    count.conv_bn(plan.in_channels, plan.stem_width, stem.kernel, stem.stride)
    if stem.pools:
        count.pool()
    parts, width = [count.part("stem")], plan.stem_width
    for number, (depth, stage) in enumerate(stages, start=1):
        count = _Counter(count.size)
        for block in (blocks := plan_stage(width, stage, plan.se_ratio, whole=whole)):
            count.times = 1 if block is blocks[0] else depth - 1
            _count_block(count, BLOCKS[plan.block_type], block)
        parts.append(count.part(f"stage {number}"))
        width = block.out_width
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
    """Adds up what is counted `times` times; all numbers but kernels and strides may be arrays."""

    def __init__(self, size: int):
        self.size = size  # side of the feature map so far, pixels
        self.params = self.macs = self.activations = 0
        self.times = 1

    def part(self, name: str) -> PartComplexity:
        return PartComplexity(name, self.size, Complexity(self.params, self.macs, self.activations))

    def conv_bn(self, in_width, out_width, kernel, stride=1, groups=1, shortcut=None):
        """Count a convolution, padded to keep the size at stride 1, and its batch normalisation.

        Args:
            shortcut: how many there are of one beside the block's own; they keep its size.
        """
        size = (self.size - 1) // stride + 1
        times = self.times if shortcut is None else self.times * shortcut
        weights = times * (in_width // groups * out_width * kernel**2)
        self.params += weights + times * 2 * out_width
        self.macs += weights * size**2
        self.activations += times * out_width * size**2
        if shortcut is None:
            self.size = size

    def squeeze_excite(self, width, squeezed):
        times = self.times * (squeezed > 0)
        self.params += times * (2 * width * squeezed + width + squeezed)
        self.macs += times * 2 * width * squeezed
        self.activations += times * (width + squeezed)

    def pool(self):
        self.size = (self.size - 1) // 2 + 1


def _count_block(count: _Counter, row: BlockRow, block: BlockPlan) -> None:
    width, inner = block.out_width, block.bottleneck
    if row.projects:
        projections = 1 - block.keeps_shape
        count.conv_bn(block.in_width, width, 1, block.stride, shortcut=projections)
    if not row.has_bottleneck:
        count.conv_bn(block.in_width, width, 3, block.stride)
        count.conv_bn(width, width, 3)
        return
    count.conv_bn(block.in_width, inner, 1)
    count.conv_bn(inner, inner, 3, block.stride, groups=block.groups)
    if np.any(block.squeezed):
        count.squeeze_excite(inner, block.squeezed)
    count.conv_bn(inner, width, 1)
