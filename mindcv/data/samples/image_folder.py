"""Image folders: `<folder>/<class>/<image>`, at any depth below the class folder."""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataError
from .image_index import IMAGE_SUFFIXES, class_folders, holds_image, index_images
from .protocol import ImageError

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}


class FolderSamples:
    """The images of a folder of class folders; see `Samples` and `index_images`.

    Args:
        folder: holds a folder a class.
        class_indexing: class name to index; a class that has no folder here keeps its number. None:
            the sorted class folders.

    Raises:
        DataError: no such folder, no class folders, a class folder without an image, a class that
            is not in class_indexing.
    """

    encoded = True

    def __init__(self, folder: Path, class_indexing: Mapping[str, int] | None = None):
        _check_folder(folder)
        index = index_images(folder)
        counts = np.bincount(index.labels, minlength=len(index.classes))
        empty = [name for name, count in zip(index.classes, counts) if not count]
        _check_classes(folder, index.classes, empty)
        numbers = class_indexing or {name: label for label, name in enumerate(index.classes)}
        unknown = [name for name in index.classes if name not in numbers]
        if unknown:
            raise DataError(
                f"{folder} holds classes that are not in the training set: {', '.join(unknown[:5])}"
            )
        self.folder = folder
        self.num_classes = max(numbers.values()) + 1
        self.class_names = tuple(sorted(numbers, key=numbers.get))
        self.labels = np.array([numbers[name] for name in index.classes], np.int32)[index.labels]
        self._top, self._names = os.fsencode(folder), index.names

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return read_below(self._top, self.path(index))

    def name(self, index: int) -> str:
        return self.path(index).decode("utf-8", "backslashreplace")

    def path(self, index: int) -> bytes:
        """Return the path of the file, as the system knows it."""
        return os.path.join(self._top, self._names[index])

    def fingerprint(self) -> str:
        return fingerprint_of(self._names, self.labels, self.class_names)


def class_index(folder: Path) -> dict[str, int]:
    """Return class name to index, in the order of the sorted folder names.

    Raises:
        DataError: no such folder, no class folders, a class folder without an image.
    """
    _check_folder(folder)
    names = class_folders(folder)
    _check_classes(folder, names, [name for name in names if not holds_image(folder, name)])
    return {name: index for index, name in enumerate(names)}


def read_below(top: bytes, path: bytes) -> np.ndarray:
    """Return the bytes of an image file of a folder, uint8.

    Raises:
        ImageError: see `read_file`.
        DataError: it is not this file alone that is not there, but the folder.
    """
    try:
        return read_file(path)
    except ImageError as error:
        try:
            with os.scandir(top) as entries:
                reason = None if any(entries) else "it is empty"
        except OSError as missing:
            reason = missing.strerror
        if reason is None:
            raise
        raise DataError(
            f"the folder {os.fsdecode(top)} is gone while it is read: {reason} "
            f"({path.decode('utf-8', 'backslashreplace')}: {error}); mount it or put it back, and "
            "go on with --resume auto"
        ) from None


def read_file(path: bytes) -> np.ndarray:
    """Return the bytes of an image file, uint8.

    Raises:
        ImageError: it cannot be read, is empty, or is no file: a pipe could be read for ever.
    """
    try:
        # Opening a pipe waits for its writer otherwise.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise ImageError(f"no file, but {_KINDS.get(stat.S_IFMT(mode), 'a device')}")
            with open(handle, "rb", buffering=0, closefd=False) as file:
                content = np.frombuffer(file.read(), np.uint8)
        finally:
            os.close(handle)
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None
    if not len(content):
        raise ImageError("the file is empty")
    return content


def fingerprint_of(names, labels: np.ndarray, class_names: tuple[str, ...] | None) -> str:
    """Return the hash of a dataset's names (a `NameTable`), labels and classes."""
    digest = hashlib.sha256()
    for part in (names.blob, names.ends.astype("<i8"), labels.astype("<i4")):
        digest.update(np.ascontiguousarray(part))
    for name in class_names or ():
        digest.update(os.fsencode(name) + b"\0")
    return digest.hexdigest()


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    parent = folder.parent
    expected = f"no image folder {folder}; expected <data_dir>/<split>/<class>/<image>"
    if not parent.is_dir():
        raise DataError(f"{expected}; {parent} is no folder either")
    there = class_folders(parent)
    if there and all(holds_image(parent, name) for name in there[:3]) and _is_split(parent, there):
        raise DataError(
            f"{expected}; the folders of {parent}, {', '.join(there[:3])}, …, look like classes: "
            f"move it to {parent}/{folder.name}, or name the folder above it and the split: "
            f"--data_dir {parent.resolve().parent} --train_split {parent.resolve().name}"
        )
    found = ", ".join(sorted(os.listdir(parent))[:5]) or "nothing"
    raise DataError(f"{expected}; {parent} holds {found}")


def _is_split(folder: Path, classes: tuple[str, ...]) -> bool:
    """Tell whether the folders hold images themselves, as classes do, and no folders."""
    return not any(class_folders(folder / name) for name in classes[:3])


def _check_classes(folder: Path, names: tuple[str, ...], empty: list[str]) -> None:
    if not names:
        raise DataError(f"{folder} holds no class folders; expected {folder}/<class>/<image>")
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} class folders in {folder} hold no image "
            f"({', '.join(IMAGE_SUFFIXES[:4])}, …): {', '.join(empty[:5])}"
        )
