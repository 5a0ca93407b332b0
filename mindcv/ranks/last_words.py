"""What a rank says that ended before it had a record, as for a wrong option: to its supervisor."""

import json
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path

from ..process.files import open_regular
from .record import LONGEST_CAUSE, Ending, Record, read_record, root_cause

FOLDER_VARIABLE = "MINDCV_LAST_WORDS"  # `supervise` sets it to a folder of the attempt
_SUFFIX = ".last_words.json"


def leave_last_words(exit_code: int, cause: str, of_rank: int | None = None) -> None:
    """Write down why this rank ends; nothing where no supervisor of an msrun asks for it.

    Args:
        exit_code, cause, of_rank: see `Ending`.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder or os.environ.get("MS_ROLE") != "MS_WORKER":
        return
    ending = Ending(exit_code, cause[:LONGEST_CAUSE], of_rank, time.time())
    rank = int(os.environ.get("RANK_ID", 0))
    record = Record(0, rank, os.getpid(), socket.gethostname(), "", ending)
    path = Path(folder, f"{socket.gethostname()}-{os.getpid()}{_SUFFIX}")
    with open(path, "w", encoding="utf-8", opener=open_regular) as file:
        json.dump(asdict(record), file)


def first_last_words(folder: Path) -> Record | None:
    """Return the rank of an attempt that was the first to leave words; None: none did."""
    found = [read_record(path) for path in folder.glob(f"*{_SUFFIX}")]
    return root_cause(record for record in found if record is not None)
