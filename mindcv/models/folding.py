"""Fold batch normalisation into the preceding convolutions: fewer operations, same outputs."""

import copy
from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import WeightsError
from .regnet import AnyNet


def fold_on_cpu(network: nn.Cell, device_target: str) -> nn.Cell:
    """Return a RegNet folded if it runs on CPU, where that is faster; else the network itself.

    Logits change by less than 1e-5 of the largest. Ascend's graph engine folds by itself.
    """
    if device_target != "CPU" or not isinstance(network, AnyNet):
        return network
    try:
        return fold_batch_norm(network)[0]
    except WeightsError:
        return network  # its outputs are not finite, which the evaluation reports


def fold_batch_norm(network: nn.Cell) -> tuple[nn.Cell, int]:
    """Return a folded copy in evaluation mode, and the number of folded convolutions.

    A cell's children `x` and `x_bn`, or `conv` or `proj` and `bn`, are a pair, as in this library's
    blocks; other normalisation stays. With s = gamma / sqrt(variance + eps), the convolution gets
    the weight w * s and the bias beta + (bias - mean) * s, computed in float64.

    Raises:
        WeightsError: a folded weight is not finite.
    """
    folded = copy.deepcopy(network).set_train(False)
    pairs = list(_pairs(folded))
    for cell, conv_name, norm_name in pairs:
        conv, norm = getattr(cell, conv_name), getattr(cell, norm_name)
        name = conv.weight.name
        setattr(cell, conv_name, _folded(conv, norm))
        setattr(cell, norm_name, nn.Identity())
        # Only now, since a cell renames the parameters of a child on assignment.
        getattr(cell, conv_name).weight.name = name
        getattr(cell, conv_name).bias.name = f"{name.removesuffix('weight')}bias"
    return folded, len(pairs)


def _pairs(network: nn.Cell) -> Iterator[tuple[nn.Cell, str, str]]:
    for _, cell in list(network.cells_and_names()):
        children = cell.name_cells()
        for name, conv in children.items():
            partner = "bn" if name in ("conv", "proj") else f"{name}_bn"
            norm = children.get(partner)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                if conv.out_channels == norm.num_features:
                    yield cell, name, partner


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    gamma, beta, mean, variance = (
        parameter.asnumpy().astype(np.float64)
        for parameter in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.eps)
    weight = conv.weight.asnumpy().astype(np.float64) * scale.reshape(-1, 1, 1, 1)
    bias = conv.bias.asnumpy().astype(np.float64) if conv.has_bias else 0.0
    bias = beta + (bias - mean) * scale
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise WeightsError(
            f"batch normalisation after {conv.weight.name} cannot be folded: a weight would not be "
            "finite; look at its gamma, moving_mean and moving_variance"
        )
    merged = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        pad_mode=conv.pad_mode,
        padding=conv.padding,
        dilation=conv.dilation,
        group=conv.group,
        has_bias=True,
    )
    merged.weight.set_data(ms.Tensor(weight, conv.weight.dtype))
    merged.bias.set_data(ms.Tensor(bias, conv.weight.dtype))
    return merged
