"""The list of the images in a folder of class folders: scanned once, then remembered."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .index_cache import FolderStates, read_index, write_index
from .name_table import NameTable

# In lower case; a file's own suffix may be written in any case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
_SUFFIXES = tuple(map(os.fsencode, IMAGE_SUFFIXES))
_WORTH_REMEMBERING = 5000  # images; fewer are scanned in a tenth of a second


@dataclass(frozen=True)
class ImageIndex:
    """What a folder of class folders holds.

    Attributes:
        classes: names of the class folders, in byte order; some may hold no image.
        names: paths of the images relative to the folder; by class, then in byte order.
        labels: (n,) int32, the place of each image's class in `classes`.
    """

    classes: tuple[str, ...]
    names: NameTable
    labels: np.ndarray


def index_images(folder: Path) -> ImageIndex:
    """Return the images below the class folders of a folder; from the cache if it still holds.

    Images are files with one of `IMAGE_SUFFIXES`, at any depth below a class folder. Hidden files
    and folders are left out, and folders whose name looks like an image's. Links count, also those
    that lead nowhere: reading tells.

    Raises:
        DataError: a folder cannot be read.
    """
    found = read_index(folder)
    if found is not None:
        return ImageIndex(*found)
    states = FolderStates(folder)
    states.add(b"")
    classes = class_folders(folder)
    counts = []

    def names() -> Iterator[bytes]:
        for name in classes:
            images = sorted(_images_below(folder, os.fsencode(name), states))
            counts.append(len(images))
            yield from images

    table = NameTable.of(names())
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    if len(labels) >= _WORTH_REMEMBERING:
        write_index(folder, states, classes, table, labels)
    return ImageIndex(classes, table, labels)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the class folders, in byte order.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            names = [
                entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name)
            ]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return tuple(map(os.fsdecode, sorted(names)))


def holds_image(folder: Path, class_name: str) -> bool:
    """Tell whether there is an image below the class folder, after as little reading as can be."""
    return any(True for _ in _images_below(folder, os.fsencode(class_name)))


def _images_below(
    folder: Path, class_name: bytes, states: FolderStates | None = None
) -> Iterator[bytes]:
    """Yield the paths of the images below a class folder, relative to the folder, in any order."""
    top = os.fsencode(folder)
    pending = [(class_name, frozenset())]
    while pending:
        inner, above = pending.pop()
        path = os.path.join(top, inner)
        try:
            state = os.stat(path)
            here = (state.st_dev, state.st_ino)
            if here in above:  # a link to a folder that it lies in
                continue
            if states is not None:
                states.add(inner, state)
            # The kinds come with the names: no file is touched on its own.
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_hidden(name):
                        continue
                    if name[-5:].lower().endswith(_SUFFIXES):
                        if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                            yield inner + b"/" + name
                    elif entry.is_dir():
                        pending.append((inner + b"/" + name, above | {here}))
        except OSError as error:
            raise DataError(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from None


def _is_hidden(name: bytes) -> bool:
    return name.startswith(b".")
