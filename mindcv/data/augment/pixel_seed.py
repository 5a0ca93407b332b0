"""Random numbers that belong to an image and to a pass over the dataset, not to a thread."""

import copy
import zlib

import mindspore.dataset as ds
import numpy as np


class PixelSeeded:
    """Base of the Python operations: their draws depend on seed, pass and pixels alone.

    Not on the thread that happens to process the image, so that runs repeat with any number of
    workers. In a `Dataset.map` of one's own nothing counts the passes, and equal images get equal
    draws in every epoch: `create_loader` counts, by `OfPass`.

    Attributes:
        seed: None: MindSpore's, as it is when an image comes.
        split: number of the augmentation split; the splits of an image start from equal pixels.
        epoch, copy: of the image, see `PASS`.
    """

    seed: int | None = None
    split = 0
    epoch = 0
    copy = 0

    def generator(self, image: np.ndarray) -> np.random.Generator:
        """Return the generator for this image, of any shape, uint8 or float32."""
        seed = ds.config.get_seed() if self.seed is None else self.seed
        checksum = zlib.crc32(np.ascontiguousarray(image))
        # The first copy draws as an image without copies does.
        of_copy = (self.copy,) if self.copy else ()
        return np.random.default_rng((seed, self.epoch, self.split, checksum, *of_copy))

    def seeded(self, seed: int | None, epoch: int, split: int = 0, copy_: int = 0) -> "PixelSeeded":
        """Return a copy that draws by these."""
        other = copy.copy(self)
        other.seed, other.epoch, other.split, other.copy = seed, epoch, split, copy_
        return other


class OfPass:
    """Let a Python operation draw for the pass that each image belongs to.

    Args:
        operation: maps one image to another.
        split: see `PixelSeeded`.
    """

    def __init__(self, operation: PixelSeeded, split: int = 0):
        self.operation, self.split = operation, split
        self.seed = ds.config.get_seed()

    def __call__(self, image: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take and return the columns image and `PASS`."""
        epoch, number = place.tolist()
        return self.operation.seeded(self.seed, epoch, self.split, number)(image), place
