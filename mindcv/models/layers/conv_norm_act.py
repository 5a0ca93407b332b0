"""A convolution with what usually follows it."""

from collections.abc import Callable

from mindspore import nn

__all__ = ["Conv2dNormActivation"]


class Conv2dNormActivation(nn.Cell):
    """`activation(norm(conv(x)))`; None leaves out normalisation or activation.

    Args:
        padding: pixels on each side with `pad_mode` pad; None: what keeps the size at stride 1.
        has_bias: None: only without normalisation.
        **kwargs: further arguments of `nn.Conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pad_mode: str = "pad",
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        norm: Callable[[int], nn.Cell] | None = nn.BatchNorm2d,
        activation: Callable[[], nn.Cell] | None = nn.ReLU,
        has_bias: bool | None = None,
        **kwargs,
    ):
        super().__init__()
        if padding is None:
            reach = dilation * (kernel_size - 1)  # from the first to the last pixel of the kernel
            padding = (reach + stride - 1) // 2
        shape = dict(kernel_size=kernel_size, stride=stride, dilation=dilation, group=groups)
        shape |= dict(pad_mode=pad_mode, padding=padding if pad_mode == "pad" else 0)
        bias = norm is None if has_bias is None else has_bias
        convolution = nn.Conv2d(in_channels, out_channels, has_bias=bias, **shape, **kwargs)
        normalise = [] if norm is None else [norm(out_channels)]
        activate = [] if activation is None else [activation()]
        self.features = nn.SequentialCell([convolution, *normalise, *activate])

    def construct(self, x):
        return self.features(x)
