"""The deprecation warnings in the log of a run, and the table of those that are accepted."""

import csv
import re
from pathlib import Path

# Environment of a run whose log shall hold them; Python hides its own otherwise.
SHOW_DEPRECATIONS = {"PYTHONWARNINGS": "always::DeprecationWarning", "GLOG_v": "2"}
_WARNS = re.compile(r"deprecat|will be removed|obsolete|future version", re.IGNORECASE)
_TABLE = Path(__file__).with_suffix(".csv")


def warnings_in(log: str) -> list[str]:
    """Return the lines that warn of a deprecation, each once."""
    return list(dict.fromkeys(line for line in log.splitlines() if _WARNS.search(line)))


def accepted(version: str) -> list[str]:
    """Return a part of each warning that a MindSpore version is known to give."""
    with _TABLE.open(encoding="utf-8") as file:
        return [
            row["warning"] for row in csv.DictReader(file) if version in row["versions"].split()
        ]


def check_deprecations(log: str, version: str) -> None:
    """Compare a log with the table: no other warning, and each of the accepted ones.

    Raises:
        AssertionError: it says which line of the log or of the table is too many.
    """
    lines, known = warnings_in(log), accepted(version)
    new = [line for line in lines if not any(part in line for part in known)]
    assert not new, f"MindSpore {version} warns of what {_TABLE.name} does not list: {new}"
    gone = [part for part in known if not any(part in line for line in lines)]
    assert not gone, f"MindSpore {version} does not warn any more of {gone}, see {_TABLE.name}"
