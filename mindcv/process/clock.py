"""Where the time of a run goes: every second belongs to one activity."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

# In the order of the table at the end of a run.
START, RESTORE, COMPILE = "start", "restore", "compile"
DATA, STEPS, EVALUATION = "data wait", "steps", "evaluation"
CHECKPOINT, REST = "checkpoint", "rest"
ACTIVITIES = (START, RESTORE, COMPILE, DATA, STEPS, EVALUATION, CHECKPOINT, REST)

Item = TypeVar("Item")


class Clock:
    """Measures the seconds that the main thread spends on each of `ACTIVITIES`.

    One of them is under way at any time, so their seconds sum to the time since the clock was made.
    Work that goes on behind the main thread counts only while it is waited for: reading ahead,
    writing a checkpoint, and the kernels of a device.
    """

    def __init__(self, activity: str = START):
        self._seconds = dict.fromkeys(ACTIVITIES, 0.0)
        self._activity, self._mark = activity, time.perf_counter()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each activity until now."""
        self.switch(self._activity)
        return dict(self._seconds)

    def switch(self, activity: str) -> str:
        """Begin an activity; return the one that ends."""
        now, ended = time.perf_counter(), self._activity
        self._seconds[ended] += now - self._mark
        self._activity, self._mark = activity, now
        return ended

    @contextmanager
    def during(self, activity: str) -> Iterator[None]:
        """Count the body for an activity, and what follows for the present one."""
        ended = self.switch(activity)
        try:
            yield
        finally:
            self.switch(ended)

    def each(self, items: Iterable[Item], activity: str) -> Iterator[Item]:
        """Yield the items; waiting for the next one counts for an activity."""
        items, nothing = iter(items), object()
        while True:
            with self.during(activity):
                item = next(items, nothing)
            if item is nothing:
                return
            yield item


def time_table(seconds: dict[str, float]) -> list[str]:
    """Return the seconds and percentages of the activities that took place, and their sum."""
    total = sum(seconds.values())
    lines = [f"{'where the time went':<28}{'seconds':>9}{'percent':>9}"]
    for name, taken in [*seconds.items(), ("sum", total)]:
        if taken:
            lines.append(f"  {name:<26}{taken:>9.1f}{100 * taken / total:>9.1f}")
    return lines
