"""Threads that read images ahead, each within a time limit."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import DataError

# Seconds to wait for one image. A network disk whose server restarts is back within minutes.
WARNED_AFTER, GIVEN_UP_AFTER = 20.0, 180.0
_LOOKS = 1.0  # seconds between two checks
# Limits of what a thread reads together: handing over a small file costs more than reading it, and
# the pixels of large photographs would fill the memory.
_MOST_IMAGES, _MOST_BYTES = 16, 2_500_000

_logger = logging.getLogger(__name__)


class ReadingThreads:
    """Reads images in threads, ahead of their use.

    A read that never returns, as from a vanished network disk, cannot be ended, only abandoned. So
    the threads are daemons that nobody waits for. Messages call an image by its `name`.
    """

    def __init__(self, read: Callable[[int], Any], name: Callable[[int], str], threads: int = 1):
        self._name, self._count = name, threads
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        for number in range(threads):
            threading.Thread(
                target=_work, args=(self._jobs, read), name=f"mindcv-read_{number}", daemon=True
            ).start()

    def in_order(self, indices: Sequence[int]) -> Iterator[Any]:
        """Yield the result of `read` for each index, in order, or raise its error in that place.

        A read that takes too long is a DataError.
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
        """End the threads when they have finished their current images."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self._count):
            self._jobs.put(None)

    def _results(self, job: "_Job") -> Iterator[Any]:
        look = min(_LOOKS, WARNED_AFTER)
        number, waited = 0, 0.0
        while not job.done.wait(look):
            if job.reading != number:
                number, waited = job.reading, 0.0
            # Counts checks, not clock time: the compiler holds Python's lock for minutes, in which
            # no read can end, and a process may be stopped.
            waited += look
            name = self._name(int(job.indices[number]))
            if waited >= GIVEN_UP_AFTER:
                raise DataError(
                    f"{name} could not be read within {GIVEN_UP_AFTER:g} s: the read does not "
                    "return; is the disk, or the network disk, still there?"
                )
            if waited >= WARNED_AFTER > waited - look:
                _logger.warning("%s is being read for %g s already", name, WARNED_AFTER)
        yield from job.results
        if job.error is not None:
            raise job.error


class _Job:
    def __init__(self, indices: Sequence[int]):
        self.indices = indices
        self.results: list = []
        self.error: BaseException | None = None
        self.reading = 0
        self.done = threading.Event()

    def run(self, read: Callable[[int], Any]) -> None:
        try:
            for number, index in enumerate(self.indices):
                self.reading = number
                self.results.append(read(index))
        except BaseException as error:  # raised where the image is used
            self.error = error
        self.done.set()

    def fitting(self) -> int:
        largest = max(getattr(result, "nbytes", 0) for result in self.results)
        return max(1, min(_MOST_IMAGES, _MOST_BYTES // max(1, largest)))


def _work(jobs: queue.SimpleQueue, read: Callable[[int], Any]) -> None:
    while (job := jobs.get()) is not None:
        job.run(read)
        del job  # an idle thread must not hold images
