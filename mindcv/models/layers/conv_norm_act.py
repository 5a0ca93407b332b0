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
        if pad_mode != "pad":
            padding = 0
        elif padding is None:
            padding = (stride - 1 + dilation * (kernel_size - 1)) // 2
        layers = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                pad_mode=pad_mode,
                padding=padding,
                dilation=dilation,
                group=groups,
                has_bias=norm is None if has_bias is None else has_bias,
                **kwargs,
            )
        ]
        if norm:
            layers.append(norm(out_channels))
        if activation:
            layers.append(activation())
        self.features = nn.SequentialCell(layers)

    def construct(self, x):
        return self.features(x)
