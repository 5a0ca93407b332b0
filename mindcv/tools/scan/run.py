"""All images of a dataset, examined by several processes."""

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from PIL import Image as PillowImage

from ...process.cores import available_cores
from .examine import examine
from .listing import Listing
from .table import BAD, Image, ImageTable

_CHUNK = 32  # files that a process is given at a time


def scan(
    listing: Listing,
    workers: int | None = None,
    with_pixels: bool = False,
    step: Callable[[int], None] | None = None,
) -> ImageTable:
    """Examine each image of a listing; the table has the order of its paths.

    The processes start afresh, so a script that calls this needs `if __name__ == "__main__":`.

    Args:
        workers: processes; None: one per core that this one may use.
        with_pixels: hash the decoded pixels too.
        step: is told, again and again, how many images are done since.
    """
    most_of_use = (len(listing) + _CHUNK - 1) // _CHUNK
    workers = max(1, min(workers or len(available_cores()), most_of_use))
    table = ImageTable(with_pixels)
    for images in _examined(listing.paths(), workers, with_pixels):
        for image in images:
            table.append(image)
        if step:
            step(len(images))
    return table


def _examined(paths: Iterator[str], workers: int, with_pixels: bool) -> Iterator[list[Image]]:
    """Yield what is found, in order. If a process dies, its files are tried one by one."""
    chunks = iter(lambda: list(islice(paths, _CHUNK)), [])
    while unsure := (yield from _in_pool(chunks, workers, 4 * workers, with_pixels)):
        alone = iter([[path] for chunk in unsure for path in chunk])
        while (yield from _in_pool(alone, 1, 1, with_pixels)):
            yield [Image(0, verdict=BAD, reason="decoding it ends the whole process")]


def _in_pool(chunks: Iterator[list[str]], workers: int, most_pending: int, with_pixels: bool):
    """Yield the images of each chunk; return the chunks that are lost if a process dies."""
    context = get_context("spawn")
    # The processes end when its other end is closed: by this one, or because this one was killed.
    lifeline, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start_process, (lifeline,))
    pending = deque()
    try:
        while True:
            for chunk in islice(chunks, most_pending - len(pending)):
                pending.append((chunk, None))
                with _interrupts_held():
                    pending[-1] = (chunk, pool.submit(_examine_chunk, chunk, with_pixels))
            if not pending:
                return []
            images = pending[0][1].result()
            pending.popleft()
            yield images
    except BrokenProcessPool:
        return [chunk for chunk, _ in pending]
    finally:
        end.close()
        pool.shutdown(cancel_futures=True)
        lifeline.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Keep ctrl-C from this thread for a moment, and for ever from processes that it starts.

    A terminal sends it to all of them: this one is to end the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_process(lifeline: Connection) -> None:
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    warnings.simplefilter("ignore")  # Pillow's of odd metadata
    PillowImage.MAX_IMAGE_PIXELS = None  # image_check has the limit; here the size is wanted
    PillowImage.core.set_blocks_max(8)  # memory of one image serves the next: 128 MB at most


def _end_with(lifeline: Connection) -> None:
    wait([lifeline])
    os._exit(1)


def _examine_chunk(paths: list[str], with_pixels: bool) -> list[Image]:
    return [examine(path, with_pixels) for path in paths]
