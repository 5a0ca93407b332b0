"""Layers for networks of one's own, with MindCV's names, parameters and defaults.

MindCV's paths of those in this file, such as `layers.pooling`, are rows of `mindcv_paths`.
"""

from collections.abc import Callable

from mindspore import nn, ops
from mindspore.nn import Identity
from mindspore.nn import SiLU as Swish

from ...design_space.plan import make_divisible
from ...mindcv_paths import submodule
from .compatibility import Dropout
from .conv_norm_act import Conv2dNormActivation
from .selective_kernel import SelectiveKernel, SelectiveKernelAttn

__all__ = [
    "Conv2dNormActivation",
    "DropPath",
    "Dropout",
    "GlobalAvgPooling",
    "Identity",
    "Mlp",
    "SelectiveKernel",
    "SelectiveKernelAttn",
    "SqueezeExcite",
    "SqueezeExciteV2",
    "Swish",
]


def __getattr__(name: str):
    return submodule(__name__, name)


class DropPath(nn.Cell):
    """Drop the residual branch of whole samples in training (Huang et al., 2016).

    With `scale_by_keep`, kept branches are scaled by 1 / (1 - drop_prob), as in timm and
    torchvision (`mode="row"`).
    """

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True):
        super().__init__()
        self.keep_prob, self.scale_by_keep = 1.0 - drop_prob, scale_by_keep
        self.dropout = nn.Dropout(p=drop_prob)

    def construct(self, x):
        # Dropout of one element per sample is the Bernoulli draw, already scaled.
        drawn = self.dropout(ops.ones((x.shape[0],) + (1,) * (x.ndim - 1), x.dtype))
        if self.training and not self.scale_by_keep:
            drawn = drawn * self.keep_prob
        return x * drawn


class GlobalAvgPooling(nn.Cell):
    """Average (N, C, H, W) to (N, C), or to (N, C, 1, 1) with `keep_dims`."""

    def __init__(self, keep_dims: bool = False):
        super().__init__()
        self.keep_dims = keep_dims

    def construct(self, x):
        return ops.mean(x, (2, 3), self.keep_dims)


class SqueezeExcite(nn.Cell):
    """`x * gate(expand(act(norm(reduce(mean(x))))))`, one gate per channel (Hu et al., 2018).

    Args:
        rd_channels: channels after `reduce`; None: `rd_ratio` of in_channels, rounded to a multiple
            of `rd_divisor`.
        norm: class of a normalisation of the reduced channels; None: no normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        rd_ratio: float = 1 / 16,
        rd_channels: int | None = None,
        rd_divisor: int = 8,
        norm: Callable[[int], nn.Cell] | None = None,
        act_layer: Callable[[], nn.Cell] = nn.ReLU,
        gate_layer: Callable[[], nn.Cell] = nn.Sigmoid,
    ):
        super().__init__()
        rd_channels = rd_channels or make_divisible(in_channels * rd_ratio, rd_divisor)
        self.conv_reduce = self._project(in_channels, rd_channels)
        self.bn = norm(rd_channels) if norm else None
        self.conv_expand = self._project(rd_channels, in_channels)
        self.act, self.gate = act_layer(), gate_layer()

    def _project(self, in_channels: int, out_channels: int) -> nn.Cell:
        return nn.Conv2d(in_channels, out_channels, 1, pad_mode="pad", has_bias=True)

    def construct(self, x):
        return x * self._gates(ops.mean(x, (2, 3), True))

    def _gates(self, means):
        reduced = self.conv_reduce(means)
        if self.bn is not None:
            reduced = self.bn(reduced)
        return self.gate(self.conv_expand(self.act(reduced)))


class SqueezeExciteV2(SqueezeExcite):
    """`SqueezeExcite` with dense layers in place of its 1x1 convolutions."""

    def _project(self, in_channels: int, out_channels: int) -> nn.Cell:
        return nn.Dense(in_channels, out_channels)

    def construct(self, x):
        gates = self._gates(ops.mean(x, (2, 3)))
        return x * gates.reshape(gates.shape + (1, 1))


class Mlp(nn.Cell):
    """`drop(fc2(drop(act(fc1(x)))))`; sizes left out equal `in_features`."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Cell] = nn.GELU,
        drop: float = 0.0,
    ):
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Dense(in_features, hidden_features)
        self.act = act_layer()
        self.fc2 = nn.Dense(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(p=drop)

    def construct(self, x):
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
