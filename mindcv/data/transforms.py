"""Transforms of one image, as operation lists for `Dataset.map`; normalisation as a cell."""

import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.dataset import transforms, vision

from ..errors import ConfigError
from .augment.color import ColorJitter, Lighting
from .augment.compiled_policy import compile_policy
from .augment.device_augment import AugmentBatch, DeviceAugment
from .augment.erasing import RandomErasing
from .augment.pillow_policy import create_auto_augment
from .image_files import PillowDecode
from .pillow_resize import PillowBilinear, RoundedCenterCrop
from .preprocessing import (
    CROP_MODES,
    INTERPOLATIONS,
    RANDOM,
    Preprocessing,
    channel_statistics,
    evaluation_interpolation,
)

_DECODERS = ("mindspore", "pillow")


class Normalize(nn.Cell):
    """`(x - mean) / std` inside the graph: the host ships a quarter of the bytes, as uint8.

    And it ships them as they were decoded: the pixels become planes here too.

    Args:
        mean, std: one value per channel, 0-255 scale. The input is (N, H, W, C) of any type, the
            output (N, C, H, W) float32.
        augment: what is done first to images that come with draws; None: they never do.

    Raises:
        ConfigError: mean or std are on the scale 0-1.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], augment: DeviceAugment | None = None
    ):
        super().__init__()
        mean, std = channel_statistics("", mean, std)
        self.augment = augment and AugmentBatch(augment)
        self.mean = Tensor(np.reshape(mean, (1, -1, 1, 1)), ms.float32)
        self.std = Tensor(np.reshape(std, (1, -1, 1, 1)), ms.float32)

    def construct(self, x, draws=None):
        # Transposed while its values are bytes: a quarter of the memory to move.
        planes = ops.permute(x, (0, 3, 1, 2))
        if draws is not None:
            planes = self.augment(planes, draws)
        return (ops.cast(planes, ms.float32) - self.mean) / self.std


def create_normalize(
    dataset_name: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Sequence | None = None,
) -> Normalize:
    """Return the cell that belongs in front of a network fed by `normalize_on_device` transforms.

    Args:
        dataset_name: a name of `create_dataset`, whose statistics are the default.
        mean, std: one value per channel, 0-255 scale.
        transform: what `create_transforms` gave for training. What it leaves to the device
            (`augment_on_device`) this cell does, to the batches that have draws.

    Raises:
        ConfigError: mean or std are on the scale 0-1.
    """
    left = transform[-1] if transform and isinstance(transform[-1], DeviceAugment) else None
    return Normalize(*channel_statistics(dataset_name, mean, std), left)


def evaluation_transforms(
    preprocessing: Preprocessing, *, is_decoded: bool = False, normalize_on_device: bool = True
) -> list:
    """Return the operations of evaluation: resize to image_size / crop_pct, crop the centre.

    Args:
        is_decoded: images come as pixels, as those of CIFAR do, and are resized only.
        normalize_on_device: see `create_transforms`.

    Raises:
        ValueError: unknown interpolation or crop_mode; an interpolation without antialiasing.
    """
    used = preprocessing
    if used.crop_mode not in CROP_MODES:
        raise ValueError(
            f"crop_mode {used.crop_mode!r} is unknown; expected {', '.join(CROP_MODES)}"
        )
    if used.interpolation not in INTERPOLATIONS:
        raise ValueError(_unknown_interpolation(used.interpolation))
    row = INTERPOLATIONS[used.interpolation]
    if used.antialias and not row.antialiased:
        known = " and ".join(name for name, row in INTERPOLATIONS.items() if row.antialiased)
        raise ValueError(f"antialias goes with {known}; interpolation is {row.name!r}")

    def resize(target):
        if not used.antialias:
            return vision.Resize(target, _inter(row.name))
        if row.antialiased == "Pillow":
            return PillowBilinear(target)
        return vision.Resize(target, getattr(vision.Inter, row.antialiased))

    final = [] if normalize_on_device else _normalized_planes(used.mean, used.std)
    if is_decoded:
        return [resize((used.image_size, used.image_size)), *final]
    side = math.floor(used.image_size / used.crop_pct)
    crop = RoundedCenterCrop if used.antialias else vision.CenterCrop
    target = (side, side) if used.crop_mode == "squash" else side
    return [PillowDecode(), resize(target), crop(used.image_size), *final]


def create_transforms(
    dataset_name: str = "",
    image_resize: int | Sequence[int] = 224,
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
    crop_mode: str = "center",
    lighting: float = 0.0,
    augment_on_device: bool = False,
    antialias: bool = False,
    decoder: str = "mindspore",
) -> list | tuple[list, list, list]:
    """Return the operations that turn a dataset's image into the network's input.

    Training: random crop, decode and resize in one; flips; the policy or colour jitter; lighting;
    erasing. RandAugment and TrivialAugment are MindSpore operations, the other policies Python's.
    Evaluation: resize to image_resize / crop_pct, centre crop. CIFAR images come decoded;
    training pads them by 4 pixels and crops. MindSpore's crop of training and its bilinear and
    bicubic filters do not antialias.

    Args:
        dataset_name: a name of `create_dataset`.
        image_resize: side of the result, pixels; or (height, width), which must be equal.
        is_training: augment.
        auto_augment: a policy, see `parse_policy`; it replaces the colour jitter, but 3a does not.
        separate: in training, return three lists for `create_loader`: crop and flips, that make the
            clean image; policy, jitter and lighting; conversion and erasing.
        normalize_on_device: give uint8 (H, W, C) for a network that starts with `Normalize`,
            instead of normalised float32 (C, H, W).
        scale, ratio: area and aspect ranges of the random crop.
        hflip, vflip: probabilities.
        color_jitter: strength for brightness, contrast and saturation, or one each (and hue).
        interpolation: nearest, bilinear, bicubic, area; random: bilinear or bicubic at random in
            training, bilinear in evaluation.
        mean, std: channel statistics, 0-255 scale; None: the dataset's.
        re_prob, re_scale, re_ratio, re_value, re_max_attempts: random erasing; see `RandomErasing`.
        crop_pct: share of the resized shorter side that the centre crop keeps.
        crop_mode: center keeps the aspect of the image; squash resizes it to a square first.
        lighting: standard deviation of the colour shift; see `Lighting`.
        augment_on_device: in training, leave flips, colour jitter and erasing to the cell of
            `create_normalize`, see `DeviceAugment`; with normalize_on_device.
        antialias: in evaluation, resize and crop as torchvision and timm do with Pillow; False: as
            MindCV does with MindSpore. With bilinear and bicubic.
        decoder: of training images, mindspore or pillow. Pillow's is safe from files whose damage
            ends the process inside MindSpore; the crops are the same, but for pixels at their edge
            where colours are stored coarser. Evaluation decodes with Pillow always.

    Raises:
        ConfigError: image_resize is no size of a square; mean or std are on the scale 0-1.
        ValueError: an unknown interpolation, policy, crop_mode, re_value or decoder; antialias with
            another interpolation; separate without anything that makes the splits differ;
            augment_on_device with what only the host does.
    """
    image_resize = _side(image_resize)
    if interpolation not in (*INTERPOLATIONS, RANDOM):
        raise ValueError(_unknown_interpolation(interpolation))
    if re_value not in (0, "random"):
        raise ValueError(f"re_value {re_value!r} is unknown; expected 0 or random")
    if decoder not in _DECODERS:
        raise ValueError(f"decoder {decoder!r} is unknown; expected {', '.join(_DECODERS)}")
    mean, std = channel_statistics(dataset_name, mean, std)
    is_decoded = dataset_name.startswith("cifar")
    if not is_training:
        preprocessing = Preprocessing(
            image_size=image_resize,
            crop_pct=crop_pct,
            interpolation=evaluation_interpolation(interpolation),
            mean=mean,
            std=std,
            crop_mode=crop_mode,
            antialias=antialias,
        )
        return evaluation_transforms(
            preprocessing, is_decoded=is_decoded, normalize_on_device=normalize_on_device
        )
    final = [] if normalize_on_device else _normalized_planes(mean, std)
    erasing = None
    if re_prob > 0.0:
        # The fill is meant in normalised units: on the 0-255 scale 0 is the mean colour.
        units = (mean, std) if normalize_on_device else ((0.0,) * 3, (1.0,) * 3)
        erasing = RandomErasing(re_prob, re_scale, re_ratio, re_value, re_max_attempts, *units)
    jitter = None
    if color_jitter and (not auto_augment or auto_augment.startswith("3a")):
        jitter = _jitter_ranges(color_jitter)
    if augment_on_device:
        if separate or lighting or not normalize_on_device or _needs_host(jitter, erasing):
            raise ValueError(
                "augment_on_device needs normalize_on_device, and knows no separate, lighting, hue "
                "and re_value random"
            )
        final = [DeviceAugment(image_resize, hflip, vflip, jitter, erasing)]
        hflip, vflip, jitter, erasing = 0.0, 0.0, None, None
    if erasing:
        final.append(erasing)
    by_pillow = decoder == "pillow"
    primary = _random_crop(image_resize, scale, ratio, interpolation, is_decoded, by_pillow)
    flips = _flips(hflip, vflip)
    compiled = None
    # The splits of an image need draws of their own, as Python operations have.
    if auto_augment and not separate:
        compiled = compile_policy(auto_augment, mean, image_resize, flips)
    primary += [compiled] if compiled else _flip(flips)
    secondary = []
    if auto_augment and not compiled:
        secondary.append(create_auto_augment(auto_augment, mean))
    if jitter:
        secondary.append((ColorJitter if separate else vision.RandomColorAdjust)(*jitter))
    if lighting > 0.0:
        secondary.append(Lighting(lighting))
    if not separate:
        return primary + secondary + final
    if not secondary:
        raise ValueError("separate needs auto_augment, color_jitter or lighting: nothing differs")
    return primary, secondary, final


def _side(size: int | Sequence[int]) -> int:
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or sides[0] != sides[1] or sides[0] < 1:
        raise ConfigError(
            f"image_resize {size}: expected one side, or two equal ones, of 1 or more"
        )
    return sides[0]


def _unknown_interpolation(name: str) -> str:
    known = ", ".join((*INTERPOLATIONS, RANDOM))
    return f"interpolation {name!r} is unknown; expected {known}"


def _inter(interpolation: str) -> vision.Inter:
    return getattr(vision.Inter, INTERPOLATIONS[interpolation].mindspore)


def _normalized_planes(mean: Sequence[float], std: Sequence[float]) -> list:
    return [vision.Normalize(list(mean), list(std)), vision.HWC2CHW()]


def _random_crop(size, scale, ratio, interpolation, is_decoded, by_pillow) -> list:
    def resize(resample):
        if is_decoded:
            return vision.Resize((size, size), resample)
        crop = vision.RandomResizedCrop if by_pillow else vision.RandomCropDecodeResize
        return crop(size, tuple(scale), tuple(ratio), resample)

    if interpolation == RANDOM:
        choices = [resize(_inter(name)) for name in ("bilinear", "bicubic")]
        operation = transforms.RandomChoice(choices)
    else:
        operation = resize(_inter(interpolation))
    if is_decoded:
        return [vision.RandomCrop(32, 4), operation]
    return [PillowDecode(), operation] if by_pillow else [operation]


def _flips(hflip: float, vflip: float) -> list[tuple]:
    both = [(vision.HorizontalFlip(), hflip), (vision.VerticalFlip(), vflip)]
    return [(flip, prob) for flip, prob in both if prob > 0.0]


def _flip(flips: list[tuple]) -> list:
    # As two operations they would flip together or not at all: each of MindSpore's random
    # operations starts from the same seed. Here one generator draws for both.
    return [vision.RandomSelectSubpolicy([flips])] if flips else []


def _jitter_ranges(strength) -> tuple:
    if isinstance(strength, (int, float)):
        strength = (strength,) * 3
    return tuple(float(value) for value in strength)


def _needs_host(jitter: tuple | None, erasing: RandomErasing | None) -> bool:
    has_hue = jitter is not None and len(jitter) == 4 and jitter[3] > 0.0
    return has_hue or (erasing is not None and erasing.random_fill)
