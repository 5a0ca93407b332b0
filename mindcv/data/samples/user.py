"""A user's own dataset, known by a name."""

import hashlib
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from ...errors import ConfigError, DataError, MindCVError
from ..image_files import as_bmp
from .protocol import DATASETS, ImageError, Samples

_MOST_CLASSES = 2**31  # labels are int32

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
            labels; `num_classes` their number. Each may be an attribute or a method. Another split
            is numbered by the class names of the training split.

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
        DataError: the factory fails or returns something else, there is no sample, labels are no
            class numbers, class names repeat, or one is not in class_indexing.
    """
    found = _call_factory(name, root, split, **kwargs)
    place = f"dataset {name} {split}"
    with _failures_named(place):
        if not _is_samples(found):
            return UserSamples(name, split, found, class_indexing)
    if not found.encoded:
        raise DataError(f"dataset {name}: its samples must be encoded, as the files of images")
    names = found.class_names
    if not (class_indexing and names) or names == _in_order(class_indexing):
        return found
    return _Renumbered(place, found, class_indexing)


def _call_factory(name: str, root: str, split: str, **kwargs) -> Any:
    with _failures_named(f"dataset {name}: its factory, called as factory({root!r}, {split!r}),"):
        found = _factories[name](root, split, **kwargs)
    if not _is_samples(found) and not {"__len__", "__getitem__"} <= set(dir(found)):
        raise DataError(
            f"dataset {name}: its factory returned {type(found).__name__}; expected an object "
            "with __len__ and __getitem__, see register_dataset"
        )
    return found


def _is_samples(found: Any) -> bool:
    return all(hasattr(found, part) for part in ("read", "labels", "fingerprint", "encoded"))


@contextmanager
def _failures_named(place: str) -> Iterator[None]:
    """Turn what a user's own code raises into an error that tells its line.

    Raises:
        DataError: anything was raised inside.
    """
    try:
        yield
    except MindCVError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = f" ({last.filename}:{last.lineno})" if last.filename != __file__ else ""
        raise DataError(f"{place} raised {type(error).__name__}: {error}{line}") from error


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
        place = f"dataset {self._place}"
        labels = self._read_labels()
        self.class_names = _class_names(place, items)
        least, largest = int(labels.min()), int(labels.max())
        self.num_classes = len(self.class_names or ()) or _num_classes(place, items, largest + 1)
        most = min(self.num_classes, _MOST_CLASSES)
        if least < 0 or largest >= most:
            raise DataError(f"{place}: labels {least} to {largest}; expected 0 to {most - 1}")
        self.labels = labels.astype(np.int32)
        if class_indexing and self.class_names:
            self.labels = _renumber(place, self, class_indexing)
            self.class_names = _in_order(class_indexing)
            self.num_classes = len(self.class_names)

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
        labels = _told(self._items, "labels", "targets")
        if labels is None:
            _logger.info("reading the labels of %d samples of %s", len(self._items), self._place)
            labels = [self._read_label(index) for index in range(len(self._items))]
        labels = np.asarray(labels)
        if labels.shape != (len(self._items),) or labels.dtype.kind not in "iu":
            raise DataError(
                f"dataset {self._place}: labels {labels.dtype} of shape {labels.shape}; expected "
                f"whole numbers, one for each of {len(self._items)} samples"
            )
        return labels

    def _read_label(self, index: int) -> Any:
        try:
            return self._items[index][1]
        except OSError as error:
            raise DataError(
                f"{self.name(index)}: its label cannot be read: {error}; give the dataset labels, "
                "one a sample, and such a sample is but a bad image"
            ) from None


class _Renumbered:
    """Samples whose labels are numbered as another split's; all else is theirs."""

    def __init__(self, place: str, samples: Samples, class_indexing: Mapping[str, int]):
        self._samples = samples
        self.labels = _renumber(place, samples, class_indexing)
        self.class_names = _in_order(class_indexing)
        self.num_classes = len(self.class_names)

    def __len__(self) -> int:
        return len(self._samples)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._samples, name)


def _renumber(place: str, samples: Samples, class_indexing: Mapping[str, int]) -> np.ndarray:
    unknown = [name for name in samples.class_names if name not in class_indexing]
    if unknown:
        raise DataError(
            f"{place} holds classes that are not in the training set: {', '.join(unknown[:5])}"
        )
    table = np.array([class_indexing[name] for name in samples.class_names], np.int32)
    return table[samples.labels]


def _in_order(class_indexing: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(class_indexing, key=class_indexing.get))


def _class_names(place: str, items: Any) -> tuple[str, ...] | None:
    told = _told(items, "class_names", "classes")
    if told is None:
        return None
    if isinstance(told, str) or not isinstance(told, Iterable):
        raise DataError(f"{place}: class_names {told!r:.40}; expected a list of names")
    names = tuple(map(str, told))
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{place}: class_names repeat {', '.join(map(repr, repeated[:5]))}; name each class "
            "once"
        )
    return names or None


def _num_classes(place: str, items: Any, least: int) -> int:
    told = _told(items, "num_classes")
    if told is None:
        return least
    if isinstance(told, bool) or not isinstance(told, (int, np.integer)):
        raise DataError(f"{place}: num_classes {told!r:.40}; expected a whole number")
    return int(told)


def _told(items: Any, *attributes: str) -> Any:
    """Return the first of these attributes that there is, or what it returns if it is a method."""
    found = (getattr(items, attribute, None) for attribute in attributes)
    told = next((value for value in found if value is not None), None)
    return told() if callable(told) else told


def _as_bmp(image: Any) -> np.ndarray:
    if isinstance(image, np.ndarray):
        is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (1, 2, 3, 4))
        if image.dtype != np.uint8 or not is_picture or not image.size:
            raise ImageError(
                f"pixels {image.dtype} of shape {image.shape}, not uint8 (H, W, 3) from 0 to 255"
            )
        image = Image.fromarray(image.squeeze(-1) if image.shape[-1:] == (1,) else image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"{type(image).__name__} is no image")
    return as_bmp(image.convert("RGB"))
