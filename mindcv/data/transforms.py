"""Image transforms: on the host, on whole batches and on the device."""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from numbers import Integral
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.dataset import transforms, vision

from ..errors import ConfigError
from ..names import canonical
from ..process import environment  # noqa: F401
from .augment.auto_augment import compile_policy, create_auto_augment
from .augment.batch_operations import AugmentBatch, DeviceAugment
from .augment.pixel_operations import (
    ColorJitter,
    FiveCrops,
    Lighting,
    PillowBilinear,
    RandomErasing,
    RoundedCenterCrop,
)
from .datasets import known_row
from .image_files import PillowDecode
from .preprocessing import (
    CROP_MODES,
    INTERPOLATIONS,
    RANDOM,
    Preprocessing,
    channel_statistics,
    evaluation_interpolation,
    image_statistics,
)

_DECODERS = ("mindspore", "pillow")

_logger = logging.getLogger(__name__)


class Transforms(list):
    """The operations from a dataset's image to the network's input, and where each of them runs.

    As a list it holds the host's operations on one image, in order; with `separate`, for
    augmentation splits, the three lists clean, varied and final.

    Args:
        clean: crop and flips, which give the image its training size.
        varied: policy, colour jitter and lighting.
        final: conversion to normalised planes.
        decode: Pillow's decoder; `create_loader` runs it in the threads that read the files.
        erasing: the last operation of the list; `create_loader` applies it to whole batches.
        on_device: operations of the cell from `create_normalize`; the last of the list.
    """

    def __init__(
        self,
        clean: Sequence,
        varied: Sequence = (),
        final: Sequence = (),
        *,
        decode: PillowDecode | None = None,
        erasing: RandomErasing | None = None,
        on_device: DeviceAugment | None = None,
        separate: bool = False,
    ):
        self.clean, self.varied, self.final = list(clean), list(varied), list(final)
        self.decode, self.erasing, self.on_device = decode, erasing, on_device
        self.separate = separate
        super().__init__(self._as_list())

    def _as_list(self) -> list:
        first = [self.decode, *self.clean] if self.decode else list(self.clean)
        last = [*self.final, *filter(None, (self.erasing, self.on_device))]
        lists = [first, list(self.varied), last]
        return lists if self.separate else [*first, *self.varied, *last]

    @classmethod
    def of(cls, operations: Any) -> "Transforms":
        """Wrap operations: a `Transforms`, or a user's single operation, list or three lists.

        If a script has changed the list of a `Transforms`, its operations run image by image as
        they are.
        """
        if isinstance(operations, cls) and operations == operations._as_list():
            return operations
        parts = list(operations) if isinstance(operations, (list, tuple)) else [operations]
        on_device = next((part for part in parts if isinstance(part, DeviceAugment)), None)
        parts = [part for part in parts if part is not on_device]
        if len(parts) == 3 and all(isinstance(part, list) for part in parts):
            return cls(*parts, separate=True)
        return cls(parts, on_device=on_device)


class Normalize(nn.Cell):
    """`(x - mean) / std` in the graph, so that the host transfers uint8, a quarter of the bytes.

    It also turns the decoded pixels into planes: the input is (N, H, W, C) of any type, the output
    (N, C, H, W) float32 with a channel for each mean: colour images become grey where there is one
    mean, and grey ones get equal channels where there are three.

    Args:
        mean, std: one value per channel, 0-255 scale.
        augment: applied first, to batches that come with draws; None: no batch does.

    Raises:
        ConfigError: mean or std are on the 0-1 scale.
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
        # Transposed while still bytes: a quarter of the memory to move.
        planes = ops.permute(x, (0, 3, 1, 2))
        if draws is not None:
            planes = self.augment(planes, draws)
        planes = ops.cast(planes, ms.float32)
        if planes.shape[1] == 3 and self.mean.shape[1] == 1:  # ITU-R 601, as Pillow's mode L
            planes = 0.299 * planes[:, :1] + 0.587 * planes[:, 1:2] + 0.114 * planes[:, 2:]
        return (planes - self.mean) / self.std


def create_normalize(
    dataset_name: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Sequence | None = None,
    channels: int | None = None,
) -> Normalize:
    """Return the `Normalize` cell for a network fed by `normalize_on_device` transforms.

    Args:
        dataset_name: a name of `create_dataset`, which gives the default statistics.
        mean, std: see `Normalize`.
        transform: the training result of `create_transforms`; the cell applies the operations that
            `augment_on_device` leaves to the device, to batches with draws.
        channels: see `channel_statistics`.

    Raises:
        ConfigError: no dataset has the name; mean or std are on the 0-1 scale.
    """
    known_row(dataset_name)
    on_device = Transforms.of(transform).on_device if transform else None
    return Normalize(*channel_statistics(dataset_name, mean, std, channels), on_device)


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
    re_value: float | Sequence[float] | str = 0,
    re_max_attempts: int = 10,
    crop_pct: float = 0.875,
    crop_mode: str = "center",
    lighting: float = 0.0,
    augment_on_device: bool = False,
    antialias: bool = False,
    decoder: str = "mindspore",
) -> Transforms:
    """Return the operations from a dataset's image to the network's input, as a list.

    Training: random crop, decode and resize in one; flips; the policy or colour jitter; lighting;
    erasing. RandAugment and TrivialAugment are MindSpore operations, the other policies Python's.
    Evaluation: resize to image_resize / crop_pct, then centre crop. CIFAR images are already
    decoded; training pads them by 4 pixels and crops. The grey images of MNIST are only resized,
    also in training: digits are neither flipped nor jittered. MindSpore's training crop and its
    bilinear and bicubic filters do not antialias.

    Args:
        dataset_name: a name of `create_dataset`; one of your own, like none, means ImageNet's
            operations.
        image_resize: side of the result, pixels; or (height, width).
        auto_augment: a policy, see `parse_policy`; all but 3a replace the colour jitter.
        separate: in training, return three lists for the splits of `create_loader`: crop and flips,
            which make the clean image; policy, jitter and lighting; conversion and erasing.
        normalize_on_device: return uint8 (H, W, C) for a network that starts with `Normalize`,
            instead of normalised float32 (C, H, W).
        scale, ratio: area and aspect ranges of the random crop.
        hflip, vflip: probabilities.
        color_jitter: strength for brightness, contrast and saturation, or one each (and hue).
        interpolation: nearest, bilinear, bicubic, area, in any case; random: bilinear or bicubic at
            random in training, bilinear in evaluation.
        mean, std: channel statistics, 0-255 scale; None: the dataset's, which CIFAR also has in
            place of ImageNet's, except with normalize_on_device.
        re_prob, re_scale, re_ratio, re_value, re_max_attempts: see `RandomErasing`.
        crop_pct: fraction of the resized shorter side that the centre crop keeps.
        crop_mode: center keeps the aspect of the image; squash resizes it to a square first.
        lighting: standard deviation of the colour shift; see `Lighting`.
        augment_on_device: in training, leave flips, colour jitter and erasing to the cell of
            `create_normalize`, see `DeviceAugment`; needs normalize_on_device.
        antialias: in evaluation, resize and crop as torchvision and timm do with Pillow (bilinear
            and bicubic only); False: as MindCV does with MindSpore.
        decoder: of training images, mindspore or pillow. Pillow survives files whose damage kills
            the process inside MindSpore; its crops are the same except for pixels at the edge where
            colours are stored at lower resolution. Evaluation always decodes with Pillow.

    Raises:
        ConfigError: no dataset has the name; image_resize is no size; mean or std are on the 0-1
            scale; an operation for colour images where they are grey.
        ValueError: an unknown interpolation, policy, crop_mode, re_value or decoder; antialias with
            another interpolation; separate with nothing that makes the splits differ;
            augment_on_device with an operation that only the host can do.
    """
    sides = _sides(image_resize)
    is_square = sides[0] == sides[1]
    interpolation = _known("interpolation", interpolation, (*INTERPOLATIONS, RANDOM))
    crop_mode = _known("crop_mode", crop_mode, CROP_MODES)
    decoder = _known("decoder", decoder, _DECODERS)
    row = known_row(dataset_name)
    mean, std = image_statistics(dataset_name, mean, std, on_host=not normalize_on_device)
    is_decoded = row is not None and row.is_decoded
    is_grey = is_decoded and len(row.mean) == 1
    if not is_training:
        preprocessing = Preprocessing(
            image_size=sides,
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
    if is_grey:
        colour = dict(auto_augment=auto_augment, lighting=lighting, separate=separate)
        colour |= dict(augment_on_device=augment_on_device)
        if used := [name for name, value in colour.items() if value]:
            raise ConfigError(
                f"{', '.join(used)}: {row.name} has grey images; leave out what needs colour"
            )
        hflip, vflip, color_jitter = 0.0, 0.0, None
    erasing = jitter = on_device = None
    if re_prob > 0.0:
        # The fill is in normalised units; on the 0-255 scale, 0 means the mean colour.
        plain = (0.0,) * len(mean), (1.0,) * len(mean)
        fill_mean, fill_std = (mean, std) if normalize_on_device else plain
        erasing = RandomErasing(
            re_prob,
            re_scale,
            re_ratio,
            value=re_value,
            max_attempts=re_max_attempts,
            mean=fill_mean,
            std=fill_std,
        )
    if color_jitter and (not auto_augment or auto_augment.startswith("3a")):
        strengths = (color_jitter,) * 3 if isinstance(color_jitter, (int, float)) else color_jitter
        jitter = tuple(map(float, strengths))
    if augment_on_device:
        has_hue = jitter is not None and any(jitter[3:])
        needs_host = separate or lighting or has_hue or (erasing and erasing.random_fill)
        if needs_host or not normalize_on_device or not is_square:
            raise ValueError(
                "augment_on_device needs normalize_on_device and a square, and cannot be combined "
                "with separate, lighting, hue or re_value random"
            )
        on_device = DeviceAugment(
            sides[0], hflip=hflip, vflip=vflip, jitter=jitter, erasing=erasing
        )
        hflip, vflip, jitter, erasing = 0.0, 0.0, None, None
    decode = PillowDecode() if decoder == "pillow" and not is_decoded else None
    if is_decoded:
        resize = _resampled(interpolation, lambda filter: vision.Resize(sides, filter))
        clean = [resize] if is_grey else [vision.RandomCrop(32, 4), resize]
    else:
        crop = vision.RandomResizedCrop if decode else vision.RandomCropDecodeResize
        area = (sides, tuple(scale), tuple(ratio))
        clean = [_resampled(interpolation, lambda filter: crop(*area, filter))]
    both = ((vision.HorizontalFlip(), hflip), (vision.VerticalFlip(), vflip))
    flips = [(flip, prob) for flip, prob in both if prob > 0.0]
    compiled = None
    # The splits of an image need separate draws, as Python operations have.
    if auto_augment and not separate and is_square:
        compiled = compile_policy(auto_augment, mean, sides[0], flips)
    if compiled:
        clean.append(compiled)
    elif flips:
        # As two operations they would flip together or not at all, since each of MindSpore's random
        # operations starts from the same seed. Here one generator draws for both.
        clean.append(vision.RandomSelectSubpolicy([flips]))
    varied = []
    if auto_augment and not compiled:
        varied.append(create_auto_augment(auto_augment, mean))
    if jitter:
        varied.append((ColorJitter if separate else vision.RandomColorAdjust)(*jitter))
    if lighting > 0.0:
        varied.append(Lighting(lighting))
    if separate and not varied:
        raise ValueError("separate needs auto_augment, color_jitter or lighting: nothing differs")
    return Transforms(
        clean,
        varied,
        [] if normalize_on_device else _normalized_planes(mean, std),
        decode=decode,
        erasing=erasing,
        on_device=on_device,
        separate=separate,
    )


def evaluation_transforms(
    preprocessing: Preprocessing,
    *,
    is_decoded: bool = False,
    normalize_on_device: bool = True,
    five_crops: bool = False,
) -> Transforms:
    """Return the evaluation operations: resize to image_size / crop_pct, then centre crop.

    Sizes other than squares do not keep the aspect of the image, as in MindCV.

    Args:
        is_decoded: images come as pixels, as in CIFAR, and are only resized.
        five_crops: return the corners and the centre, (5, H, W, C), for test-time augmentation.

    Raises:
        ValueError: unknown interpolation or crop_mode; an interpolation without antialiasing.
        ConfigError: five crops of images that are not larger than a crop.
    """
    height, width = preprocessing.sides
    row = INTERPOLATIONS[_known("interpolation", preprocessing.interpolation, INTERPOLATIONS)]
    crop_mode = _known("crop_mode", preprocessing.crop_mode, CROP_MODES)
    if preprocessing.antialias and not row.antialiased:
        known = " and ".join(name for name, row in INTERPOLATIONS.items() if row.antialiased)
        raise ValueError(f"antialias goes with {known}; interpolation is {row.name!r}")
    filter = row.antialiased if preprocessing.antialias else row.mindspore

    def resize(target: int | tuple[int, int]):
        is_pillows = filter == "Pillow"
        return PillowBilinear(target) if is_pillows else vision.Resize(target, vision.Inter[filter])

    statistics = preprocessing.mean, preprocessing.std
    final = [] if normalize_on_device else _normalized_planes(*statistics)
    if five_crops and (is_decoded or preprocessing.crop_pct > 1):
        why = f"crop_pct is {preprocessing.crop_pct}" if not is_decoded else "they are only resized"
        raise ConfigError(
            f"tta: the corners of these images cannot be cropped, since {why}; tta flip can be used"
        )
    if is_decoded:
        return Transforms([resize((height, width))], final=final)
    target = tuple(math.floor(side / preprocessing.crop_pct) for side in (height, width))
    if crop_mode == "center" and height == width:
        target = target[0]
    crop = RoundedCenterCrop if preprocessing.antialias else vision.CenterCrop
    crop = crop((height, width))
    if five_crops:
        crop = FiveCrops((height, width), crop)
    return Transforms([resize(target), crop], final=final, decode=PillowDecode())


def _sides(size: int | Sequence[int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, (list, tuple, np.ndarray)) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ConfigError(f"image_resize {size}: expected one side, or height and width, from 1 on")
    return int(sides[0]), int(sides[1])


def _known(option: str, value: str, choices: Collection[str]) -> str:
    """Return the choice that a value names, in any case."""
    found = canonical(value, choices)
    if found not in choices:
        raise ValueError(f"{option} {value!r} is unknown; expected {', '.join(choices)}")
    return found


def _resampled(interpolation: str, resize: Callable[[vision.Inter], Any]):
    """Return the operation with a filter, or one that picks bilinear or bicubic at random."""
    names = ("bilinear", "bicubic") if interpolation == RANDOM else (interpolation,)
    choices = [resize(vision.Inter[INTERPOLATIONS[name].mindspore]) for name in names]
    return transforms.RandomChoice(choices) if len(choices) > 1 else choices[0]


def _normalized_planes(mean: Sequence[float], std: Sequence[float]) -> list:
    return [vision.Normalize(list(mean), list(std)), vision.HWC2CHW()]
