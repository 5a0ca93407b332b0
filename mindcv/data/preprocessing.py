"""How evaluation turns an image into the network's input: one value that all commands share.

Nothing here imports MindSpore.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from typing import Any

from ..errors import ConfigError
from ..process.json_objects import fields_of
from .datasets import DATASETS, IMAGENET_MEAN, IMAGENET_STD, DatasetRow, dataset_row

_logger = logging.getLogger(__name__)

_LARGEST_IMAGE = 2**14  # pixels of the resized side


@dataclass(frozen=True)
class Interpolation:
    name: str
    mindspore: str  # member of vision.Inter that samples without antialiasing (area averages)
    # What resizes as Pillow does: another member of vision.Inter if MindSpore has Pillow's filter
    # bit for bit, or Pillow itself; empty if it cannot be antialiased.
    antialiased: str = ""
    remark: str = ""  # why it cannot


INTERPOLATIONS = {
    row.name: row
    for row in (
        Interpolation("nearest", "NEAREST", remark="takes single pixels"),
        # MindSpore's bilinear filter uses 2 x 2 pixels at any scale.
        Interpolation("bilinear", "BILINEAR", antialiased="Pillow"),
        Interpolation("bicubic", "BICUBIC", antialiased="PILCUBIC"),
        Interpolation("area", "AREA", remark="averages already"),
    )
}
# MindCV's names.
DEFAULT_CROP_PCT = 0.875
IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD = list(IMAGENET_MEAN), list(IMAGENET_STD)

LARGEST_CROP = 2.0  # crop_pct; MindCV's and timm's volo_d4 has 1.15
RANDOM = "random"  # in training bilinear or bicubic, image by image; in evaluation bilinear
CROP_MODES = ("center", "squash")


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input in evaluation.

    Attributes:
        image_size: side of the input, pixels; or (height, width).
        crop_pct: fraction of the resized shorter side that the centre crop keeps; above 1 the crop
            has a black border.
        mean, std: channel statistics, 0-255 scale.
        crop_mode: center keeps the aspect; squash resizes to a square.
        antialias: resize and crop as torchvision and timm do with Pillow; False: as MindCV does
            with MindSpore, and as OpenCV does.
    """

    image_size: int | tuple[int, int] = 224
    crop_pct: float = DEFAULT_CROP_PCT
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_mode: str = "center"
    antialias: bool = False

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        size = self.image_size
        return size if isinstance(size, tuple) else (size, size)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self).items()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Preprocessing":
        """Read the result of `to_dict`; missing fields, as in older files, take their defaults.

        Raises:
            TypeError, ValueError: a value of another type, or out of range.
        """
        used = cls(**fields_of(cls, found))
        largest = min(used.crop_pct, 1.0) * _LARGEST_IMAGE
        in_range = 0 < used.crop_pct <= LARGEST_CROP and len(used.sides) == 2
        if not (in_range and all(1 <= side <= largest for side in used.sides)):
            raise ValueError(f"image_size {used.image_size} with crop_pct {used.crop_pct}")
        if not used.mean or len(used.mean) != len(used.std) or min(used.std) <= 0:
            raise ValueError(f"mean of {len(used.mean)} channels, std of {len(used.std)}, above 0")
        return used

    def to_options(self) -> dict[str, Any]:
        """Return the command options that produce this preprocessing."""
        return {_OPTIONS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_options(cls, options: Any) -> "Preprocessing":
        """Read the attributes of a `Config`; mean and std default to those of its dataset."""
        names = [entry.name for entry in fields(cls)]
        values = {name: getattr(options, _OPTIONS.get(name, name)) for name in names}
        values["mean"], values["std"] = channel_statistics(
            options.dataset, options.mean, options.std, channels=options.in_channels
        )
        values["interpolation"] = evaluation_interpolation(options.interpolation)
        return cls(**values)


_OPTIONS = {"image_size": "image_resize"}  # the field whose option has another name


def evaluation_interpolation(interpolation: str) -> str:
    """Return the interpolation of evaluation, where random means bilinear."""
    return "bilinear" if interpolation == RANDOM else interpolation


def channel_statistics(
    dataset_name: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: int | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std): the given ones, else those of the dataset or, if it is unknown, ImageNet.

    Args:
        channels: of the network's input; the values of a grey dataset then serve each channel, and
            equal ones become a single one. None: those of the images.

    Raises:
        ConfigError: the given values are on the 0-1 scale.
    """
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and (problem := scale_problem(key, values)):
            raise ConfigError(f"{key}: {problem}")
    row = dataset_row(dataset_name) or DATASETS["imagenet"]
    mean, std = (row.mean if mean is None else mean), (row.std if std is None else std)
    return _of_channels(mean, channels), _of_channels(std, channels)


def image_statistics(
    dataset_name: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    on_host: bool,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return `channel_statistics` with one value for each channel of the images, not of the input.

    MindCV's scripts pass ImageNet's statistics for every dataset, and it ignores them where the
    images are small. So do these; a warning says it if they would be used, `on_host`.
    """
    row = dataset_row(dataset_name)
    mean, std = channel_statistics(dataset_name, mean, std)
    own, why = (row.mean, row.std) if row else (mean, std), ""
    if row and row.is_decoded and len(row.mean) == 1:
        mean, std = (_of_channels(values, 1) for values in (mean, std))
        if len(mean) + len(std) > 2:
            why = "mean and std have three values and its images one channel; its own are used"
    elif on_host and _are_mistaken(row, mean, std):
        why = "mean and std are ImageNet's; the set's own are used, as in MindCV"
    else:  # a single one is that of the network's input, which `Normalize` makes grey
        mean, std = (values * 3 if len(values) == 1 else values for values in (mean, std))
    if why and on_host:
        _logger.warning("%s: %s", row.name, why)
    return own if why else (mean, std)


def warn_of_imagenets(
    dataset_name: str, mean: Sequence[float] | None, std: Sequence[float] | None
) -> None:
    """Warn where ImageNet's statistics, given to a command, are used for images of another set."""
    if mean and std and _are_mistaken(row := dataset_row(dataset_name), mean, std):
        _logger.warning(
            "%s: mean and std are ImageNet's, as given or as the weights were trained; MindCV "
            "always takes CIFAR's: leave them out to evaluate or continue its weights",
            row.name,
        )


def _are_mistaken(row: DatasetRow | None, mean: Sequence[float], std: Sequence[float]) -> bool:
    """Return whether statistics are ImageNet's, but for rounding, and the images those of CIFAR."""
    if row is None or not row.is_decoded or len(row.mean) == 1:
        return False
    pairs = (*zip_longest(mean, IMAGENET_MEAN), *zip_longest(std, IMAGENET_STD))
    return all(None not in pair and math.isclose(*pair, rel_tol=1e-4) for pair in pairs)


def _of_channels(values: Sequence[float], channels: int | None) -> tuple[float, ...]:
    fits = channels in (None, len(values)) or len(set(values)) > 1
    return tuple(values) if fits else (values[0],) * channels


def scale_problem(key: str, values: Sequence[float]) -> str | None:
    """Return a message if a mean or std is on the 0-1 scale; None if it is on 0-255.

    A mean of 0 fits both scales, and so does a std of 1, which leaves pixels unchanged.
    """
    largest = max(values)
    if 0 < largest < 1 or (key == "mean" and largest == 1):
        return (
            f"{list(values)} looks like the scale 0-1; pixels are 0-255 here: multiply mean and "
            "std by 255"
        )
    return None
