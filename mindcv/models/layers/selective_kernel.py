"""Selective kernels (Li et al., 2019): attention over convolutions of several sizes."""

from collections.abc import Callable, Sequence

from mindspore import nn, ops

from ...design_space.plan import make_divisible
from .conv_norm_act import Conv2dNormActivation

__all__ = ["SelectiveKernel", "SelectiveKernelAttn"]


class SelectiveKernelAttn(nn.Cell):
    """`softmax(select(act(norm(reduce(mean(sum of paths))))))`, over the paths.

    From (N, paths, C, H, W) to (N, paths, C, 1, 1).
    """

    def __init__(
        self,
        channels: int,
        num_paths: int = 2,
        attn_channels: int = 32,
        activation: Callable[[], nn.Cell] = nn.ReLU,
        norm: Callable[[int], nn.Cell] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.num_paths = num_paths
        self.fc_reduce = nn.Conv2d(channels, attn_channels, 1)
        self.bn, self.act = norm(attn_channels), activation()
        self.fc_select = nn.Conv2d(attn_channels, channels * num_paths, 1)

    def construct(self, x):
        pooled = ops.mean(x.sum(1), (2, 3), True)
        scores = self.fc_select(self.act(self.bn(self.fc_reduce(pooled))))
        shape = (scores.shape[0], self.num_paths, scores.shape[1] // self.num_paths, 1, 1)
        return ops.softmax(scores.reshape(shape), 1)


class SelectiveKernel(nn.Cell):
    """The sum of parallel convolutions, weighted by `SelectiveKernelAttn`.

    Args:
        kernel_size: one for each path, or one for two paths; None: 3 and 5.
        keep_3x3: take dilated 3x3 kernels in place of larger ones.
        split_input: give each path its share of the input channels.
        rd_channels: channels of the attention; None: `rd_ratio` of out_channels, rounded to a
            multiple of `rd_divisor`.

    Raises:
        ValueError: a kernel size is even or below 3, or the paths do not divide in_channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 8,
        keep_3x3: bool = True,
        split_input: bool = True,
        activation: Callable[[], nn.Cell] = nn.ReLU,
        norm: Callable[[int], nn.Cell] = nn.BatchNorm2d,
    ):
        super().__init__()
        kernels = [kernel_size] * 2 if isinstance(kernel_size, int) else kernel_size or [3, 5]
        if any(kernel < 3 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"kernel_size {kernel_size}: expected odd sizes of at least 3")
        paths, out_channels = len(kernels), out_channels or in_channels
        if split_input and in_channels % paths:
            raise ValueError(f"{in_channels} input channels cannot be split into {paths} paths")
        self.share = in_channels // paths if split_input else None
        self.paths = nn.CellList(
            [
                Conv2dNormActivation(
                    self.share or in_channels,
                    out_channels,
                    kernel_size=3 if keep_3x3 else kernel,
                    stride=stride,
                    dilation=dilation * (kernel - 1) // 2 if keep_3x3 else dilation,
                    groups=min(out_channels, groups),
                    activation=activation,
                    norm=norm,
                )
                for kernel in kernels
            ]
        )
        reduced = rd_channels or make_divisible(out_channels * rd_ratio, rd_divisor)
        self.attn = SelectiveKernelAttn(out_channels, paths, reduced)

    def construct(self, x):
        maps = []
        for index, path in enumerate(self.paths):
            part = x
            if self.share is not None:
                part = x[:, index * self.share : (index + 1) * self.share]
            maps.append(path(part))
        stacked = ops.stack(maps, 1)
        return (stacked * self.attn(stacked)).sum(1)
