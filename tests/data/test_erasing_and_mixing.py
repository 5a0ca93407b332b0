"""Random erasing, mixup and CutMix against their definitions and timm (golden/make_mixup.py)."""

import math
from pathlib import Path
from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor
from pictures import batches_of, png, random_images, rows_of, transformed

from mindcv.data import Normalize, channel_statistics, create_loader, create_transforms
from mindcv.data.augment.batch_operations import BatchMap, Mixing
from mindcv.data.augment.pixel_operations import RandomErasing
from mindcv.loss import create_loss

MEAN, STD = channel_statistics("imagenet")
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mixup.npz")


pytestmark = pytest.mark.usefixtures("fixed_seed")


# Random erasing


def erased_boxes(images: np.ndarray, **arguments) -> tuple[list, int]:
    """Return (top, left, height, width) of each erased rectangle, and the unchanged images."""
    defaults = dict(prob=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0, max_attempts=10)
    erasing = RandomErasing(**{**defaults, **arguments}, mean=MEAN, std=STD)
    boxes, untouched = [], 0
    for image in images:
        changed = (erasing(image) != image).any(0)
        if not changed.any():
            untouched += 1
            continue
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.99
        boxes.append((rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1))
    return boxes, untouched


def planar(count: int, side: int) -> np.ndarray:
    return np.ascontiguousarray(random_images(count, side).transpose(0, 3, 1, 2))


def test_erased_area_and_aspect_fill_their_ranges():
    boxes, untouched = erased_boxes(planar(600, 96))
    _, _, height, width = np.array(boxes, float).T
    area, aspect = height * width / 96**2, height / width
    assert untouched == 0
    assert 0.015 < area.min() < 0.04 and 0.31 < area.max() < 0.345
    assert 0.27 < aspect.min() < 0.35 and 2.9 < aspect.max() < 3.6
    assert abs(area.mean() - 0.175) < 4 * 0.31 / math.sqrt(12 * 600)
    log_aspect = np.log(aspect)
    spread = math.log(3.3 / 0.3) / math.sqrt(12)
    assert abs(log_aspect.mean() - math.log(0.99) / 2) < 4 * spread / math.sqrt(600)
    assert abs(log_aspect.std() - spread) < 0.06


def test_erased_boxes_reach_every_border():
    boxes, _ = erased_boxes(planar(400, 24), scale=(0.3, 0.3), ratio=(1.0, 1.0))
    top, left, height, width = np.array(boxes).T
    assert set(height) == set(width) == {13}
    assert (top.min(), top.max()) == (left.min(), left.max()) == (0, 24 - 13)


@pytest.mark.parametrize("prob", [0.0, 0.1, 0.25, 1.0])
def test_erasing_has_its_probability(prob):
    boxes, _ = erased_boxes(planar(800, 32), prob=prob)
    assert abs(len(boxes) - 800 * prob) <= 4 * math.sqrt(800 * prob * (1 - prob))


def test_rectangle_that_never_fits_leaves_the_image_alone():
    boxes, untouched = erased_boxes(planar(20, 32), scale=(1.0, 1.0), ratio=(3.0, 3.3))
    assert not boxes and untouched == 20


def test_constant_fill_is_the_mean_colour_in_both_units():
    image = png(np.full((32, 32, 3), (255, 0, 255), np.uint8))
    erase = dict(re_prob=1.0, re_scale=(0.5, 0.5), re_ratio=(1.0, 1.0), hflip=0.0)
    geometry = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    (raw,) = transformed([image], "", 32, True, normalize_on_device=True, **erase, **geometry)
    (host,) = transformed([image], "", 32, True, **erase, **geometry)
    device = Normalize(MEAN, STD)(Tensor(raw[None])).asnumpy()[0]
    assert raw.shape == (32, 32, 3)
    for result, tolerance in ((host, 0.0), (device, 0.5 / min(STD))):
        filled = np.abs(result[0] - result[0, :, :].max()) > 0.5
        assert filled.sum() == round(math.sqrt(0.5 * 32 * 32)) ** 2
        assert np.abs(result[:, filled]).max() <= tolerance


def test_random_fill_is_standard_normal_after_normalisation():
    image = np.full((3, 64, 64), 255, np.uint8)
    common, fill = (1.0, (0.9, 0.9), (1.0, 1.0)), dict(value="random", max_attempts=10)
    host = RandomErasing(*common, **fill, mean=(0.0,) * 3, std=(1.0,) * 3)(image.astype(np.float32))
    draws = host[host != 255]
    assert draws.dtype == np.float32 and len(draws) == 3 * 61**2
    assert abs(draws.mean()) < 4 / math.sqrt(len(draws))
    assert abs(draws.std() - 1) < 4 / math.sqrt(2 * len(draws))
    assert np.abs(draws).max() > 3
    raw = RandomErasing(*common, **fill, mean=MEAN, std=STD)(image)
    assert raw.dtype == np.uint8
    box = (raw != 255).any(0)
    for channel, mean, std in zip(raw, MEAN, STD):
        # 0-255 lies 1.8 to 2.6 deviations from the mean: the clipped tails hold 1 to 4 percent.
        values = (channel[box] - mean) / std
        assert abs(np.median(values)) < 0.06
        assert abs(np.percentile(values, 84) - 1) < 0.08
        assert values.min() >= -mean / std - 1e-6


def test_erasing_depends_on_the_image_and_the_seed_alone():
    first, second = planar(2, 32)
    fill = dict(value="random", max_attempts=10, mean=MEAN, std=STD)
    erasing = RandomErasing(1.0, (0.1, 0.3), (0.3, 3.3), **fill)
    before = first.copy()
    once, other = erasing(first), erasing(second)
    np.testing.assert_array_equal(erasing(first), once)
    np.testing.assert_array_equal(first, before)
    assert ((once != first) != (other != second)).any()
    ds.config.set_seed(43)
    assert (erasing(first) != once).any()


@pytest.mark.parametrize("on_device", [True, False])
def test_a_loader_erases_batch_by_batch_alike_for_any_number_of_workers(on_device):
    images = [png(np.full((24, 24, 3), 255, np.uint8))] * 64
    erase = dict(re_prob=0.25, re_scale=(0.2, 0.3), re_value="random", hflip=0.0)

    def run(workers, shards=(1, 0), **mixing):
        transform = create_transforms("", 24, True, normalize_on_device=on_device, **erase)
        loader = create_loader(
            *(rows_of(images), 16, True, True),
            transform=transform,
            num_parallel_workers=workers,
            num_shards=shards[0],
            shard_id=shards[1],
            **mixing,
        )
        batches = [batch["image"] for batch in batches_of(loader, epochs=2)]
        return np.concatenate(batches)

    one = run(1)
    np.testing.assert_array_equal(one, run(2))
    (white,) = transformed(images[:1], "", 24, normalize_on_device=on_device)
    erased = (one != white).reshape(128, -1).any(1)
    assert abs(erased.sum() - 32) <= 4 * math.sqrt(128 * 0.25 * 0.75)
    # Other draws for each image, each batch, each epoch and each shard.
    assert len({image.tobytes() for image in one[erased]}) == erased.sum()
    # Batch i of shard s of 4 draws what batch 4 i + s of a single process does: here i = 0, s = 1.
    other = run(1, shards=(4, 1))
    assert (one[:16] != other[:16]).any()
    np.testing.assert_array_equal(one[16:32], other[:16])
    # Mixing comes after: pasted images bring their erased rectangles along.
    mixed = run(1, mixup=0.8, num_classes=64)
    assert (mixed != white).reshape(128, -1).any(1).sum() > erased.sum()


# Mixup and CutMix


def mixed_by(
    mixing: Mixing, images: list, labels: list, *, epoch: int = 1, batch: int = 0, ranks=(1, 0)
) -> tuple[list, list]:
    """Mix as the pipeline does at this epoch, batch and (number of shards, shard)."""
    place, info = np.array((epoch, 0)), SimpleNamespace(get_batch_num=lambda: batch)
    shards = dict(num_shards=ranks[0], shard_id=ranks[1])
    return BatchMap(mixing=mixing, **shards).change(images, labels, [place], info)


def plain_batch(count: int = 6, side: int = 16, dtype=np.uint8) -> tuple[list, list]:
    """Return images filled with 20 * index, and the indices as labels."""
    images = [np.full((3, side, side), 20 * index, dtype) for index in range(count)]
    return images, [np.int32(index) for index in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cutmix_labels_share_exactly_as_the_pixels_do(dtype):
    mix = Mixing(0.0, 1.0, 1.0, 6)
    shares = []
    for batch in range(60):
        images, labels = mixed_by(mix, *plain_batch(dtype=dtype), batch=batch)
        for index, (image, label) in enumerate(zip(images, labels)):
            assert image.dtype == dtype and label.dtype == np.float32
            assert set(np.unique(image)) <= {20 * index, 20 * (5 - index)}
            own = float((image == 20 * index).mean())
            assert label[index] == np.float32(own) and label[5 - index] == np.float32(1 - own)
            assert label.sum() == 1
            pasted = image[0] == 20 * (5 - index)
            assert pasted.sum() == pasted.any(0).sum() * pasted.any(1).sum()  # a rectangle
        shares.append(float(labels[0][0]))
    assert min(shares) < 0.4 and max(shares) > 0.9 and len(set(shares)) > 30


@pytest.mark.parametrize("dtype, tolerance", [(np.uint8, 0.5), (np.float32, 1e-4)])
def test_mixup_blends_images_as_labels(dtype, tolerance):
    mix = Mixing(0.8, 0.0, 1.0, 6)
    for batch in range(30):
        images, labels = mixed_by(mix, *plain_batch(dtype=dtype), batch=batch)
        for index, (image, label) in enumerate(zip(images, labels)):
            assert image.dtype == dtype
            share = float(label[index])
            assert label[5 - index] == pytest.approx(1 - share, abs=1e-6)
            expected = share * 20 * index + (1 - share) * 20 * (5 - index)
            assert np.abs(image.astype(float) - expected).max() <= tolerance + 1e-4


class Drawn:
    """A generator that always mixes, with this share and this centre of the box."""

    def __init__(self, share: float, *center: float):
        self.share, self.center = share, iter(center)

    def random(self):
        return 0.0

    def beta(self, a, b):
        return self.share

    def integers(self, high):
        return int(next(self.center))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("case", range(6))
def test_mixing_with_given_draws_equals_timms(monkeypatch, case, dtype):
    kind, draws = str(GOLDEN[f"{case}/kind"]), GOLDEN[f"{case}/draws"]
    images = GOLDEN["images"]
    if dtype == "float32":
        images = images.astype(np.float32) / 7
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Drawn(*draws))
    mix = Mixing(
        *(float(kind == "mixup"), float(kind == "cutmix")),
        prob=float(kind != "none"),
        num_classes=7,
    )
    mixed, targets = mixed_by(mix, list(images), list(GOLDEN["labels"]))
    np.testing.assert_array_equal(np.stack(mixed), GOLDEN[f"{case}/{dtype}"])
    np.testing.assert_allclose(np.stack(targets), GOLDEN[f"{case}/targets"], rtol=0, atol=6e-8)


@pytest.mark.parametrize("name", ["CE", "BCE"])
@pytest.mark.parametrize("case", range(6))
def test_losses_smooth_mixed_labels_as_timm_mixes_smoothed_ones(case, name):
    loss = create_loss(name, label_smoothing=0.1)
    found = loss(Tensor(GOLDEN["logits"]), Tensor(GOLDEN[f"{case}/targets"]))
    assert float(found) == pytest.approx(float(GOLDEN[f"{case}/{name}"]), rel=1e-6)


def test_mixing_ends_after_its_epoch_and_labels_stay_soft():
    images = [png(image) for image in random_images(8, 24)]
    loader = create_loader(
        rows_of(images),
        *(4, True, True, 0.8, 1.0, 1.0, 10),
        transform=create_transforms("", 16, normalize_on_device=True),
        mixup_off_epoch=2,
    )
    plain = create_loader(
        rows_of(images), 4, transform=create_transforms("", 16, normalize_on_device=True)
    )
    unmixed = [batch["image"] for batch in batches_of(plain)]
    batches = batches_of(loader, epochs=4)
    for index, batch in enumerate(batches):
        assert batch["label"].shape == (4, 10) and batch["label"].dtype == np.float32
        np.testing.assert_allclose(batch["label"].sum(1), 1, atol=1e-6)
        is_own = np.array_equal(np.sort(batch["label"], 1)[:, -1], np.ones(4))
        same = np.array_equal(batch["image"], unmixed[index % 2])
        assert same == is_own == (index >= 4)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_mixup_share_has_the_beta_distribution(alpha):
    mix = Mixing(alpha, 0.0, 1.0, 2)
    images, labels = plain_batch(2, 1)
    draws = (mixed_by(mix, images, labels, batch=batch) for batch in range(1500))
    shares = np.array([labels[0][0] for _, labels in draws])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * math.sqrt(variance / 1500)
    assert abs(shares.var() - variance) < 0.12 * variance


@pytest.mark.parametrize("switch_prob", [0.0, 0.2, 0.5, 1.0])
def test_cutmix_takes_its_share_of_the_batches(switch_prob):
    mix = Mixing(2.0, 1.0, 1.0, 6, switch_prob)
    cut = 0
    for batch in range(300):
        images, _ = mixed_by(mix, *plain_batch(), batch=batch)
        cut += set(np.unique(images[0])) <= {0, 100}
    # A blend may round to a pure image.
    assert abs(cut - 300 * switch_prob) <= 4 * math.sqrt(300 * switch_prob * (1 - switch_prob)) + 3


def test_switch_prob_is_half_where_it_is_left_out():
    assert Mixing(0.8, 1.0, 1.0, 6).switch_prob == 0.5


@pytest.mark.parametrize("prob", [0.0, 0.3])
def test_mixing_has_its_probability(prob):
    mix = Mixing(2.0, 0.0, prob, 6)
    mixed = 0
    for batch in range(300):
        images, labels = mixed_by(mix, *plain_batch(), batch=batch)
        mixed += labels[0][0] != 1.0
        if labels[0][0] == 1.0:
            np.testing.assert_array_equal(images, plain_batch()[0])
            np.testing.assert_array_equal(labels, np.eye(6, dtype=np.float32))
    assert abs(mixed - 300 * prob) <= 4 * math.sqrt(300 * prob * (1 - prob))


def test_mixing_repeats_for_the_same_seed_epoch_and_batch_whatever_the_shards():
    def share(epoch=1, batch=2, ranks=(1, 0)):
        images, labels = plain_batch()
        place = dict(epoch=epoch, batch=batch, ranks=ranks)
        return float(mixed_by(Mixing(0.8, 0.0, 1.0, 6), images, labels, **place)[1][0][0])

    assert share() == share()
    assert share(batch=0, ranks=(3, 2)) == share(batch=1, ranks=(2, 0)) == share()
    others = [share(epoch=2), share(batch=3), share(ranks=(2, 1))]
    ds.config.set_seed(43)
    others.append(share())
    ds.config.set_seed(42)
    assert len({share(), *others}) == 5


def test_one_hot_labels_are_mixed_as_indices_are():
    images, labels = plain_batch()
    mix = Mixing(0.8, 0.0, 1.0, 6)
    one_hot = list(np.eye(6, dtype=np.int32)[labels])
    expected, found = (mixed_by(mix, images, kind)[1] for kind in (labels, one_hot))
    np.testing.assert_array_equal(found, expected)


def test_odd_batch_keeps_its_middle_image():
    images, labels = mixed_by(Mixing(0.8, 0.0, 1.0, 5), *plain_batch(5))
    np.testing.assert_array_equal(images[2], plain_batch(5)[0][2])
    assert labels[2].tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("mixing", [dict(mixup=0.8), dict(cutmix=1.0)], ids=str)
def test_mixup_or_cutmix_alone_is_enough_to_mix(mixing):
    images = [png(image) for image in random_images(32, 16)]
    transform = create_transforms("", 16, normalize_on_device=True)
    loader = create_loader(
        rows_of(images), 4, is_training=True, num_classes=32, transform=transform, **mixing
    )
    shares = np.concatenate([batch["label"].max(1) for batch in batches_of(loader)])
    assert (shares < 1).mean() > 0.5  # cutmix's box may have no area


@pytest.mark.parametrize("mixup, cutmix", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixing_loader_gives_soft_labels_alike_for_any_number_of_workers(mixup, cutmix):
    images = [png(image) for image in random_images(8, 24)]
    transform = create_transforms("", 16, normalize_on_device=True)

    def run(workers):
        loader = create_loader(
            rows_of(images),
            *(4, True, True, mixup, cutmix, 1.0),
            num_classes=10,
            transform=transform,
            num_parallel_workers=workers,
        )
        return batches_of(loader, epochs=2)

    first, second = run(1), run(2)
    for batch, same in zip(first, second):
        assert batch["image"].shape == (4, 16, 16, 3) and batch["image"].dtype == np.uint8
        assert batch["label"].shape == (4, 10) and batch["label"].dtype == np.float32
        np.testing.assert_allclose(batch["label"].sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(batch["image"], same["image"])
        np.testing.assert_array_equal(batch["label"], same["label"])
    assert len({batch["label"].tobytes() for batch in first}) == 4  # other draws each epoch


def test_evaluation_batches_are_never_mixed():
    images = [png(image) for image in random_images(4, 24)]
    loader = create_loader(
        rows_of(images), 4, mixup=0.8, cutmix=1.0, cutmix_prob=1.0, transform=create_transforms()
    )
    (batch,) = batches_of(loader)
    assert batch["label"].dtype == np.int32
