"""Threads that read images, each image within a time limit."""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from functools import partial

import numpy as np

from ...errors import DataError

# Seconds for one image. A network disk whose server starts anew comes back within minutes.
TOLD_AFTER, GIVEN_UP_AFTER = 20.0, 180.0

_logger = logging.getLogger(__name__)


class ReadingThreads:
    """Read images by threads, some ahead of those that are asked for.

    A read that never returns, as of a network disk that is gone, cannot be ended; it can only be
    left to itself. So the threads are daemons, which nobody waits for.

    Args:
        read: index to image.
        name: index to what a user finds the image by.
        threads: their number.
    """

    def __init__(
        self, read: Callable[[int], np.ndarray], name: Callable[[int], str], threads: int = 1
    ):
        self._read, self._name, self._count = read, name, threads
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        for number in range(threads):
            threading.Thread(
                target=_work, args=(self._jobs,), name=f"mindcv-read_{number}", daemon=True
            ).start()

    def start(self, index: int) -> Callable[[], np.ndarray]:
        """Begin to read an image; return a call that waits for it.

        The call raises what `read` raised, or a DataError where the image takes too long.
        """
        future: futures.Future = futures.Future()
        self._jobs.put((future, partial(self._read, index)))
        return partial(self._wait, index, future)

    def in_order(self, indices: Iterable[int]) -> Iterator[Callable[[], np.ndarray]]:
        """Yield what `start` gives for each index; some are begun before they are asked for."""
        started: deque[Callable[[], np.ndarray]] = deque()
        for index in indices:
            started.append(self.start(int(index)))
            if len(started) > 4 * self._count:
                yield started.popleft()
        yield from started

    def close(self) -> None:
        """End the threads when they are done with the image at hand."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self._count):
            self._jobs.put(None)

    def _wait(self, index: int, future: futures.Future) -> np.ndarray:
        for seconds in (TOLD_AFTER, GIVEN_UP_AFTER - TOLD_AFTER):
            try:
                return future.result(seconds)
            except futures.TimeoutError:
                if future.done():  # the image's own error, or just now
                    return future.result()
            if seconds == TOLD_AFTER:
                _logger.warning("%s is being read for %g s already", self._name(index), seconds)
        raise DataError(
            f"{self._name(index)} could not be read within {GIVEN_UP_AFTER:g} s: the read does not "
            "return; is the disk, or the network disk, still there?"
        )


def _work(jobs: queue.SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        future, read = job
        try:
            future.set_result(read())
        except BaseException as error:  # raised where the image is asked for
            future.set_exception(error)
        del job, future, read  # an idle thread keeps no image
