"""Transforms of one image, as operation lists for `Dataset.map`; normalisation as a cell."""

import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.dataset import vision

from .auto_augment import RandAugment
from .erasing import RandomErasing

# Channel statistics on the 0-255 scale.
_STATISTICS = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "cifar10": ((125.307, 122.961, 113.8575), (51.5865, 50.847, 51.255)),
    "cifar100": ((129.3, 124.0, 112.4), (68.2, 65.4, 70.4)),
    "mnist_demo": ((33.3285,) * 3, (78.5655,) * 3),
}
_INTERPOLATION = {
    "nearest": vision.Inter.NEAREST,
    "bilinear": vision.Inter.BILINEAR,
    "bicubic": vision.Inter.BICUBIC,
}


def channel_statistics(dataset_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of a dataset's channels on the 0-255 scale; ImageNet's where unknown."""
    return _STATISTICS.get(dataset_name, _STATISTICS["imagenet"])


class Normalize(nn.Cell):
    """`(x - mean) / std` inside the graph: the host ships a quarter of the bytes, as uint8.

    Args:
        mean, std: one value per channel, 0-255 scale. The input is (N, C, H, W) of any type, the
            output float32.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.mean = Tensor(np.reshape(mean, (1, -1, 1, 1)), ms.float32)
        self.std = Tensor(np.reshape(std, (1, -1, 1, 1)), ms.float32)

    def construct(self, x):
        return (ops.cast(x, ms.float32) - self.mean) / self.std


def create_normalize(
    dataset_name: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Normalize:
    """Return the cell that belongs in front of a network fed by `normalize_on_device` transforms.

    Args:
        dataset_name: a name of `create_dataset`, whose statistics are the default.
        mean, std: one value per channel, 0-255 scale.
    """
    own_mean, own_std = channel_statistics(dataset_name)
    return Normalize(mean or own_mean, std or own_std)


def create_transforms(
    dataset_name: str = "",
    image_resize: int = 224,
    is_training: bool = False,
    auto_augment: str | None = None,
    separate: bool = False,
    normalize_on_device: bool = False,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (0.75, 1.333),
    hflip: float = 0.5,
    vflip: float = 0.0,
    color_jitter: float | Sequence[float] | None = None,
    interpolation: str = "bilinear",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    re_prob: float = 0.0,
    re_scale: Sequence[float] = (0.02, 0.33),
    re_ratio: Sequence[float] = (0.3, 3.3),
    re_value: float | str = 0,
    re_max_attempts: int = 10,
    crop_pct: float = 0.875,
) -> list:
    """Return the operations that turn a dataset's image into the network's input.

    Training: random crop, decode and resize in one; flips; RandAugment or colour jitter; erasing.
    Evaluation: resize to image_resize / crop_pct, centre crop. CIFAR images come decoded; training
    pads them by 4 pixels and crops.

    Args:
        dataset_name: a name of `create_dataset`.
        image_resize: side of the result, pixels.
        is_training: augment.
        auto_augment: RandAugment policy in timm's syntax; replaces the colour jitter.
        separate: must be False: clean and augmented copies come with AugMix.
        normalize_on_device: give uint8 (C, H, W) for a network that starts with `Normalize`,
            instead of normalised float32.
        scale, ratio: area and aspect ranges of the random crop.
        hflip, vflip: probabilities.
        color_jitter: strength for brightness, contrast and saturation, or one each (and hue).
        interpolation: nearest, bilinear or bicubic.
        mean, std: channel statistics, 0-255 scale; None: the dataset's.
        re_prob, re_scale, re_ratio, re_value, re_max_attempts: random erasing; see `RandomErasing`.
        crop_pct: share of the resized shorter side that the centre crop keeps.

    Raises:
        ValueError: an unknown interpolation, policy or re_value, or separate.
    """
    if separate:
        raise ValueError("separate True is not available in this version")
    if interpolation not in _INTERPOLATION:
        known = ", ".join(_INTERPOLATION)
        raise ValueError(f"interpolation {interpolation!r} is unknown; expected {known}")
    if re_value not in (0, "random"):
        raise ValueError(f"re_value {re_value!r} is unknown; expected 0 or random")
    resample = _INTERPOLATION[interpolation]
    own_mean, own_std = channel_statistics(dataset_name)
    mean, std = mean or own_mean, std or own_std
    is_cifar = dataset_name.startswith("cifar")
    if is_training:
        operations = _train_geometry(image_resize, scale, ratio, hflip, vflip, resample, is_cifar)
        if auto_augment:
            operations.append(RandAugment(auto_augment, mean))
        elif color_jitter:
            operations.append(vision.RandomColorAdjust(*_jitter_ranges(color_jitter)))
    elif is_cifar:
        operations = [vision.Resize((image_resize, image_resize), resample)]
    else:
        operations = [
            vision.Decode(),
            vision.Resize(math.floor(image_resize / crop_pct), resample),
            vision.CenterCrop(image_resize),
        ]
    if not normalize_on_device:
        operations.append(vision.Normalize(list(mean), list(std)))
    operations.append(vision.HWC2CHW())
    if is_training and re_prob > 0.0:
        # The fill is meant in normalised units: on the 0-255 scale 0 is the mean colour.
        units = (mean, std) if normalize_on_device else ((0.0,) * 3, (1.0,) * 3)
        operations.append(
            RandomErasing(re_prob, re_scale, re_ratio, re_value, re_max_attempts, *units)
        )
    return operations


def _train_geometry(size, scale, ratio, hflip, vflip, resample, is_cifar) -> list:
    if is_cifar:
        operations = [vision.RandomCrop(32, 4), vision.Resize((size, size), resample)]
    else:
        operations = [vision.RandomCropDecodeResize(size, tuple(scale), tuple(ratio), resample)]
    if hflip > 0.0:
        operations.append(vision.RandomHorizontalFlip(hflip))
    if vflip > 0.0:
        operations.append(vision.RandomVerticalFlip(vflip))
    return operations


def _jitter_ranges(strength) -> tuple:
    if isinstance(strength, (int, float)):
        strength = (strength,) * 3
    return tuple(float(value) for value in strength)
