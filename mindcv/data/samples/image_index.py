"""The list of the images in a folder of class folders: scanned once, then remembered."""

import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError
from .index_cache import FolderStates, read_index, write_index
from .name_table import NameTable

# In lower case; a file's own suffix may be written in any case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
_SUFFIXES = tuple(map(os.fsencode, IMAGE_SUFFIXES))
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
            images = sorted(_images_below(folder, os.fsencode(name), states))
            counts.append(len(images))
            yield from images

    table = NameTable.of(names())
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    if len(labels) >= _WORTH_REMEMBERING:
        write_index(folder, states, classes, table, labels)
    return ImageIndex(classes, table, labels)


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
                if _is_hidden(entry.name):
                    continue
                if _is_folder(entry):
                    names.append(entry.name)
                elif states is not None and entry.is_symlink():
                    states.add_link(entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return tuple(map(os.fsdecode, sorted(names)))


def holds_image(folder: Path, class_name: str) -> bool:
    """Tell whether there is an image below the class folder, after as little reading as can be."""
    return any(True for _ in _images_below(folder, os.fsencode(class_name)))


def _images_below(
    folder: Path, class_name: bytes, states: FolderStates | None = None
) -> Iterator[bytes]:
    """Yield the paths of the images below a class folder, relative to the folder, in any order.

    A folder is entered once, however many links lead to it: the folders themselves come first, then
    the links, those nearest to the top first. Folders that link to each other in a circle would
    otherwise be met by each way through them, of which seven have thousands.
    """
    top = os.fsencode(folder)
    pending, links = [class_name], []
    entered: set[tuple[int, int]] = set()
    passed: list[bytes] = []
    while pending or links:
        is_link = not pending
        inner = pending.pop() if pending else links.pop(0)
        path = os.path.join(top, inner)
        try:
            state = os.stat(path)
            here = (state.st_dev, state.st_ino)
            if here in entered:
                passed += [inner] if is_link else []
                continue
            entered.add(here)
            if states is not None:
                states.add(inner, state)
            found = []
            # The kinds come with the names: no file is touched on its own.
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_hidden(name):
                        continue
                    if name[-5:].lower().endswith(_SUFFIXES):
                        if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                            yield inner + b"/" + name
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(inner + b"/" + name)
                    elif entry.is_symlink():
                        if _is_folder(entry):
                            found.append(inner + b"/" + name)
                        elif states is not None:
                            states.add_link(inner + b"/" + name)
        except OSError as error:
            raise DataError(f"{os.fsdecode(path)} cannot be read: {error.strerror}") from None
        links += found
        if not pending:
            links.sort(key=lambda link: (link.count(b"/"), link))
    if passed and states is not None:
        _logger.warning(
            "%d links below %s lead to folders that are read already and are passed over, e.g. %s",
            len(passed),
            os.fsdecode(os.path.join(top, class_name)),
            passed[0].decode("utf-8", "backslashreplace"),
        )


def _is_folder(entry: os.DirEntry) -> bool:
    """Tell whether an entry is a folder, or a link to one; not so where links only lead to links.

    Raises:
        OSError: the system does not tell.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _is_hidden(name: bytes) -> bool:
    return name.startswith(b".")
