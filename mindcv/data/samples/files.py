"""Datasets with one file per image: compact storage of the names, and safe reading."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from ...errors import DataError
from ...process.files import sha256_of
from .protocol import ImageError

MOST_BYTES = 1 << 30  # of an image file
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}


class NameTable:
    """A sequence of byte strings in two arrays, which adds only 4 or 8 bytes per name.

    Name i ends at `ends[i]` (uint32 or int64) of `blob` (uint8).
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray):
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "NameTable":
        blob, lengths = bytearray(), []
        for name in names:
            blob += name
            lengths.append(len(name))
        ends = np.cumsum(lengths, dtype=np.int64)
        kind = np.uint32 if len(blob) < 2**32 else np.int64
        return cls(np.frombuffer(blob, np.uint8), ends.astype(kind))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self.ends):
            raise IndexError(index)
        start = int(self.ends[index - 1]) if index else 0
        return self.blob[start : int(self.ends[index])].tobytes()


class FileSamples:
    """Images in files below the folder `_top`; subclasses find their names and labels."""

    encoded = True
    labels: np.ndarray
    class_names: tuple[str, ...]
    _top: bytes
    _names: NameTable

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return _read_below(self._top, self.path(index))

    def name(self, index: int) -> str:
        return self.path(index).decode("utf-8", "backslashreplace")

    def path(self, index: int) -> bytes:
        return os.path.join(self._top, self._names[index])

    def fingerprint(self) -> str:
        return fingerprint_of(self._names, self.labels, self.class_names)


def _read_below(top: bytes, path: bytes) -> np.ndarray:
    """Read a file as `read_file` does, but raise a DataError if the whole folder has vanished."""
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
            "continue with --resume auto"
        ) from None


def read_file(path: bytes) -> np.ndarray:
    """Return the bytes of an image file, uint8.

    Raises:
        ImageError: it cannot be read, is empty, has more than `MOST_BYTES`, or is not a regular
            file: reading a pipe might never end.
    """
    with _opened(path) as (handle, size):
        content = os.read(handle, size + 1)
        if len(content) != size:  # it grew, or was read in parts
            with open(handle, "rb", closefd=False) as file:
                content += file.read(MOST_BYTES + 1 - len(content))
            _check_bytes(len(content))
    if not content:
        raise ImageError("empty file")
    return np.frombuffer(content, np.uint8)


def read_head(path: bytes, count: int) -> tuple[int, bytes]:
    """Return the size of an image file and its first bytes; ImageError as for `read_file`."""
    with _opened(path) as (handle, size):
        return size, os.read(handle, count)


@contextmanager
def _opened(path: bytes) -> Iterator[tuple[int, int]]:
    """Yield the handle and the size of an image file."""
    try:
        # Otherwise opening a pipe would wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
                raise ImageError(f"no file, but {kind}")
            _check_bytes(status.st_size)
            yield handle, status.st_size
        finally:
            os.close(handle)
    except OSError as error:
        raise ImageError(error.strerror or str(error)) from None


def _check_bytes(count: int) -> None:
    if count > MOST_BYTES:
        raise ImageError(f"too large: a file of {count} bytes, at most {MOST_BYTES}")


def fingerprint_of(
    names: NameTable, labels: np.ndarray, class_names: tuple[str, ...] | None
) -> str:
    numbers = np.ascontiguousarray(names.ends.astype("<i8")), labels.astype("<i4")
    return sha256_of(
        np.ascontiguousarray(names.blob),
        *numbers,
        *(os.fsencode(name) + b"\0" for name in class_names or ()),
    )
