"""Threads that read images, each image within a time limit."""

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import DataError

# Seconds for one image. A network disk whose server starts anew comes back within minutes.
TOLD_AFTER, GIVEN_UP_AFTER = 20.0, 180.0
# What a thread reads together: handing over one small file costs more than to read it, and pixels
# of large photographs would fill the memory.
_MOST_IMAGES, _MOST_BYTES = 16, 2_500_000

_logger = logging.getLogger(__name__)


class ReadingThreads:
    """Read images by threads, some ahead of those that are asked for.

    A read that never returns, as of a network disk that is gone, cannot be ended; it can only be
    left to itself. So the threads are daemons, which nobody waits for.

    Args:
        read: index to what is read.
        name: index to what a user finds the image by.
        threads: their number.
    """

    def __init__(self, read: Callable[[int], Any], name: Callable[[int], str], threads: int = 1):
        self._name, self._count = name, threads
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        for number in range(threads):
            threading.Thread(
                target=_work, args=(self._jobs, read), name=f"mindcv-read_{number}", daemon=True
            ).start()

    def in_order(self, indices: Sequence[int]) -> Iterator[Any]:
        """Yield what `read` returns for each index, from as many threads as there are.

        Raises:
            DataError: an image takes too long.
            Exception: what `read` raised, in the place of the image.
        """
        begun: deque[_Job] = deque()
        at, together = 0, 1
        while at < len(indices) or begun:
            if at < len(indices):
                begun.append(job := _Job(indices[at : at + together]))
                self._jobs.put(job)
                at += together
                if len(begun) <= self._count:
                    continue
            job = begun.popleft()
            yield from self._results(job)
            together = job.fitting()

    def close(self) -> None:
        """End the threads when they are done with the images at hand."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self._count):
            self._jobs.put(None)

    def _results(self, job: "_Job") -> Iterator[Any]:
        told = None
        while not job.done.wait(min(1.0, TOLD_AFTER)):
            number, begin = job.reading
            name, seconds = self._name(int(job.indices[number])), time.monotonic() - begin
            if seconds > GIVEN_UP_AFTER:
                raise DataError(
                    f"{name} could not be read within {GIVEN_UP_AFTER:g} s: the read does not "
                    "return; is the disk, or the network disk, still there?"
                )
            if seconds > TOLD_AFTER and told != number:
                _logger.warning("%s is being read for %g s already", name, TOLD_AFTER)
                told = number
        yield from job.results
        if job.error is not None:
            raise job.error


class _Job:
    """Images that one thread reads: which of them it is at, and since when."""

    def __init__(self, indices: Sequence[int]):
        self.indices = indices
        self.results: list = []
        self.error: BaseException | None = None
        self.reading = 0, math.inf  # not begun
        self.done = threading.Event()

    def run(self, read: Callable[[int], Any]) -> None:
        try:
            for number, index in enumerate(self.indices):
                self.reading = number, time.monotonic()
                self.results.append(read(index))
        except BaseException as error:  # raised where the image is asked for
            self.error = error
        self.done.set()

    def fitting(self) -> int:
        """Return how many images like these are to be read together."""
        largest = max(getattr(result, "nbytes", 0) for result in self.results)
        return max(1, min(_MOST_IMAGES, _MOST_BYTES // max(1, largest)))


def _work(jobs: queue.SimpleQueue, read: Callable[[int], Any]) -> None:
    while (job := jobs.get()) is not None:
        job.run(read)
        del job  # an idle thread keeps no image
