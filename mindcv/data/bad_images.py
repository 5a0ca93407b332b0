"""Unusable images: each is logged and listed once, and too many are an error."""

import csv
import io
import logging
import threading
from pathlib import Path

from ..errors import DataError
from ..process.files import open_regular, printable, table_cell

_COLUMNS = ("index", "path", "error", "count")
_LOGGED = 5  # if a file lists the others
_LOGGED_WITHOUT_FILE = 500

_logger = logging.getLogger(__name__)


class BadImages:
    """The bad images of a dataset, collected while it is read; thread-safe.

    Each is logged; with a file, only the first few are. The file is created at the first bad image
    and gets a row for each. Several processes may append to one file and count each other's rows. A
    resumed run appends only new ones.

    Args:
        size: images of the dataset.
        file: bad_images.csv of the run.
        remedy: advice in the message for users who cannot repair the images.
        can_scan: recommend `python -m mindcv scan` in the message.
    """

    def __init__(
        self,
        size: int,
        max_bad_fraction: float,
        file: Path | None = None,
        remedy: str = "allow more with max_bad_fraction",
        can_scan: bool = True,
    ):
        self.size, self.max_bad_fraction, self.file = size, max_bad_fraction, file
        self.remedy = remedy
        self.advice = "; `python -m mindcv scan` finds all of them" if can_scan else ""
        # By index, of the images that this process found to be bad.
        self.reasons: dict[int, str] = {}
        self.names: dict[int, str] = {}
        self._lock = threading.Lock()
        self._listed: set[tuple[str, ...]] = set()  # (index, path, error) of each row in the file
        self._met_by_others: set[int] = set()
        self._bytes_read = 0
        self._catch_up()
        self._met_by_others.clear()  # those of the resumed run may have been repaired

    def add(self, index: int, name: str, reason: str) -> None:
        """Record a bad image, unless it is known; a DataError if more are bad than allowed."""
        with self._lock:
            if index in self.reasons:
                return
            self.reasons[index], self.names[index] = reason, name
            self._catch_up()
            count = len(self._met_by_others | self.reasons.keys())
            row = (str(index), table_cell(name), reason)
            if self.file and row not in self._listed:
                self._append((*row, str(count)))
            self._log(printable(name), reason, count)
            if count / self.size > self.max_bad_fraction:
                raise DataError(self._complaint(count))

    def _catch_up(self) -> None:
        if self.file is None:
            return
        try:
            with open(self.file, "rb", opener=open_regular) as file:
                file.seek(self._bytes_read)
                new = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            _logger.warning("%s cannot be read: %s", self.file, error.strerror)
            return
        whole_lines = new[: new.rfind(b"\n") + 1]
        self._bytes_read += len(whole_lines)
        try:
            for row in csv.reader(io.StringIO(whole_lines.decode("utf-8", "replace"))):
                if len(row) == len(_COLUMNS) and row[0].isdecimal() and len(row[0]) < 20:
                    self._listed.add(tuple(row[:3]))
                    self._met_by_others.add(int(row[0]))
        except csv.Error as error:
            _logger.warning("%s is damaged: %s", self.file, error)

    def _append(self, row: tuple[str, ...]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([row] if self._bytes_read else [_COLUMNS, row])
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # One call per row: rows of other processes come before or after it, not inside.
            with open(self.file, "ab", buffering=0, opener=open_regular) as file:
                file.write(text.getvalue().encode("utf-8", "backslashreplace"))
        except OSError as error:
            _logger.warning("%s cannot be written: %s", self.file, error.strerror)

    def _log(self, name: str, reason: str, count: int) -> None:
        most = _LOGGED if self.file else _LOGGED_WITHOUT_FILE
        if len(self.reasons) <= most:
            _logger.warning("bad image %s: %s", name, reason)
        elif len(self.reasons) == most + 1:
            others = f"are not logged one by one{self.advice}"
            place = f"are listed in {self.file}" if self.file else others
            _logger.warning("%d images are bad; those from here on %s", count, place)

    def _complaint(self, count: int) -> str:
        some = list(self.reasons)[:5]
        first = [f"{printable(self.names[key])} ({self.reasons[key]})" for key in some]
        more = f", … {len(self.reasons) - 5} more" if len(self.reasons) > 5 else ""
        listed = f"; {self.file} lists those met so far" if self.file else ""
        return (
            f"{count} of {self.size} images {'is' if count == 1 else 'are'} bad "
            f"({count / self.size:.2%}, {self.max_bad_fraction:.2%} are allowed): "
            f"{', '.join(first)}{more}{listed}{self.advice}; repair "
            f"or remove them, or {self.remedy}"
        )
