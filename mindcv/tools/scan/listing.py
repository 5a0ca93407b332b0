"""The files in a dataset's folders: images that training would read, and files it would ignore."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from ...data.samples.folder import (
    FOLDER,
    HIDDEN,
    IMAGE,
    IMAGE_SUFFIXES,
    OTHER,
    SPLITS,
    UNREADABLE,
    folders_beside,
    split_folders,
    walk,
)
from ...errors import ConfigError, DataError

_MOST_NAMED = 100  # paths of each kind; there may be an annotation beside each image


@dataclass(frozen=True)
class ClassFolder:
    path: str
    split: str  # empty: the dataset has no splits
    name: str
    images: list[str]  # relative paths, in byte order


@dataclass
class Listing:
    """The contents of a dataset's folders. Images are numbered in the order of `paths`.

    Attributes:
        splits: names, the training set first; ("",): root holds the classes itself.
        classes: by split, then in byte order.
        left_out: number of files that training would not read, by kind.
        named: the first paths of each kind in `left_out`.
        beside: folders of images that are not a split, if the caller did not name the splits.
        unreadable: folder and reason.
    """

    root: str
    splits: tuple[str, ...]
    classes: list[ClassFolder] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(folder.images) for folder in self.classes)

    def paths(self) -> Iterator[str]:
        for folder in self.classes:
            for image in folder.images:
                yield os.path.join(folder.path, image)

    def leave_out(self, kind: str, path: str) -> None:
        self.left_out[kind] += 1
        if self.left_out[kind] <= _MOST_NAMED:
            self.named.setdefault(kind, []).append(path)

    def add_unreadable(self, folder: str, error: OSError) -> None:
        self.unreadable.append((folder, error.strerror or str(error)))

    def classes_of(self, split: str) -> list[ClassFolder]:
        return [folder for folder in self.classes if folder.split == split]

    def folder(self, image: int) -> ClassFolder:
        return self.classes[bisect_right(self._starts, image) - 1]

    def path(self, image: int) -> str:
        number = bisect_right(self._starts, image) - 1
        folder = self.classes[number]
        return os.path.join(folder.path, folder.images[image - self._starts[number]])

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(folder.images) for folder in self.classes)]


def list_images(root: str, splits: Sequence[str] | None = None) -> Listing:
    """List `<root>/<split>/<class>/**/<image>`, or `<root>/<class>/**/<image>`.

    Files with one of `IMAGE_SUFFIXES` are images, and so are links with such a name, whatever they
    point to. Everything else is left out and listed by kind: hidden files and folders, other files,
    images outside class folders, and folders named like images. A folder inside a class is visited
    once, however many links lead to it.

    Args:
        splits: names of the split folders, the training set first; None: those of `SPLITS` that
            exist; if none exists, root holds the classes itself.

    Raises:
        ConfigError: no split, or a split named twice.
        DataError: a folder does not exist, or root holds no class folders.
    """
    if splits is not None and not (splits and all(splits)):
        raise ConfigError(f"splits {','.join(splits)!r}: expected names such as train,val")
    if twice := [name for name in splits or () if splits.count(name) > 1]:
        raise ConfigError(f"splits: {twice[0]!r} is named twice")
    if not os.path.isdir(root):
        what = "is a file" if os.path.exists(root) else "does not exist"
        raise DataError(f"{root!r} {what}; expected a folder of <split>/<class>/<image>")
    found = Listing(root, tuple(splits) if splits is not None else split_folders(root) or ("",))
    for split in found.splits:
        _list_split(found, split)
    if found.splits != ("",):
        for entry in _entries(found, root):
            if not _is_folder(entry):
                found.leave_out(OTHER, entry.path)
            elif entry.name not in found.splits:
                found.leave_out("folders that are no split", entry.path)
        if splits is None:
            beside = folders_beside(root, found.splits)
            found.beside += [os.path.join(root, name) for name in beside]
    if not found.classes and not found.unreadable:
        raise DataError(
            f"{root!r} holds no class folders; expected <split>/<class>/<image> with a split of "
            f"{', '.join(found.splits if splits else SPLITS)}, or <class>/<image>"
        )
    return found


def _list_split(found: Listing, split: str) -> None:
    top = os.path.join(found.root, split) if split else found.root
    if not os.path.isdir(top):
        there = sorted(entry.name for entry in _entries(found, found.root))[:5]
        raise DataError(
            f"no split folder {top!r}; {found.root!r} holds {', '.join(there) or 'nothing'}"
        )
    classes = []
    for entry in _entries(found, top):
        if _is_folder(entry):
            classes.append(os.fsencode(entry.name))
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            found.leave_out("images outside of class folders", entry.path)
        else:
            found.leave_out(OTHER, entry.path)
    for name in sorted(classes):
        folder, images = os.path.join(top, os.fsdecode(name)), []
        for kind, path, detail in walk(top, name):
            if kind == IMAGE:
                images.append(path[len(name) + 1 :])
            elif kind == UNREADABLE:
                found.add_unreadable(os.path.join(top, os.fsdecode(path)), detail)
            elif kind != FOLDER:
                found.leave_out(kind, os.path.join(top, os.fsdecode(path)))
        images = [*map(os.fsdecode, sorted(images))]
        found.classes.append(ClassFolder(folder, split, os.fsdecode(name), images))


def _entries(found: Listing, folder: str) -> Iterator[os.DirEntry]:
    """Yield the entries of a folder that are not hidden; record the others."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    found.leave_out(HIDDEN, entry.path)
                else:
                    yield entry
    except OSError as error:
        found.add_unreadable(folder, error)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
