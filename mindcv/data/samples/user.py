"""A user's own dataset, registered under a name."""

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...errors import DataError, MindCVError
from ...process.files import sha256_of
from ..image_files import as_file
from .protocol import ImageError, Samples, renumber
from .subset import View

_MOST_CLASSES = 2**31  # labels are int32

_logger = logging.getLogger(__name__)


def open_registered(
    name: str,
    factory: Callable[..., Any],
    /,
    root: str,
    split: str,
    class_indexing: Mapping[str, int] | None,
    **kwargs,
) -> Samples:
    """Return the samples of a registered dataset; see `register_dataset`.

    It raises a DataError if the factory fails or returns something else, there is no sample, labels
    are not class numbers, class names repeat, or one is not in class_indexing.
    """
    place = f"dataset {name}"
    with _failures_named(f"{place}: its factory, called as factory({root!r}, {split!r}),"):
        found = factory(root, split, **kwargs)
    if not (_is_samples(found) or {"__len__", "__getitem__"} <= set(dir(found))):
        raise DataError(
            f"{place}: its factory returned {type(found).__name__}; expected an object "
            "with __len__ and __getitem__, see register_dataset"
        )
    with _failures_named(f"{place} {split}"):
        if not _is_samples(found):
            samples = UserSamples(f"{name} {split}", found)
        elif found.encoded:
            samples = View(found) if class_indexing and found.class_names else found
        else:
            raise DataError(f"{place}: its samples must be encoded image files (encoded = True)")
        renumber(samples, class_indexing, f"{place} {split}")
    return samples


def _is_samples(found: Any) -> bool:
    return all(hasattr(found, part) for part in ("read", "labels", "fingerprint", "encoded"))


@contextmanager
def _failures_named(place: str) -> Iterator[None]:
    """Turn an error of the user's code into a DataError that names the failing line."""
    try:
        yield
    except MindCVError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = f" ({last.filename}:{last.lineno})" if last.filename != __file__ else ""
        raise DataError(f"{place} raised {type(error).__name__}: {error}{line}") from error


class UserSamples:
    """`Samples` from an object with __len__ and __getitem__.

    Pixels become BMP files, so that the transforms decode them like any other image.
    """

    encoded = True

    def __init__(self, place: str, items: Any):
        self._place, self._items = place, items
        if not len(items):
            raise DataError(f"dataset {place} holds no sample")
        labels = self._read_labels()
        self.class_names = self._class_names()
        least, largest = int(labels.min()), int(labels.max())
        self.num_classes = len(self.class_names or ()) or self._num_classes(largest + 1)
        most = min(self.num_classes, _MOST_CLASSES)
        if least < 0 or largest >= most:
            raise DataError(
                f"dataset {place}: labels {least} to {largest}; expected 0 to {most - 1}"
            )
        self.labels = labels.astype(np.int32)

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
        return as_file(image)

    def name(self, index: int) -> str:
        return f"{self._place}, sample {index}"

    def fingerprint(self) -> str:
        names = "\0".join((self._place, *(self.class_names or ())))
        return sha256_of(self.labels.astype("<i4"), names.encode())

    def _read_labels(self) -> np.ndarray:
        labels = _attribute(self._items, "labels", "targets")
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
                f"{self.name(index)}: its label cannot be read: {error}; if the dataset "
                "has `labels`, one per sample, such a sample only counts as a bad image"
            ) from None

    def _class_names(self) -> tuple[str, ...] | None:
        value = _attribute(self._items, "class_names", "classes")
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise DataError(
                f"dataset {self._place}: class_names {value!r:.40}; expected a list of names"
            )
        names = tuple(map(str, value))
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise DataError(
                f"dataset {self._place}: class_names repeat "
                f"{', '.join(map(repr, repeated[:5]))}; name each class once"
            )
        return names or None

    def _num_classes(self, least: int) -> int:
        value = _attribute(self._items, "num_classes")
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise DataError(
                f"dataset {self._place}: num_classes {value!r:.40}; expected a whole number"
            )
        return int(value)


def _attribute(items: Any, *attributes: str) -> Any:
    found = (getattr(items, attribute, None) for attribute in attributes)
    value = next((value for value in found if value is not None), None)
    return value() if callable(value) else value
