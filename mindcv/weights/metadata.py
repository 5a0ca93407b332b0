"""Metadata stored with weights: model, classes and preprocessing.

A MindSpore checkpoint holds it as one more entry, JSON text in a uint8 tensor, which every version
of MindSpore reads and other programs ignore.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..data.preprocessing import Preprocessing, fields_of
from ..errors import WeightsError
from .guards import LARGEST_HEADER

ENTRY = "mindcv.metadata"  # name of the entry in a checkpoint


@dataclass(frozen=True)
class Metadata:
    """Description of a set of weights.

    Attributes:
        class_names: in the order of the logits; None: unknown.
        preprocessing: for evaluation.
        options: further keyword arguments of the model's builder that shape the network.
    """

    model: str
    num_classes: int = 1000
    in_channels: int = 3
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_array(self) -> np.ndarray:
        """Return the metadata as the uint8 vector that a checkpoint stores."""
        # json.dumps escapes to ASCII, since names of class folders may be any bytes.
        return np.frombuffer(json.dumps({"format": 1, **asdict(self)}).encode(), np.uint8)

    @classmethod
    def from_array(cls, array: np.ndarray, path: str) -> "Metadata":
        """Read what `to_array` returns; the WeightsError for invalid metadata names `path`."""
        try:
            if array.dtype != np.uint8 or array.ndim != 1:
                raise ValueError(f"{array.dtype} of {array.ndim} axes, expected a vector of uint8")
            if len(array) > LARGEST_HEADER:
                raise ValueError(f"{len(array)} characters are too many")
            found = json.loads(array.tobytes().decode())
            preprocessing = Preprocessing.from_dict(found.pop("preprocessing"))
            metadata = cls(**fields_of(cls, found), preprocessing=preprocessing)
            _check_ranges(metadata)
            return metadata
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise WeightsError(
                f"weight file {path!r}: its entry {ENTRY} cannot be read: {reason}"
            ) from None


def _check_ranges(metadata: Metadata) -> None:
    names = metadata.class_names
    if metadata.num_classes < 0 or metadata.in_channels < 1:
        raise ValueError(f"{metadata.num_classes} classes, {metadata.in_channels} channels")
    if names is not None and len(names) != metadata.num_classes:
        raise ValueError(f"{len(names)} class names for {metadata.num_classes} classes")
