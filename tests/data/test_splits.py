"""Augmentation splits: batches of clean and augmented copies."""

import numpy as np
import pytest
from pictures import batches_of, png, random_images, rows_of

from mindcv.data import create_loader, create_transforms

WHOLE = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, normalize_on_device=True)

pytestmark = pytest.mark.usefixtures("fixed_seed")


def split_batches(workers=1, epochs=1, policy="augmix-m9", splits=3, **arguments):
    images = [png(image) for image in random_images(10, 24)]
    transform = create_transforms("", 24, True, policy, separate=True, **{**WHOLE, **arguments})
    loader = create_loader(
        rows_of(images),
        *(4, True, True),
        transform=transform,
        num_parallel_workers=workers,
        separate=True,
        aug_splits=splits,
    )
    assert loader.get_dataset_size() == 2
    return batches_of(loader, epochs)


@pytest.mark.parametrize("splits", [2, 3, 4])
def test_a_batch_holds_the_clean_images_first_and_then_each_split(splits):
    originals = random_images(10, 24)
    for number, batch in enumerate(split_batches(splits=splits)):
        assert batch["image"].shape == (4 * splits, 24, 24, 3) and batch["image"].dtype == np.uint8
        rows = list(range(4 * number, 4 * number + 4))
        assert batch["label"].tolist() == rows * splits and batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["image"][:4], originals[rows])
        parts = batch["image"].reshape(splits, 4, -1)
        for first in range(splits):
            for second in range(first):
                assert (parts[first] != parts[second]).any(1).sum() >= 3


def test_create_loader_makes_mindcvs_three_splits_where_none_are_named():
    transform = create_transforms("", 24, True, "augmix", separate=True)
    loader = create_loader(
        rows_of([png(image) for image in random_images(4, 24)]),
        *(2, False, True),
        transform=transform,
        separate=True,
    )
    (first, _) = batches_of(loader)
    assert first["image"].shape == (6, 3, 24, 24) and first["image"].dtype == np.float32
    assert first["label"].tolist() == [0, 1, 0, 1, 0, 1]


def test_splits_share_the_crop_and_the_flip():
    """With a policy that does nothing, only crop and flip could make the splits differ."""
    geometry = dict(scale=(0.2, 0.5), hflip=0.5)
    for batch in split_batches(policy="randaug-p0", **geometry):
        clean, first, second = np.split(batch["image"], 3)
        np.testing.assert_array_equal(first, clean)
        np.testing.assert_array_equal(second, clean)


@pytest.mark.parametrize(
    "arguments",
    [dict(policy=None, color_jitter=0.4), dict(policy=None, lighting=1.0)],
    ids=["jitter", "lighting"],
)
def test_colours_differ_between_the_splits_too(arguments):
    for batch in split_batches(**arguments):
        clean, first, second = np.split(batch["image"], 3)
        for one, other in ((clean, first), (clean, second), (first, second)):
            assert (one != other).any((1, 2, 3)).all()


def test_splits_repeat_with_any_number_of_workers_and_change_with_the_epoch():
    arguments = dict(epochs=2, re_prob=0.5, re_value="random")
    one, two = split_batches(workers=1, **arguments), split_batches(workers=2, **arguments)
    for batch, same in zip(one, two):
        np.testing.assert_array_equal(batch["image"], same["image"])
    for batch, later in zip(one[:2], one[2:]):
        assert (batch["image"][4:] != later["image"][4:]).any((1, 2, 3)).sum() >= 6


def test_evaluation_has_no_splits():
    """MindCV's users pass `separate` to both."""
    transform = create_transforms("", 16, False, separate=True, normalize_on_device=True)
    loader = create_loader(
        rows_of([png(image) for image in random_images(4, 24)]),
        4,
        transform=transform,
        separate=True,
    )
    (batch,) = batches_of(loader)
    assert batch["image"].shape == (4, 16, 16, 3)


@pytest.mark.parametrize(
    "arguments", [dict(aug_splits=1), dict(mixup=0.2), dict(cutmix=1.0), dict(transform=[])]
)
def test_what_cannot_be_split_is_refused(arguments):
    transform = create_transforms("", 16, True, "augmix", separate=True)
    with pytest.raises(ValueError, match="separate needs"):
        create_loader(
            rows_of([png(image) for image in random_images(4, 24)]),
            *(2, True, True),
            **{"transform": transform, "separate": True, **arguments},
        )
