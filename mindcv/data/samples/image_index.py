"""The list of the images in a folder of class folders: scanned once, then remembered."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError
from .image_walk import LINKED_AGAIN, Watcher, images_below, is_folder, is_hidden
from .index_cache import FolderStates, read_index, write_index
from .name_table import NameTable

_WORTH_REMEMBERING = 5000  # images; fewer are scanned in a tenth of a second

_logger = logging.getLogger(__name__)


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
    that lead nowhere: reading tells. A folder that several links of a class lead to counts once.

    Raises:
        DataError: a folder cannot be read.
    """
    found = read_index(folder)
    if found is not None:
        return ImageIndex(*found)
    states = FolderStates(folder)
    states.add(b"")
    classes = class_folders(folder, states)
    counts = []

    def names() -> Iterator[bytes]:
        for name in classes:
            watcher = _IndexWatcher(states)
            images = sorted(images_below(folder, os.fsencode(name), watcher))
            watcher.tell_of_links(folder / name)
            counts.append(len(images))
            yield from images

    table = NameTable.of(names())
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    if len(labels) >= _WORTH_REMEMBERING:
        write_index(folder, states, classes, table, labels)
    return ImageIndex(classes, table, labels)


def is_there(folder: Path) -> bool:
    """Tell whether there is such a folder.

    Raises:
        DataError: the system does not tell, as one above it may not be entered.
    """
    try:
        return folder.is_dir()
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None


def class_folders(folder: Path, states: FolderStates | None = None) -> tuple[str, ...]:
    """Return the names of the class folders, in byte order.

    Args:
        states: is told of links that lead to no folder.

    Raises:
        DataError: the folder cannot be read.
    """
    names = []
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if is_folder(entry):
                    names.append(entry.name)
                elif states is not None and entry.is_symlink():
                    states.add_link(entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return tuple(map(os.fsdecode, sorted(names)))


def holds_image(folder: Path, class_name: str) -> bool:
    """Tell whether there is an image below the class folder, after as little reading as can be."""
    return any(True for _ in images_below(folder, os.fsencode(class_name), Watcher()))


class _IndexWatcher(Watcher):
    """Notes when the folders of a class were changed, and the links that lead to known ones."""

    def __init__(self, states: FolderStates):
        self._states = states
        self._links: list[bytes] = []

    def entered(self, path: bytes, state: os.stat_result) -> None:
        self._states.add(path, state)

    def leads_to_no_folder(self, path: bytes) -> None:
        self._states.add_link(path)

    def passed_over(self, kind: str, path: bytes) -> None:
        if kind == LINKED_AGAIN:
            self._links.append(path)

    def tell_of_links(self, folder: Path) -> None:
        if self._links:
            _logger.warning(
                "%d links below %s lead to folders that are read already and are passed over, "
                "e.g. %s",
                len(self._links),
                folder,
                self._links[0].decode("utf-8", "backslashreplace"),
            )
