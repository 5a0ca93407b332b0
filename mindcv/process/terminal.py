"""Keep the terminal for a command's own output; a log takes what libraries write to stderr.

MindSpore's C++ code writes to file descriptor 2, whatever Python does with `sys.stderr`. So the
descriptor itself leads to a log, and `sys.stderr` reaches the terminal by another descriptor.
Python's own reports (warnings, `Exception ignored in`) and MindSpore's logger go to the log too.
The report of a crash of the process stays on the terminal.
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
from pathlib import Path
from typing import BinaryIO, TextIO

from tqdm import tqdm

from ..errors import ConfigError
from .files import open_regular, printable_lines, writing

_STDERR = 2
_COLOURS = {logging.WARNING: 33, logging.ERROR: 31}  # yellow, red


def start_logging(is_main: bool, log_file: Path | None = None) -> None:
    """Send the library's log lines to the terminal and, if given, append them to a file.

    The file has a time on each line, and also takes what libraries write to stderr. If not
    `is_main`, only warnings are logged.

    Raises:
        ConfigError: the file cannot be written.
    """
    logger = logging.getLogger("mindcv")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO if is_main else logging.WARNING)
    logger.propagate = False
    handlers = [(Terminal(), "%(message)s")]
    if log_file is not None:
        with writing(log_file, ConfigError, "; remove it, or name another ckpt_save_dir"):
            if _stderr_log:
                _stderr_log.continue_in(log_file)
            file = LogFile(log_file, encoding="utf-8", errors="backslashreplace")
        handlers.append((file, "%(asctime)s %(levelname)s %(message)s"))
    for handler, form in handlers:
        handler.setFormatter(Lines(form))
        logger.addHandler(handler)


def shows_colour(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose user did not refuse colours (no-color.org)."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not refused


class Lines(logging.Formatter):
    """Escapes control characters, which file and class names may contain."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class Terminal(logging.Handler):
    """Writes beside progress bars; reports a full disk once, and the run goes on."""

    def format(self, record: logging.LogRecord) -> str:
        line, colour = super().format(record), _COLOURS.get(record.levelno)
        return f"\x1b[{colour}m{line}\x1b[0m" if colour and shows_colour(sys.stdout) else line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            silence_stdout()
            _report(f"standard output cannot be written: {error.strerror}; log files go on")


class LogFile(logging.FileHandler):
    """Reports once that it cannot write, e.g. on a full disk, and keeps trying."""

    has_failed = False

    def _open(self):  # logging's own name
        how = {"encoding": self.encoding, "errors": self.errors, "opener": open_regular}
        return open(self.baseFilename, self.mode, **how)

    def handleError(self, record: logging.LogRecord) -> None:  # logging's own name
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not self.has_failed:
            self.has_failed = True
            _report(f"{self.baseFilename} cannot be written: {error.strerror}")


def _report(message: str) -> None:
    with contextlib.suppress(OSError):
        tqdm.write(message, file=sys.stderr)


def silence_stdout() -> None:
    """Drop what stdout still buffers, which would fail again, at the latest at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StderrLog:
    """The target of file descriptor 2: a nameless file, until a log is named.

    `terminal` is a text stream to the original stderr, `stream` one to the log.
    """

    def __init__(self, terminal: TextIO, log: BinaryIO):
        self.terminal, self._log = terminal, log
        self._path: Path | None = None
        self.stream = _text_stream(log.fileno(), "utf-8")
        self._lead_to(log.fileno())

    def continue_in(self, path: Path) -> None:
        """Append the log so far to a file, and continue there; OSError if it cannot be opened.

        A full disk costs lines of the log, not the run.
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
        """Add our own text that belongs only in the log."""
        with contextlib.suppress(OSError):
            print(text.rstrip("\n"), file=self.stream, flush=True)

    def keep(self) -> Path | None:
        """Return the path of the log, naming a nameless one; None if it cannot be kept."""
        if self._path is None:
            with contextlib.suppress(OSError):
                handle, name = tempfile.mkstemp(prefix="mindcv-", suffix=".log")
                os.close(handle)
                self.continue_in(Path(name))
        return self._path

    def _lead_to(self, descriptor: int) -> None:
        os.dup2(descriptor, _STDERR)
        os.dup2(descriptor, self.stream.fileno())


_stderr_log: StderrLog | None = None


def divert_stderr() -> bool:
    """Send what libraries print to a log until the process ends; return False if that is not done.

    It needs an open stderr and a temporary file: some noise is better than no run. With
    GLOG_logtostderr=1 in the environment everything stays on the terminal. GLOG_v sets how much
    MindSpore prints (default 2, warnings).
    """
    global _stderr_log
    if os.environ.get("GLOG_logtostderr") == "1" or sys.stderr is None:
        return False
    try:
        log = tempfile.TemporaryFile(buffering=0)
        sys.stderr.flush()
        terminal = _text_stream(_STDERR, sys.stderr.encoding)
    except OSError:
        return False
    _stderr_log = StderrLog(terminal, log)
    sys.stderr = terminal
    faulthandler.enable(terminal, all_threads=False)
    _divert_python()
    return True


def stderr_log() -> StderrLog | None:
    """Return the log that libraries write to; None if they write to the terminal."""
    return _stderr_log


def _text_stream(descriptor: int, encoding: str) -> TextIO:
    copy = os.dup(descriptor)
    return os.fdopen(copy, "w", buffering=1, encoding=encoding, errors="backslashreplace")


def _divert_python() -> None:
    write = _stderr_log.write

    def warning(message, category, filename, lineno, file=None, line=None):
        write(warnings.formatwarning(message, category, filename, lineno, line))

    def unraisable(found):
        write(f"{found.err_msg or 'Exception ignored in'}: {found.object!r}\n{_trace(found)}")

    def in_thread(found):
        write(f"Exception in thread {found.thread and found.thread.name}:\n{_trace(found)}")

    warnings.showwarning = warning
    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
    logging.setLoggerClass(_LibraryLogger)
    logging.lastResort = _LastResort(logging.WARNING)
    logging.raiseExceptions = False  # no traceback if a log cannot be written


def _trace(found) -> str:
    lines = traceback.format_exception(found.exc_type, found.exc_value, found.exc_traceback)
    return "".join(lines)


class _LibraryLogger(logging.Logger):
    """Redirects handlers that write to the terminal, such as MindSpore's, to the log."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        if getattr(hdlr, "stream", None) is _stderr_log.terminal:
            # Not `setStream`: some handlers look up stderr each time.
            twin = logging.StreamHandler(_stderr_log.stream)
            twin.name = hdlr.name
            twin.setLevel(hdlr.level)
            twin.setFormatter(hdlr.formatter)
            hdlr = twin
        super().addHandler(hdlr)


class _LastResort(logging.Handler):
    """Shows warnings of this library if logging was not started; others go to the log."""

    def emit(self, record: logging.LogRecord) -> None:
        is_ours = record.name.split(".")[0] == "mindcv"
        print(self.format(record), file=_stderr_log.terminal if is_ours else _stderr_log.stream)
