"""The order of the images: a pure function, split between shards without gaps or bias."""

import numpy as np
import pytest

from mindcv.data.order import copy_numbers, sample_order
from mindcv.errors import ConfigError, DataError


def parts(size: int, shards: int, shuffle: bool, epoch: int = 0, **named) -> list[list[int]]:
    return [
        sample_order(size, 42, epoch, shuffle, None, shards, shard, **named).tolist()
        for shard in range(shards)
    ]


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 257])
def test_unshuffled_shards_cover_the_set_without_overlap_or_padding(size, shards):
    for shard in range(min(size, shards)):
        mine = sample_order(size, 42, 7, False, None, shards, shard)
        assert mine.tolist() == list(range(shard, size, shards))


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_an_epoch_reads_each_image_once_in_shards_of_equal_size(shards):
    for size in (8, 256, 1000):
        read = parts(size, shards, True, epoch=3)
        assert sorted(sum(read, [])) == list(range(size))
    uneven = parts(9, shards, True)
    assert {len(part) for part in uneven} == {-(-9 // shards)}
    assert set(sum(uneven, [])) == set(range(9))


def test_unshuffled_shards_are_filled_up_where_they_must_be_even():
    even = [sample_order(9, 42, 0, False, None, 4, s, even_shards=True).tolist() for s in range(4)]
    assert even == [[0, 4, 8], [1, 5, 0], [2, 6, 1], [3, 7, 2]]
    assert sample_order(9, 42, 0, False, 3, 4, 3, even_shards=True).tolist() == [0]


def test_the_shards_deal_out_one_order():
    whole = sample_order(1000, 42, 5, True)
    for shards in (2, 4):
        dealt = np.stack(parts(1000, shards, True, epoch=5), 1).ravel()
        np.testing.assert_array_equal(dealt, whole)


def test_the_order_is_the_same_for_ever():
    """Recorded once: a new version of NumPy or of this library must not change it."""
    assert sample_order(10, 42, 0, True).tolist() == [4, 8, 1, 9, 3, 6, 0, 7, 2, 5]
    assert sample_order(10, 42, 1, True).tolist() == [1, 2, 8, 5, 3, 9, 6, 0, 4, 7]


def test_seed_and_epoch_change_the_order_and_nothing_else_does():
    def order(seed=42, epoch=0):
        return tuple(sample_order(100, seed, epoch, True).tolist())

    assert order() == order()
    assert len({order(), order(seed=43), order(epoch=1), order(seed=43, epoch=1)}) == 4


def test_orders_are_spread_evenly():
    """Over the epochs, each image takes each place about equally often."""
    counts = np.zeros((8, 8))
    for epoch in range(4000):
        counts[np.arange(8), sample_order(8, 1, epoch, True)] += 1
    chi_squared = ((counts - 500) ** 2 / 500).sum()
    assert chi_squared < 49 + 5 * (2 * 49) ** 0.5


def test_an_order_takes_4_bytes_an_image():
    order = sample_order(100_000, 42, 0, True)
    assert order.dtype == np.int32 and order.flags.owndata


def test_num_samples_takes_other_images_every_epoch():
    epochs = [sample_order(100, 42, epoch, True, 10).tolist() for epoch in range(3)]
    assert [len(set(epoch)) for epoch in epochs] == [10, 10, 10]
    assert len(set(map(frozenset, epochs))) == 3
    assert len(sample_order(100, 42, 0, True, 10, 4, 1)) == 3
    assert len(sample_order(100, 42, 0, True, 1000, 4, 1)) == 25
    assert sample_order(100, 42, 0, False, 10, 4, 1).tolist() == [1, 5, 9]


@pytest.mark.parametrize("sharding", [(2, None), (None, 0), (2, 2), (2, -1)])
def test_shards_that_do_not_go_together_are_refused(sharding):
    with pytest.raises(DataError, match="do not go together"):
        sample_order(10, 42, 0, True, None, *sharding)


def test_a_shard_without_an_image_is_refused():
    with pytest.raises(DataError, match="3 images over 4 processes leave none for 3"):
        sample_order(3, 42, 0, False, None, 4, 3)


# Balanced orders

LABELS = np.repeat([0, 1, 3, 4], [3, 10, 80, 7])  # class 2 has no image


def balanced(epoch: int = 0, seed: int = 42, labels=LABELS, **named) -> np.ndarray:
    named = dict(shuffle=True, balance=labels) | named
    return sample_order(len(labels), seed, epoch, **named)


def test_a_balanced_epoch_draws_the_classes_equally_and_their_images_in_turn():
    for length in (100, 98, 41):
        order = balanced(num_samples=length)
        of_class = np.bincount(LABELS[order])
        assert len(order) == length and of_class[2] == 0
        assert set(of_class[[0, 1, 3, 4]]) <= {length // 4, -(-length // 4)}
        for label in (0, 1, 3, 4):
            draws = np.bincount(order, minlength=100)[LABELS == label]
            assert draws.max() - draws.min() <= 1


def test_images_are_drawn_as_often_as_by_the_weights_of_a_weighted_random_sampler():
    """Expected draws an epoch: size * weight / sum of weights, the weight 1 / images of its class.

    The variance of a class's extra draw and of an image's turn is below that of a coin.
    """
    epochs, length = 4000, 98
    weights = 1 / np.bincount(LABELS)[LABELS]
    expected = length * weights / weights.sum()
    found = sum(
        np.bincount(balanced(epoch, num_samples=length), minlength=100) for epoch in range(epochs)
    )
    assert np.abs(found / epochs - expected).max() < 5 * 0.5 / np.sqrt(epochs)
    places = np.array([balanced(epoch)[0] for epoch in range(epochs)])
    first = np.bincount(LABELS[places], minlength=5)[[0, 1, 3, 4]] / epochs
    assert np.abs(first - 0.25).max() < 5 * 0.433 / np.sqrt(epochs)


def test_a_balanced_order_is_a_pure_function_dealt_out_in_batches():
    whole = balanced(5)
    assert (balanced(5) == whole).all()
    others = (balanced(6), balanced(5, seed=43))
    assert not any((other == whole).all() for other in others)
    assert set(balanced(5)) != set(balanced(6))  # the large class shows other images
    for shards in (2, 5):
        mine = [
            balanced(5, num_shards=shards, shard_id=shard, batch_size=10) for shard in range(shards)
        ]
        dealt = np.stack([part.reshape(-1, 10) for part in mine], 1)
        np.testing.assert_array_equal(dealt.ravel(), whole)
        numbers = [
            copy_numbers(
                len(mine[shard]),
                shuffle=True,
                balance=LABELS,
                num_shards=shards,
                shard_id=shard,
                batch_size=10,
            )
            for shard in range(shards)
        ]
        pairs = set(zip(np.concatenate(mine).tolist(), np.concatenate(numbers).tolist()))
        assert len(pairs) == 100  # no two draws of an image have one number
        assert pairs == set(zip(whole.tolist(), range(100)))
    uneven = [balanced(num_shards=3, shard_id=shard, batch_size=8) for shard in range(3)]
    assert {len(part) for part in uneven} == {34}


def test_the_balanced_order_is_the_same_for_ever():
    """Recorded once: a new version of NumPy or of this library must not change it."""
    assert balanced(labels=np.array([0, 0, 0, 0, 0, 1, 1, 2])).tolist() == [7, 5, 7, 6, 3, 1, 4, 7]


@pytest.mark.parametrize("wrong", [{"shuffle": False}, {"num_aug_repeats": 3}])
def test_what_contradicts_a_balanced_order_is_an_error(wrong):
    with pytest.raises(ConfigError, match="a balanced order is shuffled"):
        balanced(**wrong)
