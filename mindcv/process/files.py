"""Atomic writes, safe opening of regular files, safe text of others, hashes, errors with a name.

A folder may have been filled by somebody else: a name found in a file must not lead out of its
folder, the target of a link must not be overwritten, and a pipe must not block. Removing and
renaming never follow a link at the end of a path, so only opening needs care. Functions raise
OSError if the system refuses an operation.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import MindCVError

_REASONS = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is no regular file"}
_FORMULA = ("=", "+", "-", "@", "\t")  # spreadsheets compute cells that begin with these
_BLOCK = 2**20  # bytes hashed at a time


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
    """Return the content of a regular file; OSError if it has more than `most` bytes."""
    with open(path, "rb", opener=open_regular) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {most} expected", str(path))
        return file.read(most)


def reading(
    what: str | os.PathLike, error: type[MindCVError], remedy: str = ""
) -> AbstractContextManager:
    """Raise `error` for an OSError of the body: `<what> cannot be read: <reason><remedy>`."""
    return _refusals_as(error, f"{what} cannot be read", remedy)


def writing(
    what: str | os.PathLike, error: type[MindCVError], remedy: str = ""
) -> AbstractContextManager:
    """Raise `error` for an OSError of the body: `<what> cannot be written: <reason><remedy>`."""
    return _refusals_as(error, f"{what} cannot be written", remedy)


@contextmanager
def _refusals_as(error: type[MindCVError], message: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except MindCVError:  # which may be an OSError too
        raise
    except OSError as refusal:
        raise error(f"{message}: {refusal.strerror or refusal}{remedy}") from None


def printable(text: str) -> str:
    """Return text with its control characters escaped, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


def printable_lines(text: str) -> str:
    """Return text with the control characters of each line escaped."""
    return "\n".join(map(printable, text.split("\n")))


def table_cell(text: str) -> str:
    """Return the text of a CSV cell, led by an apostrophe if a spreadsheet would compute it.

    This follows OWASP's rule against CSV injection. A carriage return is escaped: Python's writer
    does not quote it, and readers take it for the end of a row.
    """
    text = text.replace("\r", r"\r")
    return f"'{text}" if text.startswith(_FORMULA) else text


def sha256_of(*parts: bytes) -> str:
    """Return the hexadecimal hash of bytes or contiguous arrays, joined together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def sha256_of_file(file: BinaryIO | str | os.PathLike, size: int | None = None) -> str:
    """Return the hexadecimal hash of a file: by path, or the rest of an open one.

    At most `size` bytes are hashed.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            return sha256_of_file(opened, size)
    digest = hashlib.sha256()
    while block := file.read(_BLOCK if size is None else min(size, _BLOCK)):
        digest.update(block)
        size = None if size is None else size - len(block)
    return digest.hexdigest()


def make_folder(path: Path) -> None:
    """Create a folder in an existing one, unless it exists; OSError if it is a link or file."""
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, _REASONS[errno.ELOOP], str(path))


def is_real_folder(path: Path) -> bool:
    """Return whether the path is a folder, not a link to one."""
    return path.is_dir() and not path.is_symlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file, `.<name>.<process>`, that replaces `path` if the body succeeds.

    If it fails, a file at `path` is unchanged.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.unlink(missing_ok=True)  # if it is a link, its target is not written to
        yield unfinished
        os.replace(unfinished, path)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str, error: type[MindCVError], remedy: str = "") -> None:
    """Write a file, which appears when it is complete; raise `error` if it cannot be written.

    Bytes of paths that are not UTF-8 are written as escapes.
    """
    with writing(path, error, remedy), replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def replacing_together(*paths: str | os.PathLike) -> Iterator[list[Path]]:
    """Yield temporary files of the same names, in a new folder beside the first path.

    They replace `paths`, in this order, if the body succeeds; else those files are unchanged. They
    get the permissions of any new file, since some libraries make theirs readable for their owner
    alone. For writers that need the suffix or leave files beside their own.
    """
    unfinished = Path(paths[0]).parent / f".unfinished-{os.getpid()}"
    stand_ins = [unfinished / Path(path).name for path in paths]
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process of the same number
        unfinished.mkdir()
        rights = unfinished.stat().st_mode & 0o666  # as the umask has it for a new file
        yield stand_ins
        for stand_in, path in zip(stand_ins, paths):
            stand_in.chmod(rights)
            os.replace(stand_in, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(folder: Path, names: Iterable[str]) -> None:
    """Remove temporary files of `replacing` that killed processes left, where permitted."""
    starts = {f".{name}" for name in names}
    for path in folder.iterdir():
        start, _, process = path.name.rpartition(".")
        if start in starts and process.isdecimal():
            with suppress(OSError):
                path.unlink()


def cache_folder() -> Path:
    """Return the folder for files that can be made again; it need not exist.

    It is $MINDCV_CACHE, else `mindcv` in $XDG_CACHE_HOME, else ~/.cache/mindcv.
    """
    if own := os.environ.get("MINDCV_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(shared):  # its specification ignores relative paths
        shared = os.path.expanduser("~/.cache")
    return Path(shared) / "mindcv"
