"""The unfinished file of a download: `<file>.part`, and beside it, as JSON, its origin."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..plain_files import open_regular, read_regular
from .https import Origin, Trouble

_LARGEST_NOTE = 2**16  # bytes


@dataclass
class Part:
    """The bytes got so far. What the disk refuses ends the attempt as trouble that stays."""

    path: Path
    url: str

    def kept(self) -> tuple[int, Origin | None]:
        """Return size and origin of what an attempt can continue; none: 0 and None."""
        try:
            origin = Origin(**json.loads(read_regular(self._note, _LARGEST_NOTE)))
            size = self.path.lstat().st_size
            usable = origin.url == self.url and _is_sound(origin) and 0 < size <= origin.length
        except (OSError, ValueError, TypeError, RecursionError):
            usable = False
        return (size, origin) if usable else (0, None)

    def begin(self, origin: Origin) -> int:
        """Empty the file and return a descriptor to write to."""
        with self._disk():
            self.discard()
            file = open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open(self._note, "x", encoding="utf-8", opener=open_regular) as writer:
                json.dump(vars(origin), writer)
            return file

    def resume(self) -> int:
        """Return a descriptor that appends."""
        with self._disk():
            return open_regular(self.path, os.O_WRONLY | os.O_APPEND)

    def write(self, file: int, data: bytes) -> None:
        """Write all of the data."""
        rest = memoryview(data)
        with self._disk():
            while rest:
                rest = rest[os.write(file, rest) :]

    def publish(self, target: Path) -> None:
        """Bring the file to the disk, and then under its name."""
        with self._disk():
            _sync(self.path)
            os.replace(self.path, target)
            self._note.unlink(missing_ok=True)
            _sync(target.parent)

    def discard(self) -> None:
        """Remove file and origin, if they are there."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @contextmanager
    def _disk(self):
        try:
            yield
        except OSError as error:  # of a full disk too: leave it no fuller than it was
            raise Trouble(f"{self.path}: {error.strerror}", passing=False, stale=True) from None


def _is_sound(origin: Origin) -> bool:
    """Tell whether a note may be continued from; its validator becomes a line of a request."""
    validator = origin.validator
    is_line = type(validator) is str and validator.isascii() and validator.isprintable()
    return is_line and validator != "" and type(origin.length) is int


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
