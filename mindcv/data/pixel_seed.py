"""Random numbers that belong to an image, not to a thread."""

import zlib

import mindspore.dataset as ds
import numpy as np


def pixel_generator(image: np.ndarray) -> np.random.Generator:
    """Return a generator seeded by the dataset seed and the pixels.

    A draw then depends on the image alone, not on the thread that happens to process it, so that
    runs repeat with any number of workers. The pixels differ from epoch to epoch through the random
    crop before.
    """
    return np.random.default_rng((ds.config.get_seed(), zlib.crc32(np.ascontiguousarray(image))))
