"""When each part of a start was over, for a supervisor that waits for the next trained step."""

import contextlib
import os
import time
from pathlib import Path

from ..process.files import open_regular, read_regular
from .failure import FOLDER_VARIABLE

# In this order: imports, data and network; tensors of the checkpoint; … ; its loss is known.
PARTS = ("start", "restore", "first batch", "compile", "first step")
_FILE = "start.txt"
_over: set[str] = set()  # parts of this process


def is_over(part: str) -> None:
    """Tell the supervisor, if there is one, that a part of the start of rank 0 is over."""
    if part in _over:
        return
    _over.add(part)
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None or os.environ.get("RANK_ID", "0") != "0":
        return
    path = Path(folder, _FILE)
    with (
        contextlib.suppress(OSError),  # a full disk: the supervisor has less to tell
        open(path, "a", encoding="ascii", opener=open_regular) as file,
    ):
        file.write(f"{time.time():.3f} {part}\n")


def read_parts(folder: Path) -> dict[str, float]:
    """Return the parts of an attempt that are over, in order, with the times, s since 1970."""
    try:
        lines = read_regular(folder / _FILE, 2**12).decode("ascii").splitlines()
        found = {part: float(seconds) for seconds, _, part in (x.partition(" ") for x in lines)}
    except (OSError, ValueError):  # not yet, or half a line
        return {}
    return {part: found[part] for part in PARTS if part in found}
