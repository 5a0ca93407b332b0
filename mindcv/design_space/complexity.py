"""Count parameters, multiply-accumulates and activations from a network's plan alone."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np

from .plan import BLOCKS, STEMS, BlockPlan, BlockRow, NetworkPlan, Numbers, plan_stage


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
    shapes = zip(plan.widths, plan.strides, plan.bottleneck_ratios, plan.group_widths)
    stages = zip((plan.stem_width, *plan.widths), plan.depths, shapes)
    return _count_parts(plan, image_size, stages, (plan.widths[-1], len(plan.depths)))


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
        like: what they share: stem, kind of block, squeeze-and-excitation, head, classes, strides;
            its last stride is that of further stages too.
        widths, depths, ratios, groups: (N, stages), adjusted to each other (`adjust_all`); a stage
            of depth 0, after the others, is none.
    """
    numbers = (depths > 0).sum(axis=1)
    order = np.argsort(-numbers, kind="stable")  # so that the networks with a stage are the first
    last = widths[order, numbers[order] - 1]
    depths, *shapes = (each.T.take(order, axis=1) for each in (depths, widths, ratios, groups))
    in_widths, counts, stages = [like.stem_width, *shapes[0]], np.zeros((3, len(order)), int), []
    for stage, (in_width, depth) in enumerate(zip(in_widths, depths[: max(numbers, default=0)])):
        some = np.count_nonzero(depth)
        width, ratio, group = (each[stage][:some] for each in shapes)
        stride = like.strides[min(stage, len(like.strides) - 1)]
        in_width = in_width[:some] if stage else in_width
        stages.append((in_width, depth[:some], (width, stride, ratio, group)))
    for part in _count_parts(like, image_size, stages, (last, numbers[order])):
        for count, cost in zip(counts, vars(part.complexity).values()):
            count[: getattr(cost, "size", None)] += cost
    counts[:, order] = counts.copy()
    return Complexity(*counts)


def _count_parts(
    plan: NetworkPlan, image_size: int, stages: Iterable, last: tuple[Numbers, Numbers]
) -> list[PartComplexity]:
    """Count stem, stages and head of one network, or of many by arrays.

    Args:
        stages: input width, depth, and what `plan_stage` takes.
        last: width of the last stage, and the number of stages.
    """
    count, stem = _Counter(image_size), STEMS[plan.stem_type]
    count.conv_bn(plan.in_channels, plan.stem_width, stem.kernel, stem.stride)
    if stem.pools:
        count.pool()
    parts = [count.part("stem")]
    for place, (in_width, depth, stage) in enumerate(stages, start=1):
        count = _Counter(count.size)
        for block in (blocks := plan_stage(in_width, stage, plan.se_ratio)):
            count.times = 1 if block is blocks[0] else depth - 1
            _count_block(count, BLOCKS[plan.block_type], block)
        parts.append(count.part(f"stage {place}"))
    last_width, number = last
    sizes = [part.image_size for part in parts]
    count = _Counter(np.take(sizes, number) if np.ndim(number) else sizes[number])
    if plan.head_width:
        count.conv_bn(last_width, plan.head_width, 1)
        last_width = plan.head_width
    if plan.num_classes:
        count.params += (last_width + 1) * plan.num_classes
        count.macs += last_width * plan.num_classes
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

    def conv_bn(self, in_width, out_width, kernel, stride=1, shortcut=None):
        """Count a convolution, padded to keep the size at stride 1, and its batch normalisation.

        Args:
            in_width: input channels of a group.
            shortcut: how many there are of one beside the block's own; they keep its size.
        """
        size = (self.size - 1) // stride + 1
        outputs = out_width * (self.times if shortcut is None else self.times * shortcut)
        weights = outputs * (in_width * kernel**2)
        self.params += weights + 2 * outputs
        self.macs += weights * size**2
        self.activations += outputs * size**2
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
    projections = 1 - block.keeps_shape
    if row.projects and np.any(projections):
        count.conv_bn(block.in_width, width, 1, block.stride, shortcut=projections)
    if not row.has_bottleneck:
        count.conv_bn(block.in_width, width, 3, block.stride)
        count.conv_bn(width, width, 3)
        return
    count.conv_bn(block.in_width, inner, 1)
    count.conv_bn(block.group_width, inner, 3, block.stride)
    if np.any(block.squeezed):
        count.squeeze_excite(inner, block.squeezed)
    count.conv_bn(inner, width, 1)
