"""The processes of one run: what each has written down, and that all end when one has failed.

A process that ends alone leaves the others waiting in a collective operation, and what MindSpore
says there half a minute later is only that somebody is missing. So each rank has a record in
`<run folder>/ranks/`, and looks at those of the others. Nothing here imports mindspore.
"""

from .failure import FOLDER_VARIABLE, first_last_words, last_words, recorded_ending
from .record import Ending, Record, first_failure, read_records, root_cause
from .watch import failing_together, watch_ranks

__all__ = [
    "FOLDER_VARIABLE",
    "Ending",
    "Record",
    "failing_together",
    "first_failure",
    "first_last_words",
    "last_words",
    "read_records",
    "recorded_ending",
    "root_cause",
    "watch_ranks",
]
