"""What every dataset provides: numbered images with labels."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ...errors import DataError


class ImageError(DataError):
    """An image that cannot be read or decoded; the message is the reason, without its name."""


class Samples(Protocol):
    """Images 0 … n-1 with their labels, in an order that never changes.

    Any thread may read any image at any time. A dataset with `in_memory = True` is read without
    threads and without a time limit.

    Attributes:
        labels: (n,) int32.
        class_names: in label order; None if the files hold no names.
        num_classes: classes of the labels.
        encoded: `read` returns the bytes of an image file, not pixels.
    """

    labels: np.ndarray
    class_names: tuple[str, ...] | None
    num_classes: int
    encoded: bool

    def __len__(self) -> int: ...

    def read(self, index: int) -> np.ndarray:
        """Return uint8: the (bytes,) of an image file, unchanged, or pixels (H, W, 3).

        Raises:
            ImageError: this image cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """Return what a user finds this image by: its path, or file and row."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of names and labels; a different one means that the dataset has changed."""
        ...


def renumber(samples: Samples, class_indexing: Mapping[str, int] | None, place: str) -> None:
    """Number the labels as another split does, by class name.

    Without class_indexing, class name to label, or without class names, the dataset keeps its
    numbers. A class without images here keeps its number from class_indexing. An image of any other
    class is a DataError, whose message says that it comes from `place`.
    """
    if not class_indexing or not samples.class_names:
        return
    counts = np.bincount(samples.labels, minlength=len(samples.class_names))
    present = (name for name, count in zip(samples.class_names, counts) if count)
    unknown = [name for name in present if name not in class_indexing]
    if unknown:
        raise DataError(
            f"{place} holds classes that are not in the training set: {', '.join(unknown[:5])}"
        )
    numbers = np.array([class_indexing.get(name, -1) for name in samples.class_names], np.int32)
    samples.labels = numbers[samples.labels]
    samples.class_names = names_in_order(class_indexing)
    samples.num_classes = max(class_indexing.values()) + 1


def names_in_order(class_indexing: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(class_indexing, key=class_indexing.get))
