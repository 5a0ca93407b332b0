"""Which images a process reads, and in which order."""

import mindspore.dataset as ds
import numpy as np

from ..errors import DataError


def sampling_arguments(
    size: int,
    shuffle: bool,
    num_samples: int | None,
    num_shards: int | None,
    shard_id: int | None,
    num_aug_repeats: int,
) -> dict:
    """Return the arguments that make a MindSpore dataset of `size` images read the right ones.

    Shuffled shards have equal sizes, as data-parallel training needs: MindSpore fills the last ones
    up. Unshuffled shards are exact, as evaluation needs: image i goes to shard i % num_shards, each
    image to one shard only, in order.

    Raises:
        DataError: num_shards without shard_id, or a shard without an image.
    """
    if (num_shards is None) != (shard_id is None) or (
        num_shards and not 0 <= shard_id < num_shards
    ):
        raise DataError(f"num_shards {num_shards} and shard_id {shard_id} do not go together")
    if num_aug_repeats > 1:
        sampler = RepeatAugSampler(size, num_shards or 1, shard_id or 0, num_aug_repeats)
        return {"sampler": sampler}
    if shuffle:
        per_shard = num_samples and max(1, num_samples // (num_shards or 1))
        return dict(shuffle=True, num_samples=per_shard, num_shards=num_shards, shard_id=shard_id)
    mine = range(shard_id or 0, min(size, num_samples or size), num_shards or 1)
    if not mine:
        raise DataError(f"{size} images over {num_shards} processes leave none for {shard_id}")
    return {"sampler": ds.SubsetSampler(list(mine))}


class RepeatAugSampler(ds.Sampler):
    """Repeated augmentation (Hoffer et al., 2020): copies of an image land in the same epoch.

    Each epoch the images are shuffled and repeated one after the other; the copies go to different
    shards. An epoch keeps the length of one image set, from 256 images on in whole 256s: it ends
    before all images were seen. Source of the epoch's length: timm, `data/distributed_sampler.py`,
    `RepeatAugSampler`.
    """

    def __init__(self, size: int, num_shards: int, shard_id: int, repeats: int):
        self.size, self.num_shards, self.shard_id = size, num_shards, shard_id
        self.repeats = repeats
        self.length = size // 256 * 256 // num_shards if size >= 256 else -(-size // num_shards)
        self.epoch = 0
        self.seed = ds.config.get_seed()
        super().__init__(num_samples=self.length)

    def __iter__(self):
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        self.epoch += 1
        repeated = np.resize(np.repeat(order, self.repeats), self.num_shards * self.length)
        return iter(repeated[self.shard_id :: self.num_shards].tolist())

    def __len__(self):
        return self.length
