"""Layers that MindCV has for the differences between MindSpore's versions."""

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

__all__ = ["Dropout", "Interpolate", "ResizeBilinear", "Split"]


class Dropout(nn.Dropout):
    """`nn.Dropout` whose first parameter is the share `p` of dropped elements."""

    def __init__(self, p: float = 0.5, dtype=ms.float32):
        super().__init__(p=p, dtype=dtype)


class Interpolate(nn.Cell):
    """`ops.interpolate` of (N, C, H, W) to a size, or by `scale_factor`."""

    def __init__(
        self,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        self.scale_factor, self.mode = scale_factor, mode
        self.align_corners, self.recompute = align_corners, recompute_scale_factor

    def construct(self, x, size=None):
        return ops.interpolate(
            x,
            size=size,
            scale_factor=self.scale_factor,
            mode=self.mode,
            align_corners=self.align_corners,
            recompute_scale_factor=self.recompute,
        )


class Split(nn.Cell):
    """`ops.split` along `axis`; `output_num` was for MindSpore 1 and has no effect."""

    def __init__(self, split_size_or_sections: int | Sequence[int], output_num: int, axis: int = 0):
        super().__init__()
        self.sections, self.axis = split_size_or_sections, axis

    def construct(self, x):
        return ops.split(x, self.sections, self.axis)


class ResizeBilinear(nn.Cell):
    """Resize (N, C, H, W) to `size`, (height, width)."""

    def __init__(
        self, size: Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
    ):
        super().__init__()
        self.size = tuple(size)
        self.resize = ops.ResizeBilinearV2(align_corners, half_pixel_centers)

    def construct(self, x):
        return self.resize(x, self.size)
