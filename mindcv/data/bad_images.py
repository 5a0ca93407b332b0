"""Images that cannot be used: noted once each, listed in a file, and too many of them an error."""

import csv
import io
import logging
import threading
from pathlib import Path

from ..errors import DataError

_COLUMNS = ("index", "path", "error", "count")
_TOLD_ONE_BY_ONE = 5

_logger = logging.getLogger(__name__)


class BadImages:
    """The bad images of a training set, found while it is read; for use from any thread.

    The file is made at the first bad image, with a row for each: its index in the dataset, path,
    error, and how many are known with it. Several processes may append to one file, and count each
    other's. A run that is resumed finds its file and appends what is not in it.

    Args:
        size: images of the dataset.
        max_bad_fraction: share of them that may be bad.
        file: bad_images.csv of the run; None: none is written.

    Attributes:
        reasons: index to error of those that this process met.
    """

    def __init__(self, size: int, max_bad_fraction: float, file: Path | None = None):
        self.size, self.max_bad_fraction, self.file = size, max_bad_fraction, file
        self.reasons: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._lock = threading.Lock()
        self._listed: set[tuple[str, ...]] = set()  # (index, path, error) of each row in the file
        self._met_by_others: set[int] = set()
        self._bytes_read = 0
        self._catch_up()
        self._met_by_others.clear()  # by the run that this one resumes: they may be repaired

    def add(self, index: int, name: str, reason: str) -> None:
        """Note a bad image, unless it is noted already.

        Raises:
            DataError: more images are bad than may be; it tells which, and what to do.
        """
        with self._lock:
            if index in self.reasons:
                return
            self.reasons[index], self._names[index] = reason, name
            self._catch_up()
            count = len(self._met_by_others | self.reasons.keys())
            row = (str(index), name, reason)
            if self.file and row not in self._listed:
                self._append((*row, str(count)))
            self._log(name, reason, count)
            if count / self.size > self.max_bad_fraction:
                raise DataError(self._complaint(count))

    def _catch_up(self) -> None:
        """Read what was appended to the file."""
        if self.file is None or not self.file.exists():
            return
        with open(self.file, "rb") as file:
            file.seek(self._bytes_read)
            new = file.read()
        whole_lines = new[: new.rfind(b"\n") + 1]
        self._bytes_read += len(whole_lines)
        for row in csv.reader(io.StringIO(whole_lines.decode("utf-8", "replace"))):
            if len(row) == len(_COLUMNS) and row[0].isdecimal():
                self._listed.add(tuple(row[:3]))
                self._met_by_others.add(int(row[0]))

    def _append(self, row: tuple[str, ...]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([row] if self._bytes_read else [_COLUMNS, row])
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # One call a row: other processes' rows come before or after it, not between.
            with open(self.file, "ab", buffering=0) as file:
                file.write(text.getvalue().encode("utf-8", "backslashreplace"))
        except OSError as error:
            _logger.warning("%s cannot be written: %s", self.file, error.strerror)

    def _log(self, name: str, reason: str, count: int) -> None:
        if len(self.reasons) <= _TOLD_ONE_BY_ONE:
            _logger.warning("bad image, replaced by the next good one: %s: %s", name, reason)
        elif len(self.reasons) == _TOLD_ONE_BY_ONE + 1:
            place = f"are listed in {self.file}" if self.file else "are not told one by one"
            _logger.warning("%d images are bad; those from here on %s", count, place)

    def _complaint(self, count: int) -> str:
        listed = f"; {self.file} lists those met so far" if self.file else ""
        return (
            f"{count} of {self.size} training images are bad ({count / self.size:.2%}), more than "
            f"max_bad_fraction {self.max_bad_fraction:g}: {name_some(self._names, self.reasons)}"
            f"{listed}; `python -m mindcv scan` finds all of them: repair or remove them, or allow "
            "more with --max_bad_fraction"
        )


def name_some(names: dict[int, str], reasons: dict[int, str], most: int = 5) -> str:
    """Return the first bad images with the reasons, and how many there are more."""
    first = [f"{names[index]} ({reasons[index]})" for index in list(reasons)[:most]]
    return ", ".join(first) + (f", … {len(reasons) - most} more" if len(reasons) > most else "")
