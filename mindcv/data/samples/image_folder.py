"""Image folders: `<folder>/<class>/<image>`, at any depth below the class folder."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataError
from .files import FileSamples
from .image_index import class_folders, holds_image, index_images, is_there
from .image_walk import IMAGE_SUFFIXES


class FolderSamples(FileSamples):
    """The images of a folder of class folders; see `Samples` and `index_images`.

    Args:
        folder: holds a folder a class.
        class_indexing: class name to index; a class that has no folder here keeps its number. None:
            the sorted class folders.

    Raises:
        DataError: no such folder, one that cannot be read, no class folders, a class folder without
            an image, a class that is not in class_indexing.
    """

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


def class_index(folder: Path) -> dict[str, int]:
    """Return class name to index, in the order of the sorted folder names.

    Raises:
        DataError: no such folder, one that cannot be read, no class folders, a class folder without
            an image.
    """
    _check_folder(folder)
    names = class_folders(folder)
    _check_classes(folder, names, [name for name in names if not holds_image(folder, name)])
    return {name: index for index, name in enumerate(names)}


def _check_folder(folder: Path) -> None:
    if is_there(folder):
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
