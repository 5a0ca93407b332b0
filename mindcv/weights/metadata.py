"""What travels with weights: which model they are of, its classes and how its images were prepared.

In a MindSpore checkpoint the metadata is one more entry, JSON text as a uint8 tensor: every version
of MindSpore reads it, and a program that knows nothing of it leaves it aside.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..errors import WeightsError

ENTRY = "mindcv.metadata"  # name of the entry in a checkpoint


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
            found = json.loads(text)
            found["preprocessing"] = _build(Preprocessing, found["preprocessing"])
            return _build(cls, found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"weight file {place!r}: its entry {ENTRY} cannot be read: {error}"
            ) from None

    def to_array(self) -> np.ndarray:
        """Return the metadata as the uint8 vector that a checkpoint holds."""
        return np.frombuffer(self.to_json().encode(), np.uint8)

    @classmethod
    def from_array(cls, array: np.ndarray, place: str) -> "Metadata":
        """Read what `to_array` gave; see `from_json`."""
        try:
            text = np.asarray(array, np.uint8).tobytes().decode()
        except ValueError as error:
            raise WeightsError(
                f"weight file {place!r}: its entry {ENTRY} cannot be read: {error}"
            ) from None
        return cls.from_json(text, place)


def _build(kind: type, found: Mapping[str, Any]):
    """Build the dataclass from the keys it knows; lists become tuples again."""
    known = {entry.name for entry in fields(kind)}
    values = {key: value for key, value in found.items() if key in known}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
