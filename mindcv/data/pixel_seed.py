"""Random numbers that belong to an image, not to a thread."""

import copy
import zlib
from collections.abc import Sequence

import mindspore.dataset as ds
import numpy as np


class PixelSeeded:
    """Base of the Python operations: their draws depend on seed, epoch and pixels alone.

    Not on the thread that happens to process the image, so that runs repeat with any number of
    workers. Only equal images of one epoch get equal draws: repeated ones that no random crop told
    apart.

    Attributes:
        epoch: number of the epoch; `EpochSeeds` keeps it, without it it stays 0.
        split: number of the augmentation split; the splits of an image start from equal pixels.
    """

    epoch = 0
    split = 0

    def generator(self, image: np.ndarray) -> np.random.Generator:
        """Return the generator for this image, of any shape, uint8 or float32."""
        checksum = zlib.crc32(np.ascontiguousarray(image))
        return np.random.default_rng((ds.config.get_seed(), self.epoch, self.split, checksum))

    def for_split(self, split: int) -> "PixelSeeded":
        """Return a copy that draws otherwise."""
        other = copy.copy(self)
        other.split = split
        return other


class EpochSeeds(ds.DSCallback):
    """Tell the operations of one `Dataset.map` which epoch it is.

    MindSpore lets the workers finish the epoch before it calls. Workers that are processes hold
    copies of the operations and are not reached: there the epoch stays 0.
    """

    def __init__(self, operations: Sequence):
        super().__init__()
        self.operations = [entry for entry in operations if isinstance(entry, PixelSeeded)]

    def ds_epoch_begin(self, ds_run_context) -> None:
        for operation in self.operations:
            operation.epoch = ds_run_context.cur_epoch_num
