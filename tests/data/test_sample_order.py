"""The order of the images: a pure function, split between shards without gaps or bias."""

import numpy as np
import pytest

from mindcv.data.order import sample_order
from mindcv.errors import DataError


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
