"""All images of a dataset, examined by several processes."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from PIL import Image as PillowImage

from ...process.cores import available_cores
from ...process.pool import worker_pool
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
    pending = deque()
    try:
        with worker_pool(workers, _prepare) as submit:
            while True:
                for chunk in islice(chunks, most_pending - len(pending)):
                    pending.append((chunk, None))  # not lost if the pool is broken already
                    pending[-1] = (chunk, submit(_examine_chunk, chunk, with_pixels))
                if not pending:
                    return []
                images = pending[0][1].result()
                pending.popleft()
                yield images
    except BrokenProcessPool:
        return [chunk for chunk, _ in pending]


def _prepare() -> None:
    warnings.simplefilter("ignore")  # Pillow's of odd metadata
    PillowImage.MAX_IMAGE_PIXELS = None  # image_check has the limit; here the size is wanted
    PillowImage.core.set_blocks_max(8)  # memory of one image serves the next: 128 MB at most


def _examine_chunk(paths: list[str], with_pixels: bool) -> list[Image]:
    return [examine(path, with_pixels) for path in paths]
