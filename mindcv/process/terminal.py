"""What libraries write to standard error goes to a log; the terminal shows a command's own words.

MindSpore's C++ part writes to file descriptor 2, whatever Python does with `sys.stderr`. So the
descriptor itself is led to a log, and `sys.stderr` goes on to the terminal by another descriptor.
Python's own noise (warnings, `Exception ignored in`) and MindSpore's logger are led after it. What
a crash of the process says stays on the terminal.
"""

import contextlib
import faulthandler
import logging
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

from .files import open_regular

_STDERR = 2


class Noise:
    """Where the noise of this process goes: to a nameless file, until a log is named.

    Args:
        terminal: a text stream to what was standard error.
        log: the nameless file.

    Attributes:
        stream: a text stream to the log, wherever it is.
    """

    def __init__(self, terminal: TextIO, log: BinaryIO):
        self.terminal, self._log = terminal, log
        self._path: Path | None = None
        self.stream = _text_stream(log.fileno(), "utf-8")
        self._lead_to(log.fileno())

    def continue_in(self, path: Path) -> None:
        """Append what there is to a file, and let the rest follow there.

        Raises:
            OSError: it cannot be opened. A disk that is full costs lines of the log, not the run.
        """
        named = open(path, "ab", buffering=0, opener=open_regular)
        self._log.seek(0)
        with contextlib.suppress(OSError):
            while part := self._log.read(1 << 20):
                named.write(part)
        self._log.close()
        self._log, self._path = named, path
        self._lead_to(named.fileno())

    def write(self, text: str) -> None:
        """Add text of our own that belongs in the log only."""
        with contextlib.suppress(OSError):
            print(text.rstrip("\n"), file=self.stream, flush=True)

    def keep(self) -> Path | None:
        """Return where the log lies; a nameless one gets a name in the folder for such files.

        None: it cannot be kept.
        """
        if self._path is None:
            with contextlib.suppress(OSError):
                handle, name = tempfile.mkstemp(prefix="mindcv-", suffix=".log")
                os.close(handle)
                self.continue_in(Path(name))
        return self._path

    def _lead_to(self, descriptor: int) -> None:
        os.dup2(descriptor, _STDERR)
        os.dup2(descriptor, self.stream.fileno())


_current: Noise | None = None


def divert() -> bool:
    """Lead the noise of this process away from the terminal until it ends; tell if that was done.

    It is not where standard error is closed or no temporary file can be made: better some noise
    than no run. With GLOG_logtostderr=1 in the environment all stays on the terminal as well. How
    much MindSpore tells is up to GLOG_v (its default: 2, warnings).
    """
    global _current
    if os.environ.get("GLOG_logtostderr") == "1" or sys.stderr is None:
        return False
    try:
        log = tempfile.TemporaryFile(buffering=0)
        sys.stderr.flush()
        terminal = _text_stream(_STDERR, sys.stderr.encoding)
    except OSError:
        return False
    _current = Noise(terminal, log)
    sys.stderr = terminal
    faulthandler.enable(terminal, all_threads=False)
    _lead_pythons_noise(_current.write)
    return True


def diverted() -> Noise | None:
    """Return where the noise goes; None: to the terminal."""
    return _current


def _text_stream(descriptor: int, encoding: str) -> TextIO:
    """Return a stream of its own to where the descriptor leads now."""
    copy = os.dup(descriptor)
    return os.fdopen(copy, "w", buffering=1, encoding=encoding, errors="backslashreplace")


def _lead_pythons_noise(write: Callable[[str], None]) -> None:
    def warning(message, category, filename, lineno, file=None, line=None):
        write(warnings.formatwarning(message, category, filename, lineno, line))

    def unraisable(found):
        write(f"{found.err_msg or 'Exception ignored in'}: {found.object!r}")
        write(_trace(found))

    def in_thread(found):
        write(f"Exception in thread {found.thread and found.thread.name}:")
        write(_trace(found))

    warnings.showwarning = warning
    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
    logging.setLoggerClass(_LibraryLogger)
    logging.lastResort = _LastResort(logging.WARNING)
    logging.raiseExceptions = False  # a log that cannot be written is no page of frames


def _trace(found) -> str:
    lines = traceback.format_exception(found.exc_type, found.exc_value, found.exc_traceback)
    return "".join(lines)


class _LibraryLogger(logging.Logger):
    """A logger whose handlers do not write to the terminal, as MindSpore's would."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        if getattr(hdlr, "stream", None) is _current.terminal:
            # Not `setStream`: some handlers look standard error up each time.
            twin = logging.StreamHandler(_current.stream)
            twin.name = hdlr.name
            twin.setLevel(hdlr.level)
            twin.setFormatter(hdlr.formatter)
            hdlr = twin
        super().addHandler(hdlr)


class _LastResort(logging.Handler):
    """Shows warnings of this library where no logging was started; others go to the log."""

    def emit(self, record: logging.LogRecord) -> None:
        is_ours = record.name.split(".")[0] == "mindcv"
        print(self.format(record), file=_current.terminal if is_ours else _current.stream)
