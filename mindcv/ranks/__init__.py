"""The processes of one run: each keeps a record, and all end when one fails.

A process that ends alone leaves the others waiting in a collective operation, and half a minute
later MindSpore reports only that a process is missing. So each rank has a record in the run folder,
under `ranks/`, and watches those of the others. Nothing here imports mindspore.
"""

from .failure import FOLDER_VARIABLE, first_last_words, last_words, recorded_ending
from .record import Ending, Record, first_failure, read_records, root_cause
from .start import is_over, read_parts
from .watch import failing_together, watch_ranks

__all__ = [
    "FOLDER_VARIABLE",
    "Ending",
    "Record",
    "failing_together",
    "first_failure",
    "first_last_words",
    "is_over",
    "last_words",
    "read_parts",
    "read_records",
    "recorded_ending",
    "root_cause",
    "watch_ranks",
]
