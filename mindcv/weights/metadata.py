"""What travels with weights: which model they are of, its classes and how its images were prepared.

In a MindSpore checkpoint the metadata is one more entry, JSON text as a uint8 tensor: every version
of MindSpore reads it, and a program that knows nothing of it leaves it aside.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin

import numpy as np

from ..errors import WeightsError
from .guards import LARGEST_HEADER

ENTRY = "mindcv.metadata"  # name of the entry in a checkpoint
_LARGEST = 10**9
_LARGEST_IMAGE = 2**14  # pixels of the resized side


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input in evaluation.

    Attributes:
        image_size: side of the input, pixels.
        crop_pct: share of the resized shorter side that the centre crop keeps.
        interpolation: nearest, bilinear, bicubic or area.
        mean, std: channel statistics, 0-255 scale.
        crop_mode: center, or squash: resize to a square whatever the aspect.
        antialias: resized and cropped as torchvision and timm do with Pillow; False: as MindCV does
            with MindSpore, and OpenCV's users alike.
    """

    image_size: int = 224
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    crop_mode: str = "center"
    antialias: bool = False


@dataclass(frozen=True)
class Metadata:
    """The description of a set of weights.

    Attributes:
        model: a registered name.
        num_classes, in_channels: what the network was built with.
        class_names: one name a class, in the order of the logits; None: not known.
        preprocessing: of evaluation.
        options: further keyword arguments of the builder that shape the network.
    """

    model: str
    num_classes: int = 1000
    in_channels: int = 3
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        # In ASCII: names of class folders may be any bytes.
        return json.dumps({"format": 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str, place: str) -> "Metadata":
        """Read what `to_json` wrote.

        Args:
            place: the file, for the message.

        Raises:
            WeightsError: the text is not such metadata.
        """
        try:
            if len(text) > LARGEST_HEADER:
                raise ValueError(f"{len(text)} characters are too many")
            found = json.loads(text)
            found["preprocessing"] = _build(Preprocessing, found["preprocessing"])
            metadata = _build(cls, found)
            _check_ranges(metadata)
            return metadata
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise WeightsError(
                f"weight file {place!r}: its entry {ENTRY} cannot be read: {reason}"
            ) from None

    def to_array(self) -> np.ndarray:
        """Return the metadata as the uint8 vector that a checkpoint holds."""
        return np.frombuffer(self.to_json().encode(), np.uint8)

    @classmethod
    def from_array(cls, array: np.ndarray, place: str) -> "Metadata":
        """Read what `to_array` gave; see `from_json`."""
        try:
            if array.dtype != np.uint8 or array.ndim != 1:
                raise ValueError(f"{array.dtype} of {array.ndim} axes, expected a vector of uint8")
            text = array.tobytes().decode()
        except ValueError as error:
            raise WeightsError(
                f"weight file {place!r}: its entry {ENTRY} cannot be read: {error}"
            ) from None
        return cls.from_json(text, place)


def _build(kind: type, found: Mapping[str, Any]):
    """Build the dataclass from the keys it knows; lists become tuples again.

    Raises:
        TypeError: a value is not of the field's type, or one is missing.
    """
    values = {}
    for entry in fields(kind):
        if entry.name in found:
            value = found[entry.name]
            if not _fits(value, entry.type):
                raise TypeError(f"{entry.name} is of another type than {entry.type}")
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a JSON value is of a field's type; numbers are of a size that can be meant."""
    kinds = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, each) for each in kinds)
    if get_origin(kind) is tuple:
        return type(value) is list and all(_fits(item, kinds[0]) for item in value)
    if get_origin(kind) is Mapping:
        return type(value) is dict
    if kind is float:
        return type(value) in (int, float) and abs(value) < _LARGEST
    return type(value) is kind and (kind is not int or abs(value) < _LARGEST)


def _check_ranges(metadata: Metadata) -> None:
    """Raise a ValueError where a file tells what no network or preprocessing can have."""
    used, names = metadata.preprocessing, metadata.class_names
    if metadata.num_classes < 0 or metadata.in_channels < 1:
        raise ValueError(f"{metadata.num_classes} classes, {metadata.in_channels} channels")
    if names is not None and len(names) != metadata.num_classes:
        raise ValueError(f"{len(names)} class names for {metadata.num_classes} classes")
    if not (0 < used.crop_pct <= 1 and 1 <= used.image_size <= used.crop_pct * _LARGEST_IMAGE):
        raise ValueError(f"image_size {used.image_size} with crop_pct {used.crop_pct}")
    if not used.mean or len(used.mean) != len(used.std) or min(used.std) <= 0:
        raise ValueError(f"mean of {len(used.mean)} channels, std of {len(used.std)}, above 0")
