"""Layers that the networks share."""

import math

from mindspore import nn, ops
from mindspore.common.initializer import Normal, Uniform, initializer


def conv2d(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, bias=False
) -> nn.Conv2d:
    """Build a convolution with an odd kernel, padded to keep the size at stride 1."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        pad_mode="pad",
        padding=kernel // 2,
        group=groups,
        has_bias=bias,
    )


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Build batch normalisation with the paper's eps of 1e-5 and momentum of 0.1.

    MindSpore's momentum is the share that is kept: its 0.9 is 0.1 in torch and pycls. As in torch,
    the biased variance normalises a batch, and the unbiased one enters moving_variance: n / (n - 1)
    times as large, with n = N * H * W. MindSpore's documentation does not say so; it was measured
    with 2.10 on CPU, and CANN's bn_training_update does the same on Ascend. A single value per
    channel (n = 1), where torch raises, makes moving_variance nan on CPU.
    """
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.9)


def activation_of(name: str) -> nn.Cell:
    return {"relu": nn.ReLU, "silu": nn.SiLU}[name]()


class SqueezeExcite(nn.Cell):
    """`x * sigmoid(expand(act(reduce(mean(x)))))`, one gate per channel (Hu et al., 2018)."""

    def __init__(self, channels: int, squeezed: int, activation: str = "relu"):
        super().__init__()
        self.conv_reduce = conv2d(channels, squeezed, 1, bias=True)
        self.conv_expand = conv2d(squeezed, channels, 1, bias=True)
        self.act = activation_of(activation)
        self.sigmoid = nn.Sigmoid()

    def construct(self, x):
        gate = ops.mean(x, (2, 3), True)
        gate = self.conv_expand(self.act(self.conv_reduce(gate)))
        return x * self.sigmoid(gate)


class DropPath(nn.Cell):
    """Drop the residual branch of whole samples in training (Huang et al., 2016).

    Kept branches are scaled by 1 / (1 - rate), as in timm and torchvision (`mode="row"`).
    """

    def __init__(self, rate: float):
        super().__init__()
        self.dropout = nn.Dropout(p=rate)

    def construct(self, x):
        # Dropout of one element per sample is the Bernoulli draw, already scaled.
        return x * self.dropout(ops.ones((x.shape[0], 1, 1, 1), x.dtype))


def initialize_weights(network: nn.Cell) -> None:
    """Initialise as pycls does (`core/net.py`, `init_weights`).

    Convolutions: normal with variance 2 / (kernel area * output channels), regardless of groups;
    their biases (squeeze-and-excitation) as in torch, uniform within 1 / sqrt(fan-in). Classifier:
    normal with standard deviation 0.01, bias 0. Normalisation: gamma 1, beta 0.
    """
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            area = math.prod(cell.kernel_size)
            _reset(cell.weight, Normal(math.sqrt(2.0 / (area * cell.out_channels))))
            if cell.has_bias:
                fan_in = area * cell.in_channels // cell.group
                _reset(cell.bias, Uniform(1.0 / math.sqrt(fan_in)))
        elif isinstance(cell, nn.BatchNorm2d):
            _reset(cell.gamma, "ones")
            _reset(cell.beta, "zeros")
        elif isinstance(cell, nn.Dense):
            _reset(cell.weight, Normal(0.01))
            if cell.has_bias:
                _reset(cell.bias, "zeros")


def _reset(parameter, method) -> None:
    parameter.set_data(initializer(method, parameter.shape, parameter.dtype))
