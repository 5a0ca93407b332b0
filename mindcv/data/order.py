"""Which images a process reads in an epoch, and in which order."""

from collections.abc import Iterator

import numpy as np

from ..errors import ConfigError, DataError

BALANCED = "balanced"


def sample_order(
    size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    num_samples: int | None = None,
    num_shards: int | None = None,
    shard_id: int | None = None,
    num_aug_repeats: int = 0,
    even_shards: bool = False,
    selected_round: int = 0,
    batch_size: int = 1,
    balance: np.ndarray | None = None,
) -> np.ndarray:
    """Return the indices that one process reads in one epoch, in order; a pure function.

    Seed and epoch alone determine the order of all images. It is dealt out in whole batches:
    position p goes to shard `p // batch_size % num_shards`. So the batches of an epoch are the same
    for any number of shards; only the rest that does not fill a batch of every shard is divided
    otherwise. Shuffled or even shards have equal sizes, as data-parallel training needs: the last
    ones are filled up from the beginning of the order. Other shards are exact, as evaluation needs.

    Repeated augmentation (Hoffer et al., 2020): the copies of an image are adjacent and dealt out
    one by one, so that they go to different shards. An epoch still has the length of one image set,
    and ends before all images were seen. Source: timm, `data/distributed_sampler.py`,
    `RepeatAugSampler`.

    Args:
        size: images of the dataset.
        shuffle: a new random order every epoch; otherwise the dataset's own.
        num_samples: images of all shards together; if shuffled, different ones every epoch.
        num_aug_repeats: copies of an image; below 2: off. Always shuffled and even.
        even_shards: equal sizes for unshuffled shards too.
        selected_round: with repeated augmentation, the epoch is rounded down to a multiple of it,
            if there are as many images: 256 in timm, 0 (not rounded) in MindCV.
        batch_size: images dealt out together, unless augmentation is repeated.
        balance: labels (size,) of the images: an epoch, as long as ever, draws all classes equally
            often, and the images of a class in turn: those of small ones repeatedly, of large ones
            others in each epoch. Each image is drawn as often as torch's `WeightedRandomSampler`
            with the weight 1 / images of its class draws it on average, but classes are exact.

    Raises:
        ConfigError: num_samples below 1, or with repeated augmentation; balance with repeated
            augmentation, or without shuffle.
        DataError: num_shards without shard_id, or a shard without an image.
    """
    if num_samples is not None and num_samples < 1:
        raise ConfigError(f"num_samples {num_samples}: expected 1 or more; None: all images")
    if (num_shards is None) != (shard_id is None) or (
        num_shards and not 0 <= shard_id < num_shards
    ):
        raise DataError(f"num_shards {num_shards} and shard_id {shard_id} do not go together")
    shards, shard = num_shards or 1, shard_id or 0
    kind = np.int32 if size < 2**31 else np.int64
    if balance is not None and (num_aug_repeats > 1 or not shuffle):
        raise ConfigError(
            "a balanced order is shuffled, and repeats images in its own way; it goes with "
            f"shuffle True and num_aug_repeats 0, not {shuffle} and {num_aug_repeats}"
        )
    if num_aug_repeats > 1:
        if num_samples is not None:
            raise ConfigError(
                f"num_samples {num_samples} does not go with num_aug_repeats {num_aug_repeats}"
            )
        length = -(-size // shards)
        if 0 < selected_round <= size:
            length = size // selected_round * selected_round // shards
        needed = -(-shards * length // num_aug_repeats)
        order = np.resize(_shuffled(size, seed, epoch).astype(kind), needed)
        return np.repeat(order, num_aug_repeats)[: shards * length][shard::shards].copy()
    if balance is not None:
        order = _balanced(balance, (seed, epoch), min(size, num_samples or size)).astype(kind)
    elif shuffle:
        order = _shuffled(size, seed, epoch).astype(kind)
    else:
        order = np.arange(size, dtype=kind)
    order = order[:num_samples]
    whole = len(order) // (shards * batch_size) * shards * batch_size
    batches, rest = order[:whole].reshape(-1, shards, batch_size)[:, shard], order[whole:]
    if shuffle or even_shards:
        share = -(-len(rest) // shards)
        filled = np.concatenate([rest, np.resize(order, share * shards - len(rest))])
        own = filled[shard * share : (shard + 1) * share]
    else:
        own = rest[shard::shards]
    mine = np.concatenate([batches.ravel(), own])
    if not len(mine):
        raise DataError(f"{size} images over {shards} processes leave none for {shard}")
    return mine


def steps_of_epoch(images: int, num_shards: int, batch_size: int, drop_remainder: bool) -> int:
    """Return how many batches each shard trains in an epoch of so many images of all shards.

    With `drop_remainder`, images that do not fill a batch of every shard are left out.
    """
    whole, rest = divmod(images, num_shards * batch_size)
    return whole + (rest > 0 and not drop_remainder)


def _balanced(labels: np.ndarray, entropy: tuple[int, int], length: int) -> np.ndarray:
    order = _shuffled(len(labels), *entropy)
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    present, starts = np.flatnonzero(counts), np.cumsum(counts) - counts
    draws = np.arange(length)
    # In a random order, since the first ones may be drawn once more than the last ones.
    classes = present[_shuffled(len(present), *entropy, 1)][draws % len(present)]
    drawn = by_class[starts[classes] + draws // len(present) % counts[classes]]
    return drawn[_shuffled(length, *entropy, 2)]


def copy_numbers(
    count: int,
    num_shards: int | None = None,
    shard_id: int | None = None,
    num_aug_repeats: int = 0,
    balance: np.ndarray | None = None,
    **sampling,
) -> np.ndarray:
    """Return the copy number, from 0, of each of the first `count` images of `sample_order`.

    Copies are numbered across all shards: no two copies of an image share a number. In a balanced
    order the number is the place in the epoch.
    """
    if balance is not None:
        how = sampling | dict(shuffle=False, even_shards=True)
        size = len(balance)
        return sample_order(size, 0, 0, num_shards=num_shards, shard_id=shard_id, **how)[:count]
    places = np.arange(count) * (num_shards or 1) + (shard_id or 0)
    return places % max(1, num_aug_repeats)


class RepeatAugSampler:
    """MindCV's sampler for repeated augmentation, for a MindSpore dataset of your own.

    `create_dataset` and `sample_order` need none. Orders are MindCV's own: they depend on the epoch
    alone.

    Args:
        selected_round: an epoch is rounded down to a multiple of it; 0: not rounded.
    """

    def __init__(
        self,
        dataset_size: int,
        num_shards: int | None = None,
        rank_id: int | None = None,
        shuffle: bool = True,
        num_repeats: int = 3,
        selected_round: int = 256,
    ):
        self.dataset_size, self.shuffle, self.epoch = dataset_size, shuffle, 0
        self.num_shards, self.rank_id = num_shards or 1, rank_id or 0
        self.num_repeats = int(num_repeats)
        self.num_samples = -(-dataset_size * self.num_repeats // self.num_shards)
        self.total_size = self.num_samples * self.num_shards
        self.num_selected_samples = -(-dataset_size // self.num_shards)
        if selected_round:
            rounded = dataset_size // selected_round * selected_round
            self.num_selected_samples = rounded // self.num_shards

    def __iter__(self) -> Iterator[int]:
        order = np.arange(self.dataset_size)
        if self.shuffle:
            order = np.random.RandomState(self.epoch).permutation(self.dataset_size)
            self.epoch += 1
        dealt = np.resize(np.repeat(order, self.num_repeats), self.total_size)
        mine = dealt[self.rank_id :: self.num_shards]
        return iter(mine[: self.num_selected_samples].tolist())

    def __len__(self) -> int:
        return self.num_selected_samples

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def _shuffled(size: int, *entropy: int) -> np.ndarray:
    """Return a random order of range(size).

    NumPy guarantees the raw numbers of its generators for ever, but not what it derives from them.
    """
    return np.argsort(np.random.PCG64(entropy).random_raw(size), kind="stable")
