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
        seed: None: MindSpore's, as it is when an image comes.
        epoch: number of the epoch, from 0; without `EpochSeeds` it stays as it is.
        split: number of the augmentation split; the splits of an image start from equal pixels.
    """

    seed: int | None = None
    epoch = 0
    split = 0

    def generator(self, image: np.ndarray) -> np.random.Generator:
        """Return the generator for this image, of any shape, uint8 or float32."""
        seed = ds.config.get_seed() if self.seed is None else self.seed
        checksum = zlib.crc32(np.ascontiguousarray(image))
        return np.random.default_rng((seed, self.epoch, self.split, checksum))

    def seeded(self, seed: int, epoch: int, split: int = 0) -> "PixelSeeded":
        """Return a copy that draws by these."""
        other = copy.copy(self)
        other.seed, other.epoch, other.split = seed, epoch, split
        return other


class EpochSeeds(ds.DSCallback):
    """Tell the operations of one `Dataset.map` which epoch it is.

    MindSpore lets the workers finish the epoch before it calls. Workers that are processes hold
    copies of the operations and are not reached: there the epoch stays the first one.

    Args:
        operations: the operations; those that are no `PixelSeeded` are passed over.
        first_epoch: number of the first epoch.
    """

    def __init__(self, operations: Sequence, first_epoch: int = 0):
        super().__init__()
        self.operations = [entry for entry in operations if isinstance(entry, PixelSeeded)]
        self.first_epoch = first_epoch

    def ds_epoch_begin(self, ds_run_context) -> None:
        for operation in self.operations:
            operation.epoch = self.first_epoch + ds_run_context.cur_epoch_num - 1
