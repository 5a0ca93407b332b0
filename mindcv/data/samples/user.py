"""A user's own dataset, known by a name."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ...errors import ConfigError, DataError
from ..images.image_check import as_bmp
from .protocol import DATASETS, ImageError, Samples

_logger = logging.getLogger(__name__)

_factories: dict[str, Callable[..., Any]] = {}


def register_dataset(name: str, factory: Callable[..., Any]) -> None:
    """Make a dataset of one's own known to `create_dataset` and to the option dataset.

    Args:
        name: what `create_dataset` and --dataset take.
        factory: called as factory(root, split, **kwargs); returns `Samples`, or any object with
            __len__ and __getitem__(index) -> (image, label). An image is uint8 pixels (H, W, 3) or
            (H, W), a PIL image, or the bytes of an image file; it may be asked for from any thread.
            If the object has `labels` or `targets`, one a sample, they are taken, else each sample
            is read once for its label. `class_names`, or `classes`, are the names in order of the
            labels; `num_classes` their number.

    Raises:
        ConfigError: the name belongs to another dataset.
    """
    is_taken = name in DATASETS or _factories.get(name, factory) is not factory
    if not name or is_taken or name.startswith("cifar"):  # the transforms know CIFAR by its name
        raise ConfigError(f"dataset name {name!r} is taken or empty; register it under another one")
    _factories[name] = factory


def registered_datasets() -> tuple[str, ...]:
    """Return the names that were registered, in order."""
    return tuple(_factories)


def open_registered(
    name: str, root: str, split: str, class_indexing: Mapping[str, int] | None, **kwargs
) -> Samples:
    """Return the samples of a registered dataset.

    Raises:
        DataError: it has no sample, or labels that are no class numbers.
    """
    found = _factories[name](root, split, **kwargs)
    if all(hasattr(found, part) for part in ("read", "labels", "fingerprint", "encoded")):
        if not found.encoded:
            raise DataError(f"dataset {name}: its samples must be encoded, as the files of images")
        return found
    return UserSamples(name, split, found, class_indexing)


class UserSamples:
    """`Samples` from an object with __len__ and __getitem__; see `register_dataset`.

    Pixels are handed on as BMP files: the transforms decode them like any other image.

    Raises:
        DataError: see `open_registered`.
    """

    encoded = True

    def __init__(
        self, name: str, split: str, items: Any, class_indexing: Mapping[str, int] | None = None
    ):
        self._place, self._items = f"{name} {split}", items
        if not len(items):
            raise DataError(f"dataset {self._place} holds no sample")
        self.labels = self._read_labels()
        names = getattr(items, "class_names", None) or getattr(items, "classes", None)
        self.class_names = tuple(map(str, names)) if names is not None else None
        if class_indexing and self.class_names:
            self._number_by(class_indexing)
        least = int(self.labels.max()) + 1
        self.num_classes = len(self.class_names or ()) or getattr(items, "num_classes", least)
        if self.labels.min() < 0 or least > self.num_classes:
            raise DataError(
                f"dataset {self._place}: labels {self.labels.min()} to {self.labels.max()}; "
                f"expected 0 to {self.num_classes - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        try:
            image = self._items[index][0]
        except (OSError, ValueError) as error:
            raise ImageError(str(error) or type(error).__name__) from None
        if isinstance(image, (bytes, bytearray, memoryview)):
            return np.frombuffer(image, np.uint8)
        if isinstance(image, np.ndarray) and image.ndim == 1 and image.dtype == np.uint8:
            return image
        return _as_bmp(image)

    def name(self, index: int) -> str:
        return f"{self._place}, sample {index}"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.labels.astype("<i4"))
        digest.update("\0".join((self._place, *(self.class_names or ()))).encode())
        return digest.hexdigest()

    def _read_labels(self) -> np.ndarray:
        labels = getattr(self._items, "labels", None)
        if labels is None:
            labels = getattr(self._items, "targets", None)
        if labels is None:
            _logger.info("reading the labels of %d samples of %s", len(self._items), self._place)
            labels = [self._items[index][1] for index in range(len(self._items))]
        labels = np.asarray(labels)
        if labels.shape != (len(self._items),) or labels.dtype.kind not in "iu":
            raise DataError(
                f"dataset {self._place}: labels {labels.dtype} of shape {labels.shape}; expected "
                f"whole numbers, one for each of {len(self._items)} samples"
            )
        return labels.astype(np.int32)

    def _number_by(self, class_indexing: Mapping[str, int]) -> None:
        """Number the classes as another split does."""
        unknown = [name for name in self.class_names if name not in class_indexing]
        if unknown:
            raise DataError(
                f"dataset {self._place} holds classes that are not in the training set: "
                f"{', '.join(unknown[:5])}"
            )
        table = np.array([class_indexing[name] for name in self.class_names], np.int32)
        self.labels = table[self.labels]
        self.class_names = tuple(sorted(class_indexing, key=class_indexing.get))


def _as_bmp(image: Any) -> np.ndarray:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ImageError(f"pixels {image.dtype} of shape {image.shape}, not uint8 (H, W, 3)")
        image = Image.fromarray(image.squeeze(-1) if image.shape[-1:] == (1,) else image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"{type(image).__name__} is no image")
    return as_bmp(image.convert("RGB"))
