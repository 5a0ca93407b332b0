"""What every dataset is made of: numbered images with labels."""

from typing import Protocol

import numpy as np

from ...errors import DataError

# The layouts that the library reads itself; users register more.
DATASETS = ("imagenet", "csv", "json", "cifar10", "cifar100", "mnist", "mnist_demo", "mindrecord")


class ImageError(DataError):
    """One image that cannot be read or decoded; the message is the reason, without the name."""


class Samples(Protocol):
    """Images 0 … n-1 with their labels, in an order that never changes.

    Reading is random access from any thread; which image is read when is not decided here.

    Attributes:
        labels: (n,) int32.
        class_names: in the order of the labels; None where the files hold no names.
        num_classes: classes of the labels.
        encoded: `read` gives the bytes of an image file; else pixels.

    One that has `in_memory = True` is read without threads and a limit of time.
    """

    labels: np.ndarray
    class_names: tuple[str, ...] | None
    num_classes: int
    encoded: bool

    def __len__(self) -> int: ...

    def read(self, index: int) -> np.ndarray:
        """Return uint8: (bytes,) of an image file as it is, or pixels (H, W, 3).

        Raises:
            ImageError: this image cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """Return what a user finds this image by: its path, or file and row."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of names and labels: another one means that the dataset was changed."""
        ...
