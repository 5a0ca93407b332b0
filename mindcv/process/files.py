"""Files of a folder that somebody else may have filled: regular files under plain names, no links.

A name that a file tells must not lead out of its folder; what stands behind a link must not be
written over; and a pipe must not be waited for. Removing and renaming never follow a link at the
end of a path, so that only opening needs care.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_REASONS = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is no regular file"}


def open_regular(path: str | os.PathLike, flags: int = os.O_RDONLY) -> int:
    """Open or create a regular file; also the `opener` of Python's `open`.

    Raises:
        OSError: it is a link, pipe, device or folder; or the system refuses it.
    """
    try:
        # Without O_NONBLOCK a pipe would wait for its other end.
        safe = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, safe, 0o666)
    except OSError as error:
        reason = _REASONS.get(error.errno, error.strerror)
        raise OSError(error.errno, reason, os.fspath(path)) from None
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        number = errno.EISDIR if stat.S_ISDIR(kind) else errno.ENXIO
        raise OSError(number, _REASONS.get(number, os.strerror(number)), os.fspath(path))
    return handle


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a regular file of so many bytes at most.

    Raises:
        OSError: see `open_regular`; or it is larger.
    """
    with open(path, "rb", opener=open_regular) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {most} expected", str(path))
        return file.read(most)


def sha256_of(file: BinaryIO) -> str:
    """Return the hash, hexadecimal, of what is left to read of a file."""
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def make_folder(path: Path) -> None:
    """Create a folder in one that is there, unless it exists.

    Raises:
        OSError: a link or file stands there, or the system refuses it.
    """
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, _REASONS[errno.ELOOP], str(path))


def is_real_folder(path: Path) -> bool:
    """Tell whether it is a folder and no link to one."""
    return path.is_dir() and not path.is_symlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a stand-in to write, `.<name>.<process>`; it takes the name if the body ends well.

    Raises:
        OSError: the system refuses it; a file of that name is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.unlink(missing_ok=True)  # what stands there is not written through
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Remove the stand-ins of these files that killed processes left, as far as that is allowed."""
    starts = {f".{name}" for name in names}
    for path in folder.iterdir():
        start, _, process = path.name.rpartition(".")
        if start in starts and process.isdecimal():
            with suppress(OSError):
                path.unlink()
