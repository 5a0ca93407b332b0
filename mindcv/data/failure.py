"""What is known when MindSpore's pipeline fails: data errors, and a trace for a crash."""

import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mindspore.dataset as ds

from ..errors import DataError
from ..process.files import open_regular, printable, read_regular, replacing

_WAITS = 30  # tenths of a second
_REASON = re.compile(r"Dataset Pipeline Error Message:\s*\n-+\s*\n\[ERROR\] (.*)")
_PYTHON = re.compile(r"Python Call Stack:\s*\n-+\s*\n(.*?)\n\s*\n-+", re.DOTALL)
INTERRUPTED = "Interrupted system call"  # of a pipeline that is ended, whatever the reason


@contextmanager
def pipeline_failures_as_data_errors(*pipelines: ds.Dataset | None) -> Iterator[None]:
    """Turn a failure of an input pipeline into a DataError that names the file, if it is known.

    Other errors pass. `pipelines` are those read inside: MindSpore passes on only the text of a
    failure, so a DataError of their sources is raised unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        texts = [str(error)]
        for failure in _failures_in(pipelines, error):
            if isinstance(failure, DataError):
                raise failure from None
            texts.append(str(failure))
        reasons = list(filter(None, map(_reason_in, texts)))
        if not reasons:
            raise
        reason = next((one for one in reasons if INTERRUPTED not in one), reasons[0])
        remedy = "replace or remove the file" if "data file is" in reason else "see --debug"
        raise DataError(f"the input pipeline failed: {reason} ({remedy})") from error


def _reason_in(text: str) -> str | None:
    # With nested pipelines, the last stack is the innermost one's.
    stacks, own = _PYTHON.findall(text), _REASON.search(text)
    return stacks[-1].strip().splitlines()[-1].strip() if stacks else own and own[1].strip()


def _failures_in(pipelines, error: RuntimeError) -> list[Exception]:
    """Return what the sources raised; MindSpore may report it before the source has recorded it."""
    for _ in range(_WAITS if _REASON.search(str(error)) and pipelines else 1):
        found = list(filter(None, map(_failure_in, pipelines)))
        if found:
            break
        time.sleep(0.1)
    return found


def _failure_in(pipeline: ds.Dataset | None) -> Exception | None:
    if pipeline is None:
        return None
    own = getattr(getattr(pipeline, "source", None), "failure", None)
    return own or next(filter(None, map(_failure_in, pipeline.children)), None)


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
