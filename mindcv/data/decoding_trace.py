"""A file that names the images in MindSpore's decoder, in case it crashes."""

import itertools
import logging
import os
from pathlib import Path

from ..process.files import open_regular, printable, read_regular, replacing

# More names than MindSpore's queues hold before its decoder; bytes of each, with its number.
_NAMES, _BYTES = 512, 256

_logger = logging.getLogger("mindcv.train")


class DecodingTrace:
    """Records the images last passed to MindSpore, in case one of them kills the process.

    The page cache outlives the process. A write takes microseconds and, unlike with a mapped file,
    a full or vanished disk cannot kill the process. A normal end removes the file. If `path` is
    left over, its names go into a text file beside it, and the log says so. Each process needs its
    own file.
    """

    def __init__(self, path: Path):
        self.path, self._file = path, None
        self._numbers = itertools.count()
        try:
            self._report_last()
            self._file = open(path, "wb", buffering=0, opener=open_regular)  # noqa: SIM115
        except OSError as error:
            self._give_up(error)

    def note(self, name: str) -> None:
        if self._file is None:
            return
        number = next(self._numbers)
        start, text = b"%d " % number, os.fsencode(name)
        # The end of a path is its most specific part.
        entry = (start + text[len(start) - _BYTES :]).ljust(_BYTES, b"\0")
        try:
            os.pwrite(self._file.fileno(), entry, number % _NAMES * _BYTES)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        # The file stays open: a pipeline thread may still be at its last images.
        try:
            self.path.unlink(missing_ok=True)
        except OSError:  # the folder is no longer writable
            if self._file is not None:
                os.ftruncate(self._file.fileno(), 0)

    def _report_last(self) -> None:
        names = read_trace(self.path)
        if not names:
            return
        listed = self.path.with_name(f"{self.path.name.lstrip('.')}.txt")
        with replacing(listed) as unfinished:
            unfinished.write_text("".join(f"{printable(name)}\n" for name in names), "utf-8")
        _logger.warning(
            "the last run here ended while it was decoding; if by a crash (SIGSEGV, SIGFPE), one "
            "of the %d images named in %s is likely damaged; the last one is %s; check them, or "
            "continue with --decoder pillow",
            len(names),
            listed,
            names[-1],
        )

    def _give_up(self, error: OSError) -> None:
        self._file = None
        _logger.warning(
            "%s cannot be written: %s; a crash of the decoder will not name its images",
            self.path,
            error.strerror,
        )


def read_trace(path: Path) -> list[str]:
    """Return the names in a trace, oldest first; empty if there is no file."""
    try:
        content = read_regular(path, _NAMES * _BYTES)
    except FileNotFoundError:
        return []
    found = []
    for start in range(0, len(content), _BYTES):
        number, _, name = content[start : start + _BYTES].rstrip(b"\0").partition(b" ")
        if name and number.isdigit():
            found.append((len(number), number, os.fsdecode(name)))
    return [name for *_, name in sorted(found)]
