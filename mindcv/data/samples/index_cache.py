"""The cached lists of images, `<cache>/indexes/<hash of the folder's path>.npz`."""

import logging
import os
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...process.files import cache_folder, open_regular, sha256_of, sha256_of_file
from .files import NameTable

_logger = logging.getLogger(__name__)

_FORMAT = 3  # change it to invalidate the files of older versions
_DIGEST = 32  # bytes of sha256, behind the archive
# A folder changed this recently could change again without a new time.
_RACY_NS = 2 * 10**9
_MISSING = (-1, -1, -1)  # state of a missing path


@dataclass(frozen=True)
class ImageIndex:
    """The images of a folder of class folders."""

    classes: tuple[str, ...]  # class folders in byte order; some may hold no image
    names: NameTable  # paths relative to the folder; by class, then in byte order
    labels: np.ndarray  # (n,) int32, index into `classes`


class FolderStates:
    """When each folder of a tree was last changed, and where links that lead to no folder point.

    `paths` are relative to the top. It `is_settled` if nothing changed just before it was looked
    at, or since.
    """

    def __init__(self, top: Path):
        self.top = os.fsencode(top)
        self.paths: list[bytes] = []
        self.states: list[tuple[int, int, int]] = []
        self.is_settled = True

    def add(self, path: bytes, state: os.stat_result | None = None) -> None:
        """Record the state of a folder; call it before reading the entries."""
        state = state or os.stat(os.path.join(self.top, path))
        self.paths.append(path)
        self.states.append(_state(state))
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _RACY_NS:
            self.is_settled = False

    def add_link(self, path: bytes) -> None:
        """Record a link that leads to no folder yet: a disk mounted later may make it one."""
        state = _state_of(os.path.join(self.top, path))
        self.paths.append(path)
        self.states.append(state)
        if state != _MISSING and os.path.isdir(os.path.join(self.top, path)):
            self.is_settled = False


def read_index(folder: Path) -> ImageIndex | None:
    """Return the cached index; None if it is missing or invalid.

    It is valid while every folder of the tree is unchanged and every link leads to the same place.
    """
    try:
        with open(_place_of(folder), "rb", opener=open_regular) as file:
            if not _is_whole(file):
                return None
            with np.load(file, allow_pickle=False) as parts:
                if parts["format"] != _FORMAT or not _is_unchanged(folder, parts):
                    return None
                names = NameTable(parts["names"], parts["names_ends"])
                return ImageIndex(_strings(parts, "classes"), names, parts["labels"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def write_index(folder: Path, states: FolderStates, index: ImageIndex) -> None:
    """Cache the images of a folder, unless it is changing or the cache cannot be written."""
    if not states.is_settled:
        return
    target = _place_of(folder)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
    folders, class_names = NameTable.of(states.paths), NameTable.of(map(os.fsencode, index.classes))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "w+b", opener=open_regular) as file:
                np.savez(
                    file,
                    format=_FORMAT,
                    folders=folders.blob,
                    folders_ends=folders.ends,
                    states=np.array(states.states, np.int64),
                    classes=class_names.blob,
                    classes_ends=class_names.ends,
                    names=index.names.blob,
                    names_ends=index.names.ends,
                    labels=index.labels,
                )
                file.seek(0)
                digest = sha256_of_file(file)  # leaves the file at its end
                file.write(bytes.fromhex(digest))
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        _logger.debug("the index of %s is not remembered: %s", folder, error)


def _place_of(folder: Path) -> Path:
    real = sha256_of(os.fsencode(os.path.realpath(folder)))
    return cache_folder() / "indexes" / f"{real[:32]}.npz"


def _is_whole(file) -> bool:
    """Compare the archive with the hash behind it; leave the file at its beginning."""
    size = os.fstat(file.fileno()).st_size - _DIGEST
    if size <= 0 or bytes.fromhex(sha256_of_file(file, size)) != file.read(_DIGEST):
        return False
    file.seek(0)
    return True


def _is_unchanged(folder: Path, parts) -> bool:
    folders = NameTable(parts["folders"], parts["folders_ends"])
    top = os.fsencode(folder)
    return all(
        _state_of(os.path.join(top, folders[number])) == tuple(known)
        for number, known in enumerate(parts["states"].tolist())
    )


def _state_of(path: bytes) -> tuple[int, int, int]:
    try:
        return _state(os.stat(path))
    except OSError:
        return _MISSING


def _state(state: os.stat_result) -> tuple[int, int, int]:
    # Last change of the content, last change of any kind.
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _strings(parts, key: str) -> tuple[str, ...]:
    table = NameTable(parts[key], parts[f"{key}_ends"])
    return tuple(os.fsdecode(table[number]) for number in range(len(table)))
