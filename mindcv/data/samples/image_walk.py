"""The way through a class folder that decides which images there are."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import DataError

# In lower case; a file's own suffix may be written in any case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip
_SUFFIXES = tuple(map(os.fsencode, IMAGE_SUFFIXES))

HIDDEN = "hidden files or folders"
NAMED_LIKE_IMAGE = "folders named like an image"
OTHER = "other files"
LINKED_AGAIN = "links to a folder that is read already"


class Watcher:
    """What is told of a walk besides the images. Paths are relative to the folder of the classes.

    This one does not care, and ends the walk at the first folder that cannot be read.
    """

    def entered(self, path: bytes, state: os.stat_result) -> None:
        """Take note of a folder that is about to be read."""

    def passed_over(self, kind: str, path: bytes) -> None:
        """Take note of what holds no images: kind is one of the constants of this file."""

    def leads_to_no_folder(self, path: bytes) -> None:
        """Take note of a link that could lead to a folder one day; it is passed over as well."""

    def unreadable(self, path: bytes, full_path: bytes, error: OSError) -> None:
        """Take note of a folder that cannot be read.

        Raises:
            DataError: it ends the walk.
        """
        raise DataError(f"{os.fsdecode(full_path)} cannot be read: {error.strerror}") from None


def images_below(folder: Path, class_name: bytes, watcher: Watcher) -> Iterator[bytes]:
    """Yield the paths of the images below a class folder, relative to the folder, in any order.

    A folder is entered once, however many links lead to it: the folders themselves come first, then
    the links, those nearest to the top first. Folders that link to each other in a circle would
    otherwise be met by each way through them, of which seven have thousands.
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
                    watcher.passed_over(LINKED_AGAIN, inner)
                continue
            entered.add(here)
            watcher.entered(inner, state)
            # The kinds come with the names: no file is touched on its own.
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if is_hidden(name):
                        watcher.passed_over(HIDDEN, inner + b"/" + name)
                    elif name[-5:].lower().endswith(_SUFFIXES):
                        if entry.is_file(follow_symlinks=False) or entry.is_symlink():
                            yield inner + b"/" + name
                        else:
                            kind = NAMED_LIKE_IMAGE if entry.is_dir() else OTHER
                            watcher.passed_over(kind, inner + b"/" + name)
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(inner + b"/" + name)
                    elif entry.is_symlink() and is_folder(entry):
                        found.append(inner + b"/" + name)
                    else:
                        if entry.is_symlink():
                            watcher.leads_to_no_folder(inner + b"/" + name)
                        watcher.passed_over(OTHER, inner + b"/" + name)
        except OSError as error:
            watcher.unreadable(inner, path, error)
        links += found
        if not pending:
            links.sort(key=lambda link: (link.count(b"/"), link))


def is_folder(entry: os.DirEntry) -> bool:
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


def is_hidden(name: bytes) -> bool:
    return name.startswith(b".")
