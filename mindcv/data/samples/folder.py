"""Image folders: `<folder>/<class>/<image>`, at any depth below the class folder."""

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...process.files import reading
from .files import FileSamples, NameTable
from .index_cache import FolderStates, ImageIndex, read_index, write_index
from .protocol import renumber

# In lower case; suffixes match in any case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
_SUFFIXES = tuple(map(os.fsencode, IMAGE_SUFFIXES))

# What a walk finds: images, folders to read, and entries that hold no images.
IMAGE, FOLDER, UNREADABLE = "images", "folders", "folders that cannot be read"
HIDDEN = "hidden files or folders"
NAMED_LIKE_IMAGE = "folders named like an image"
OTHER = "other files"
LINKED_AGAIN = "links to a folder that is read already"

# Folders that count as splits if the user names none.
_TO_EVALUATE = ("val", "validation", "valid")
SPLITS = ("train", "val", "test", "validation", "valid")

_WORTH_REMEMBERING = 5000  # images; fewer are scanned in a tenth of a second

_logger = logging.getLogger(__name__)


class FolderSamples(FileSamples):
    """The images of a folder of class folders; see `Samples` and `index_images`.

    Without class_indexing, the sorted class folders are the classes. Errors are those of
    `checked_classes` and `renumber`.
    """

    def __init__(self, folder: Path, class_indexing: Mapping[str, int] | None = None):
        _check_folder(folder)
        index = index_images(folder)
        counts = np.bincount(index.labels, minlength=len(index.classes))
        _check_classes(
            folder, index.classes, [name for name, count in zip(index.classes, counts) if not count]
        )
        self.folder = folder
        self.labels, self.class_names = index.labels, index.classes
        self.num_classes = len(index.classes)
        self._top, self._names = os.fsencode(folder), index.names
        renumber(self, class_indexing, str(folder))


def open_split(
    root: str, split: str, class_indexing: Mapping[str, int] | None = None
) -> FolderSamples:
    return FolderSamples(Path(root, split), class_indexing)


def split_classes(root: str, split: str) -> tuple[str, ...] | None:
    """Return the classes of a split without listing its images; None if there is no split."""
    folder = Path(root, split)
    return checked_classes(folder) if folder.is_dir() else None


def checked_classes(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the class folders.

    Raises:
        DataError: the folder is missing or unreadable, has no class folder, or one without an
            image.
    """
    _check_folder(folder)
    names = class_folders(folder)
    _check_classes(folder, names, [name for name in names if not holds_image(folder, name)])
    return names


def _check_folder(folder: Path) -> None:
    if is_there(folder):
        return
    parent = folder.parent
    expected = f"no image folder {folder}; expected <data_dir>/<split>/<class>/<image>"
    if not parent.is_dir():
        raise DataError(f"{expected}; {parent} is not a folder either")
    there = class_folders(parent)
    some = there[:3]
    # Classes hold images but, unlike splits, no folders.
    option = "val_split" if folder.name in _TO_EVALUATE else "train_split"
    if some and all(holds_image(parent, n) and not class_folders(parent / n) for n in some):
        raise DataError(
            f"{expected}; the folders of {parent}, {', '.join(some)}, …, look like classes: "
            f"move it to {parent}/{folder.name}, or name the folder above it and the split: "
            f"--data_dir {parent.resolve().parent} --{option} {parent.resolve().name}; or add "
            "--val_fraction 0.2 to train on 80 % of the images and evaluate on the others"
        )
    found = ", ".join(sorted(os.listdir(parent))[:5]) or "nothing"
    remedy = (
        "; --val_fraction 0.2 evaluates on 20 % of the training images and trains on the others"
    )
    remedy = remedy if folder.name in _TO_EVALUATE else ""
    raise DataError(f"{expected}; {parent} holds {found}{remedy}")


def _check_classes(folder: Path, names: tuple[str, ...], empty: list[str]) -> None:
    if not names:
        raise DataError(f"{folder} holds no class folders; expected {folder}/<class>/<image>")
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} class folders in {folder} hold no image "
            f"({', '.join(IMAGE_SUFFIXES[:4])}, …): {', '.join(empty[:5])}"
        )


def index_images(folder: Path) -> ImageIndex:
    """Return the images below the class folders, from the cache if it is still valid.

    Images are files with one of `IMAGE_SUFFIXES`, at any depth below a class folder. Hidden files
    and folders are skipped, as are folders named like an image. Links count, even broken ones:
    reading reports them. A folder that several links of a class lead to counts once. An unreadable
    folder is a DataError.
    """
    remembered = read_index(folder)
    if remembered is not None:
        return remembered
    states = FolderStates(folder)
    states.add(b"")
    classes = class_folders(folder, states)
    counts = []

    def names() -> Iterator[bytes]:
        for name in classes:
            images, again = [], []
            for kind, path, detail in _readable(folder, name):
                if kind == IMAGE:
                    images.append(path)
                elif kind == FOLDER:
                    states.add(path, detail)
                elif kind == OTHER and detail:
                    states.add_link(path)
                elif kind == LINKED_AGAIN:
                    again.append(path)
            if again:
                _logger.warning(
                    "%d links below %s lead to folders that are read already and are passed over, "
                    "e.g. %s",
                    len(again),
                    folder / name,
                    again[0].decode("utf-8", "backslashreplace"),
                )
            counts.append(len(images))
            yield from sorted(images)

    table = NameTable.of(names())
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    index = ImageIndex(classes, table, labels)
    if len(labels) >= _WORTH_REMEMBERING:
        write_index(folder, states, index)
    return index


def is_there(folder: Path) -> bool:
    with reading(folder, DataError):
        return folder.is_dir()


def class_folders(folder: Path, states: FolderStates | None = None) -> tuple[str, ...]:
    """Return the names of the class folders, in byte order; `states` records links to no folder.

    Raises:
        DataError: the folder cannot be read.
    """
    names = []
    with reading(folder, DataError), os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if is_folder(entry):
                names.append(entry.name)
            elif states is not None and entry.is_symlink():
                states.add_link(entry.name)
    return tuple(map(os.fsdecode, sorted(names)))


def holds_image(folder: Path, class_name: str) -> bool:
    """Return whether there is an image below the class folder, reading as little as possible."""
    return any(True for _ in images_below(folder, class_name))


def images_below(folder: Path, name: str) -> Iterator[bytes]:
    """Yield the paths of the images below `folder`/`name`, relative to `folder`, in any order.

    Raises:
        DataError: a folder cannot be read.
    """
    return (path for kind, path, _ in _readable(folder, name) if kind == IMAGE)


def _readable(folder: Path, class_name: str) -> Iterator[tuple[str, bytes, Any]]:
    for kind, path, detail in walk(folder, os.fsencode(class_name)):
        if kind == UNREADABLE:
            place = os.path.join(folder, os.fsdecode(path))
            raise DataError(f"{place} cannot be read: {detail.strerror}")
        yield kind, path, detail


def walk(folder: str | Path, class_name: bytes) -> Iterator[tuple[str, bytes, Any]]:
    """Yield everything below a class folder in any order: kind, path relative to `folder`, detail.

    `FOLDER`, with its os.stat, comes before the folder is read; `UNREADABLE` has the OSError, and
    `OTHER` whether it is a link, which might lead to a folder one day.

    Each folder is entered once, however many links lead to it: first the folders themselves, then
    links, those nearest to the top first. Otherwise folders that link to each other in a circle
    would be visited along every path through them: seven such folders have thousands of paths.
    """
    top = os.fsencode(folder)
    pending, links = [class_name], []
    entered: set[tuple[int, int]] = set()
    while pending or links:
        is_link = not pending
        inner = pending.pop() if pending else links.pop(0)
        path = os.path.join(top, inner)
        found = []
        try:
            state = os.stat(path)
            here = (state.st_dev, state.st_ino)
            if here in entered:
                if is_link:
                    yield LINKED_AGAIN, inner, None
                continue
            entered.add(here)
            yield FOLDER, inner, state
            # scandir returns the kinds with the names, without touching any file.
            with os.scandir(path) as entries:
                for entry in entries:
                    name = inner + b"/" + entry.name
                    if is_hidden(entry.name):
                        yield HIDDEN, name, None
                    elif name[-5:].lower().endswith(_SUFFIXES):
                        if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                            yield IMAGE, name, None
                        else:
                            yield NAMED_LIKE_IMAGE if entry.is_dir() else OTHER, name, False
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif entry.is_symlink() and is_folder(entry):
                        found.append(name)
                    else:
                        yield OTHER, name, entry.is_symlink()
        except OSError as error:
            yield UNREADABLE, inner, error
        links += found
        if not pending:
            links.sort(key=lambda link: (link.count(b"/"), link))


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether it is a folder or a link to one; links that only lead to links are not."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def is_hidden(name: bytes) -> bool:
    return name.startswith(b".")


def split_folders(root: str | Path) -> tuple[str, ...]:
    """Return the folders named as in `SPLITS`, or none if none of them contains a folder.

    In that case they may be classes: CIFAR-100 has one called `train`. Images and other files
    beside the class folders of a split do not matter, since training skips them too.
    """
    there = tuple(name for name in SPLITS if os.path.isdir(os.path.join(root, name)))
    return there if any(holds_classes(root, name) for name in there) else ()


def folders_beside(root: str | Path, splits: tuple[str, ...]) -> list[str]:
    """Return the folders with images below them, other than the splits.

    An unreadable folder counts as empty: many disks have a `lost+found` at the top.
    """
    try:
        names = class_folders(Path(root))
    except DataError:
        return []
    return [name for name in names if name not in splits and _may_be_meant(Path(root), name)]


def holds_classes(root: str | Path, split: str) -> bool:
    """Return whether a split is there with a folder in it, or one that cannot be read."""
    folder = Path(root, split)
    try:
        return is_there(folder) and bool(class_folders(folder))
    except DataError:
        return True  # listing it reports why


def _may_be_meant(root: Path, name: str) -> bool:
    try:
        return holds_image(root, name)
    except DataError:
        return False
