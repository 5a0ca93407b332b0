"""Count parameters, multiply-accumulates and activations from a network's plan alone."""

from dataclasses import astuple, dataclass

from .plan import BLOCKS, STEMS, BlockPlan, BlockRow, NetworkPlan


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
