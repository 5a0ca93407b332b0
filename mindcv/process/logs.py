"""Where log lines go: the terminal without breaking a progress bar, and the run's log file."""

import contextlib
import logging
import os
import sys
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError
from .files import open_regular
from .foreign_text import printable_lines
from .terminal import diverted


class _Lines(logging.Formatter):
    """Escapes what a terminal would obey: names of files and classes may hold it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class _Terminal(logging.Handler):
    """Tells once that standard output cannot be written, on a full disk; the run goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is left in the buffer would fail again, at the latest when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _tell(f"standard output cannot be written: {error.strerror}; train.log goes on")


class _LogFile(logging.FileHandler):
    """Tells once that it cannot write, for example on a full disk, and goes on trying."""

    is_told = False

    def _open(self):  # logging's own name
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=open_regular,
        )

    def handleError(self, record: logging.LogRecord) -> None:  # logging's own name
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not self.is_told:
            self.is_told = True
            _tell(f"{self.baseFilename} cannot be written: {error.strerror}")


def _tell(message: str) -> None:
    with contextlib.suppress(OSError):
        tqdm.write(message, file=sys.stderr)


def start_logging(is_main: bool, log_file: Path | None = None) -> None:
    """Send the library's log lines to the terminal and, where given, to a file as well.

    Args:
        is_main: False: only warnings are shown, for the ranks beside the first.
        log_file: plain lines with times are appended to it, and what libraries write to stderr.

    Raises:
        ConfigError: the file cannot be written.
    """
    logger = logging.getLogger("mindcv")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO if is_main else logging.WARNING)
    logger.propagate = False
    terminal = _Terminal()
    terminal.setFormatter(_Lines("%(message)s"))
    logger.addHandler(terminal)
    if log_file is not None:
        try:
            if noise := diverted():
                noise.continue_in(log_file)
            handler = _LogFile(log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigError(
                f"{log_file} cannot be written: {error.strerror}; remove it, or name another "
                "ckpt_save_dir"
            ) from None
        handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
