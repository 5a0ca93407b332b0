"""What every dataset provides: numbered images with labels; and what a run records of them."""

import hashlib
import json
import numbers
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import DataError, MindCVError
from ...process.files import replacing

_MOST_FILES = 65_536  # whose state is read; a network disk answers a few thousand per second
_THREADS = 16


class ImageError(DataError):
    """An image that cannot be read or decoded; the message is the reason, without its name."""


class Samples(Protocol):
    """Images 0 … n-1 with their labels, in an order that never changes.

    Any thread may read any image at any time. A dataset with `in_memory = True` is read without
    threads and without a time limit.

    Attributes:
        labels: (n,) int32; (n, num_classes) uint8, 1 or 0, where an image may show several.
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


def read_image(samples: Samples, index: int) -> np.ndarray:
    """Return `samples.read(index)`; whatever else a user's own dataset raises is a DataError."""
    try:
        return samples.read(index)
    except MindCVError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{samples.name(index)}: reading it raised {type(error).__name__}: {error}"
        ) from error


def renumber(samples: Samples, class_indexing: Mapping[str, int] | None, place: str) -> None:
    """Number the labels as another split does, by class name.

    Without class_indexing, class name to label, or without class names, the dataset keeps its
    numbers. A class without images here keeps its number from class_indexing. An image of any other
    class is a DataError, whose message says that it comes from `place`; so is a label that is no
    whole number from 0 on.
    """
    if not class_indexing or not samples.class_names:
        return
    for name, label in class_indexing.items():
        if not isinstance(label, numbers.Integral) or label < 0:
            raise DataError(f"class_indexing: label {label!r} of {name!r}; expected 0, 1, …")
    counts = np.bincount(samples.labels, minlength=len(samples.class_names))
    present = (name for name, count in zip(samples.class_names, counts) if count)
    unknown = [name for name in present if name not in class_indexing]
    if unknown:
        raise DataError(
            f"{place} holds classes that are not in the training set: {', '.join(unknown[:5])}"
        )
    new = np.array([class_indexing.get(name, -1) for name in samples.class_names], np.int32)
    samples.labels = new[samples.labels]
    samples.class_names = names_in_order(class_indexing)
    samples.class_indexing = {name: int(label) for name, label in class_indexing.items()}
    samples.num_classes = len(samples.class_names)


def classes_of(label: np.ndarray) -> list[int]:
    """Return the classes that an image shows; `label` is its entry of `Samples.labels`."""
    return np.flatnonzero(label).tolist() if label.ndim else [int(label)]


def count_images(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of images of each class; `labels` are those of `Samples`."""
    if labels.ndim == 2:
        return labels.sum(0, dtype=np.int64)
    return np.bincount(labels, minlength=num_classes)


def names_in_order(class_indexing: Mapping[str, int]) -> tuple[str, ...]:
    """Return the name of each label; a label that no class has is named by its number."""
    names: dict[int, list[str]] = {}
    for name, label in class_indexing.items():
        names.setdefault(int(label), []).append(name)
    for label in range(max(names)):
        number = str(label)
        names.setdefault(label, [f"label {number}" if number in class_indexing else number])
    return tuple(" or ".join(names[label]) for label in range(len(names)))


def class_name(samples: Samples, label: int) -> str:
    """Return the name of a class; its number if it has none."""
    names = samples.class_names or ()
    return names[label] if label < len(names) else str(label)


def class_indexing_of(samples: Samples) -> dict[str, int] | None:
    """Return class name to label, as `renumber` was told; None without class names."""
    if samples.class_names is None:
        return None
    told = getattr(samples, "class_indexing", None)
    return (
        told
        if isinstance(told, Mapping)
        else {name: label for label, name in enumerate(samples.class_names)}
    )


def write_class_map(path: Path, samples: Samples) -> None:
    """Write classes (name to index), number of images and fingerprint of a training set.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "num_classes": int(samples.num_classes),
        "images": len(samples),
        "fingerprint": samples.fingerprint(),
        "classes": class_indexing_of(samples),
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1), encoding="ascii")


def describe_files(samples: Samples) -> dict[str, list[str]]:
    """Return hashes of the files' names, sizes and modification times, one per class.

    Of more than `_MOST_FILES` images, only an evenly spread sample counts. The result is empty if
    the images are not individual files.
    """
    if not hasattr(samples, "path"):
        return {}
    looked_at = np.arange(0, len(samples), -(-len(samples) // _MOST_FILES))
    parts = np.array_split(looked_at, _THREADS)
    with ThreadPoolExecutor(_THREADS) as threads:
        found = sum(threads.map(lambda part: _look(samples, part), parts), [])
    hashes = {
        what: [hashlib.sha256() for _ in range(samples.num_classes)]
        for what in ("names", "sizes", "times")
    }
    for label, *values in zip(samples.labels[looked_at], *zip(*found)):
        for of_classes, value in zip(hashes.values(), values):
            for index in classes_of(label):
                of_classes[index].update(value + b"\0")
    return {what: [one.hexdigest()[:12] for one in each] for what, each in hashes.items()}


def _look(samples: Samples, indices: np.ndarray) -> list[tuple[bytes, bytes, bytes]]:
    found = []
    for index in indices.tolist():
        path = samples.path(index)
        try:
            state = os.stat(path)
            size, time = state.st_size, state.st_mtime_ns
        except OSError:
            size = time = -1
        found.append((os.path.basename(path), b"%d" % size, b"%d" % time))
    return found
