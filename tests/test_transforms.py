"""Transforms and batches: against Pillow, timm (make_randaugment.py) and their definitions."""

import io
import math
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from PIL import Image

from mindcv.config.augment_policy import RandAugmentPolicy, parse_policy
from mindcv.data import Normalize, channel_statistics, create_loader, create_transforms
from mindcv.data.auto_augment import RandAugment
from mindcv.data.mixup import MixBatch
from mindcv.data.transforms import RandomErasing
from mindcv.loss import create_loss
from mindcv.optim import create_optimizer

sys.path.insert(0, str(Path(__file__).parent / "golden"))
from picture import picture  # noqa: E402

GOLDEN = np.load(Path(__file__).parent / "golden" / "randaugment.npz")
MEAN, STD = channel_statistics("imagenet")
FILL = (124, 116, 104)


@pytest.fixture(autouse=True)
def fixed_seed():
    before = ds.config.get_seed()
    ds.config.set_seed(42)
    yield
    ds.config.set_seed(before)
    ms.set_context(mode=ms.GRAPH_MODE)


def png(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def rows_of(images, labels=None) -> ds.Dataset:
    """Return a dataset of encoded images, or of plain ones where they are (H, W, 3)."""
    labels = range(len(images)) if labels is None else labels
    rows = [(image, np.int64(label)) for image, label in zip(images, labels)]
    return ds.GeneratorDataset(rows, ["image", "label"], shuffle=False, num_parallel_workers=1)


def smooth_image(height: int, width: int, phase: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 5 + phase), np.cos(y / height * 4), np.sin((x + y) / 40 + phase)]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def random_images(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def transformed(images, *arguments, **named) -> np.ndarray:
    """Return the images after `create_transforms`, by a plain `dataset.map` of a user."""
    dataset = rows_of(images).map(create_transforms(*arguments, **named), "image")
    return np.stack(
        [row[0] for row in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]
    )


def batches_of(loader, epochs: int = 1) -> list[dict]:
    rows = loader.create_dict_iterator(num_epochs=epochs, output_numpy=True)
    return [batch for _ in range(epochs) for batch in rows]


# Shapes and types


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("name", ["", "imagenet", "mnist_demo", "cifar10", "cifar100"])
def test_batches_are_float32_or_uint8_nchw_with_int32_labels(name, is_training, on_device):
    images = random_images(5, 32)
    images = list(images) if name.startswith("cifar") else [png(image) for image in images]
    policy = "randaug-m9-mstd0.5" if is_training else None
    transform = create_transforms(
        name, 24, is_training, policy, normalize_on_device=on_device, re_prob=0.5, vflip=0.5
    )
    loader = create_loader(rows_of(images), 2, False, is_training, transform=transform)
    batches = batches_of(loader)
    assert [batch["image"].shape for batch in batches] == [(2, 3, 24, 24)] * 2 + [(1, 3, 24, 24)]
    for batch in batches:
        assert batch["image"].dtype == (np.uint8 if on_device else np.float32)
        assert batch["label"].dtype == np.int32
    assert [label for batch in batches for label in batch["label"]] == [0, 1, 2, 3, 4]
    if not on_device:
        mean, std = channel_statistics(name)
        low, high = (0 - max(mean)) / min(std), (255 - min(mean)) / min(std)
        values = np.concatenate([batch["image"] for batch in batches])
        assert low - 1e-5 <= values.min() < 0.5 * low and 0.5 * high < values.max() <= high + 1e-5


def test_drop_remainder_drops_the_partial_batch():
    images = [png(image) for image in random_images(5, 32)]
    transform = create_transforms("", 16)
    assert len(batches_of(create_loader(rows_of(images), 2, True, transform=transform))) == 2


def test_default_transform_is_imagenets_evaluation():
    image = smooth_image(300, 280)
    loader = create_loader(rows_of([png(image)]), 1)
    (batch,) = batches_of(loader)
    np.testing.assert_array_equal(batch["image"], transformed([png(image)]))
    assert batch["image"].shape == (1, 3, 224, 224)


def test_gray_images_get_three_equal_channels():
    gray = random_images(1, 40)[0, :, :, 0]
    (image,) = transformed([png(gray)], "", 24, normalize_on_device=True)
    assert image.shape == (3, 24, 24)
    np.testing.assert_array_equal(image[0], image[1])
    np.testing.assert_array_equal(image[0], image[2])


# Evaluation


def eval_reference(image: np.ndarray, side: int, crop_pct: float, resample) -> np.ndarray:
    """Resize the shorter side with Pillow, then crop the middle; (3, side, side) uint8."""
    height, width = image.shape[:2]
    scale = math.floor(side / crop_pct) / min(height, width)
    size = (int(width * scale), int(height * scale))
    resized = np.asarray(Image.fromarray(image).resize(size, resample))
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized[top : top + side, left : left + side].transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (120, 90)])
def test_evaluation_equals_pillows_resize_and_centre_crop(shape, interpolation):
    """MindSpore's filters look at 2 x 2 or 4 x 4 source pixels, Pillow's widen on shrinking.

    On an image without detail beyond the target's resolution both agree within two levels.
    """
    image = smooth_image(*shape)
    (ours,) = transformed(
        [png(image)], "", 112, interpolation=interpolation, normalize_on_device=True
    )
    reference = eval_reference(image, 112, 0.875, Image.Resampling[interpolation.upper()])
    difference = np.abs(ours.astype(int) - reference)
    assert difference.max() <= 2 and difference.mean() < 0.6


def test_evaluation_on_fine_detail_samples_two_by_two_pixels():
    """There MindSpore's bilinear filter leaves more contrast than Pillow's, which averages."""
    image = random_images(1, 200)[0]
    (ours,) = transformed([png(image)], "", 100, crop_pct=1.0, normalize_on_device=True)
    means = image.reshape(100, 2, 100, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(ours - means).max() <= 1
    pillow = eval_reference(image, 100, 1.0, Image.Resampling.BILINEAR)
    assert pillow.std() < 0.8 * ours.std()


def test_evaluation_normalises_the_uint8_image():
    image = smooth_image(150, 200)
    (raw,) = transformed([png(image)], "", 112, normalize_on_device=True)
    (normalised,) = transformed([png(image)], "", 112)
    mean, std = np.reshape(MEAN, (3, 1, 1)), np.reshape(STD, (3, 1, 1))
    np.testing.assert_allclose(normalised, (raw - mean) / std, atol=2e-6)


def test_evaluation_without_resizing_is_the_exact_centre():
    image = random_images(1, 64)[0]
    (ours,) = transformed([png(image)], "", 48, crop_pct=0.75, normalize_on_device=True)
    np.testing.assert_array_equal(ours, image[8:56, 8:56].transpose(2, 0, 1))


def test_nearest_interpolation_invents_no_values():
    image = np.where(random_images(1, 60) > 127, 200, 10)[0].astype(np.uint8)
    (ours,) = transformed([png(image)], "", 32, interpolation="nearest", normalize_on_device=True)
    assert set(np.unique(ours)) == {10, 200}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_normalize_cell_equals_the_host_path(mode):
    ms.set_context(mode=mode)
    images = [png(smooth_image(90, 70, phase)) for phase in range(4)]
    for name in ("imagenet", "mnist_demo"):
        raw = transformed(images, name, 48, normalize_on_device=True)
        host = transformed(images, name, 48)
        device = Normalize(*channel_statistics(name))(Tensor(raw))
        assert raw.dtype == np.uint8 and device.dtype == ms.float32
        np.testing.assert_allclose(device.asnumpy(), host, atol=2e-6)


def test_given_mean_and_std_replace_the_datasets():
    image = random_images(1, 64)[0]
    (ours,) = transformed([png(image)], "", 48, crop_pct=0.75, mean=(1, 2, 3), std=(4, 5, 6))
    centre = image[8:56, 8:56].transpose(2, 0, 1).astype(np.float64)
    expected = (centre - np.reshape((1, 2, 3), (3, 1, 1))) / np.reshape((4, 5, 6), (3, 1, 1))
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


# Training geometry and colour

WHOLE = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), normalize_on_device=True)


@pytest.mark.parametrize("hflip, vflip", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_flips_are_exact(hflip, vflip):
    image = random_images(1, 40)[0]
    (ours,) = transformed([png(image)], "", 40, True, hflip=hflip, vflip=vflip, **WHOLE)
    expected = image[:: -1 if vflip else 1, :: -1 if hflip else 1].transpose(2, 0, 1)
    np.testing.assert_array_equal(ours, expected)


def test_flip_has_its_probability():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    ours = transformed([png(image)] * 400, "", 16, True, hflip=0.25, **WHOLE)
    flipped = (ours[:, 0, 0, 0] == 0).sum()
    assert abs(flipped - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_crop_takes_area_from_scale_and_aspect_from_ratio():
    """A ramp resized from w to 32 columns has the slope w / 32."""
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None], (128, 128, 3)).copy()
    images = np.stack([ramp, ramp.transpose(1, 0, 2)] * 20)
    ours = transformed(
        [png(image) for image in images],
        *("", 32, True),
        scale=(0.25, 0.25),
        ratio=(2.0, 2.0),
        hflip=0.0,
        normalize_on_device=True,
    ).astype(float)
    width = (ours[0::2, 0, :, -2] - ours[0::2, 0, :, 1]).mean(1) / 29 * 32
    height = (ours[1::2, 0, -2] - ours[1::2, 0, 1]).mean(1) / 29 * 32
    np.testing.assert_allclose(width, 64 * math.sqrt(2), atol=1.5)
    np.testing.assert_allclose(height, 64 / math.sqrt(2), atol=1.5)


def test_crop_area_fills_the_range_of_scale():
    ramp = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None], (128, 128, 3)).copy()
    ours = transformed(
        [png(ramp)] * 300,
        *("", 32, True),
        scale=(0.08, 1.0),
        ratio=(1.0, 1.0),
        hflip=0.0,
        normalize_on_device=True,
    ).astype(float)
    side = (ours[:, 0, :, -2] - ours[:, 0, :, 1]).mean(1) / 29 * 32 / 128
    area = side**2
    assert 0.07 < area.min() < 0.15 and 0.9 < area.max() < 1.05
    assert abs(area.mean() - 0.54) < 4 * 0.92 / math.sqrt(12 * 300) + 0.02


def test_colour_jitter_changes_brightness_within_its_strength():
    image = np.full((8, 8, 3), 100, np.uint8)
    jitter = dict(color_jitter=(0.4, 0.0, 0.0), hflip=0.0)
    ours = transformed([png(image)] * 200, "", 8, True, **jitter, **WHOLE)[:, 0, 0, 0]
    assert 59 <= ours.min() < 68 and 132 < ours.max() <= 141


def test_policy_replaces_the_colour_jitter():
    operations = create_transforms("", 16, True, "randaug-m9", color_jitter=0.4)
    kinds = [type(operation).__name__ for operation in operations]
    assert "RandAugment" in kinds and "RandomColorAdjust" not in kinds
    kinds = [type(operation).__name__ for operation in create_transforms("", 16, color_jitter=0.4)]
    assert "RandomColorAdjust" not in kinds


def test_cifar_training_pads_by_four_black_pixels_and_crops():
    image = np.full((32, 32, 3), 200, np.uint8)
    ours = transformed([image] * 200, "cifar10", 32, True, hflip=0.0, normalize_on_device=True)
    black = (ours[:, 0] == 0).sum((1, 2))
    rows = (ours[:, 0] == 0).all(2).sum(1)
    assert set(np.unique(ours)) == {0, 200}
    assert rows.max() == 4 and black.max() == 32 * 32 - 28 * 28 and black.min() < 32 * 2


def test_cifar_evaluation_keeps_the_whole_image():
    image = random_images(1, 32)[0]
    (ours,) = transformed([image], "cifar100", 32, normalize_on_device=True)
    np.testing.assert_array_equal(ours, image.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(interpolation="lanczos"), ["'lanczos'", "nearest, bilinear, bicubic"]),
        (dict(separate=True), ["separate"]),
        (dict(is_training=True, auto_augment="autoaug"), ["'autoaug'", "randaug"]),
        (dict(is_training=True, re_prob=0.5, re_value="noise"), ["'noise'", "random"]),
    ],
)
def test_unknown_choice_is_a_value_error(arguments, words):
    with pytest.raises(ValueError) as error:
        create_transforms("", 16, **arguments)
    for word in words:
        assert word in str(error.value)


# Random erasing


def erased_boxes(images: np.ndarray, **arguments) -> tuple[list, int]:
    """Return (top, left, height, width) of each erased rectangle, and the images left alone."""
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
    for result, tolerance in ((host, 0.0), (device, 0.5 / min(STD))):
        filled = np.abs(result[0] - result[0, :, :].max()) > 0.5
        assert filled.sum() == round(math.sqrt(0.5 * 32 * 32)) ** 2
        assert np.abs(result[:, filled]).max() <= tolerance


def test_random_fill_is_standard_normal_after_normalisation():
    image = np.full((3, 64, 64), 255, np.uint8)
    common = (1.0, (0.9, 0.9), (1.0, 1.0), "random", 10)
    host = RandomErasing(*common, (0.0,) * 3, (1.0,) * 3)(image.astype(np.float32))
    draws = host[host != 255]
    assert draws.dtype == np.float32 and len(draws) == 3 * 61**2
    assert abs(draws.mean()) < 4 / math.sqrt(len(draws))
    assert abs(draws.std() - 1) < 4 / math.sqrt(2 * len(draws))
    assert np.abs(draws).max() > 3
    raw = RandomErasing(*common, MEAN, STD)(image)
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
    erasing = RandomErasing(1.0, (0.1, 0.3), (0.3, 3.3), "random", 10, MEAN, STD)
    before = first.copy()
    once, other = erasing(first), erasing(second)
    np.testing.assert_array_equal(erasing(first), once)
    np.testing.assert_array_equal(first, before)
    assert ((once != first) != (other != second)).any()
    ds.config.set_seed(43)
    assert (erasing(first) != once).any()


# Mixup and CutMix


def at(epoch: int, batch: int) -> SimpleNamespace:
    return SimpleNamespace(get_epoch_num=lambda: epoch, get_batch_num=lambda: batch)


def plain_batch(count: int = 6, side: int = 16, dtype=np.uint8) -> tuple[list, list]:
    """Return images filled with 20 * index, and the indices as labels."""
    images = [np.full((3, side, side), 20 * index, dtype) for index in range(count)]
    return images, [np.int32(index) for index in range(count)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_cutmix_labels_share_exactly_as_the_pixels_do(dtype):
    mix = MixBatch(0.0, 1.0, 1.0, 6, 0)
    shares = []
    for batch in range(60):
        images, labels = mix(*plain_batch(dtype=dtype), at(1, batch))
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
    mix = MixBatch(0.8, 0.0, 1.0, 6, 0)
    for batch in range(30):
        images, labels = mix(*plain_batch(dtype=dtype), at(1, batch))
        for index, (image, label) in enumerate(zip(images, labels)):
            assert image.dtype == dtype
            share = float(label[index])
            assert label[5 - index] == pytest.approx(1 - share, abs=1e-6)
            expected = share * 20 * index + (1 - share) * 20 * (5 - index)
            assert np.abs(image.astype(float) - expected).max() <= tolerance + 1e-4


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_mixup_share_has_the_beta_distribution(alpha):
    mix = MixBatch(alpha, 0.0, 1.0, 2, 0)
    images, labels = plain_batch(2, 1)
    shares = np.array([mix(images, labels, at(1, batch))[1][0][0] for batch in range(1500)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * math.sqrt(variance / 1500)
    assert abs(shares.var() - variance) < 0.12 * variance


def test_both_mixings_take_half_of_the_batches_each():
    mix = MixBatch(0.8, 1.0, 1.0, 6, 0)
    cut = 0
    for batch in range(300):
        images, _ = mix(*plain_batch(), at(1, batch))
        cut += set(np.unique(images[0])) <= {0, 100}
    assert abs(cut - 150) < 4 * math.sqrt(75) + 10  # a blend may round to a pure image


@pytest.mark.parametrize("prob", [0.0, 0.3])
def test_mixing_has_its_probability(prob):
    mix = MixBatch(2.0, 0.0, prob, 6, 0)
    mixed = 0
    for batch in range(300):
        images, labels = mix(*plain_batch(), at(1, batch))
        mixed += labels[0][0] != 1.0
        if labels[0][0] == 1.0:
            np.testing.assert_array_equal(images, plain_batch()[0])
            np.testing.assert_array_equal(labels, np.eye(6, dtype=np.float32))
    assert abs(mixed - 300 * prob) <= 4 * math.sqrt(300 * prob * (1 - prob))


def test_mixing_repeats_for_the_same_seed_epoch_batch_and_shard_only():
    def share(epoch=1, batch=2, shard=0):
        images, labels = plain_batch()
        return float(MixBatch(0.8, 0.0, 1.0, 6, shard)(images, labels, at(epoch, batch))[1][0][0])

    assert share() == share()
    others = [share(epoch=2), share(batch=3), share(shard=1)]
    ds.config.set_seed(43)
    others.append(share())
    ds.config.set_seed(42)
    assert len({share(), *others}) == 5


def test_odd_batch_keeps_its_middle_image():
    images, labels = MixBatch(0.8, 0.0, 1.0, 5, 0)(*plain_batch(5), at(1, 0))
    np.testing.assert_array_equal(images[2], plain_batch(5)[0][2])
    assert labels[2].tolist() == [0, 0, 1, 0, 0]


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
        assert batch["image"].shape == (4, 3, 16, 16) and batch["image"].dtype == np.uint8
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


# RandAugment


class Signs:
    """A generator whose next draw makes the operations take this sign."""

    def __init__(self, sign: int):
        self.sign = sign

    def random(self) -> float:
        return 0.0 if self.sign > 0 else 0.9


RESAMPLED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("key", [key for key in GOLDEN.files if "/" in key])
def test_operation_equals_timms(key):
    name, increasing, strength, sign = key.split("/")
    operations = RandAugment(f"randaug-inc{increasing}", FILL).operations
    result = operations[name](Image.fromarray(picture()), float(strength), Signs(int(sign)), FILL)
    difference = np.abs(np.asarray(result).astype(int) - GOLDEN[key])
    # Pillow's affine resampling may round otherwise in another version.
    assert difference.max() <= (1 if name in RESAMPLED else 0)


@pytest.mark.parametrize("name", RESAMPLED)
def test_both_signs_of_a_geometric_operation_are_in_the_golden_file(name):
    assert {f"{name}/0/9.0/1", f"{name}/0/9.0/-1"} <= set(GOLDEN.files)


def test_operations_are_timms():
    ours = {name.replace("_", "") for name in RandAugment("randaug-inc1", FILL).operations}
    theirs = {str(n).replace("Increasing", "").replace("Rel", "") for n in GOLDEN["names of inc1"]}
    assert ours == {name.lower() for name in theirs}


def test_more_weighted_operations_than_have_a_weight_are_refused():
    assert len(RandAugment("randaug-n13-w0-p1", FILL)(picture())) == 16
    with pytest.raises(ValueError, match="13"):
        RandAugment("randaug-n14-w0", FILL)


def test_posterize_keeps_at_least_one_bit():
    for increasing, strength in ((0, 0.0), (1, 10.0), (1, 30.0)):
        operations = RandAugment(f"randaug-inc{increasing}", FILL).operations
        result = operations["posterize"](Image.fromarray(picture()), strength, Signs(1), FILL)
        assert set(np.unique(np.asarray(result))) == {0, 128}


def recorded(policy: str, count: int) -> list[list[tuple[str, float]]]:
    """Return the operations and strengths that the policy applied to each of `count` images."""
    augment = RandAugment(policy, FILL)
    applied: list = []

    def record(name):
        def operation(image, strength, rng, fill):
            applied[-1].append((name, strength))
            return image

        return operation

    augment.operations = {name: record(name) for name in augment.operations}
    for image in random_images(count, 4):
        applied.append([])
        augment(image)
    return applied


def test_operations_are_drawn_evenly_and_applied_with_their_probability():
    draws = [name for image in recorded("randaug-m9-n2", 1500) for name, _ in image]
    assert abs(len(draws) - 1500) < 4 * math.sqrt(3000 * 0.25)
    counts = Counter(draws)
    assert len(counts) == 15
    assert max(abs(count - 100) for count in counts.values()) < 4.5 * math.sqrt(100)
    assert all(len(image) == 3 for image in recorded("randaug-m9-n3-p1", 50))
    assert not any(recorded("randaug-p0", 50))


def test_weighted_operations_are_drawn_without_repetition_by_their_weights():
    images = [[name for name, _ in image] for image in recorded("randaug-n2-w0-p1", 1500)]
    assert all(len(set(names)) == 2 for names in images)
    counts = Counter(names[0] for names in images)
    assert "posterize" not in counts and "invert" not in counts
    assert abs(counts["rotate"] - 450) < 4 * math.sqrt(1500 * 0.3 * 0.7)
    assert abs(counts["translate_x"] - 150) < 4 * math.sqrt(1500 * 0.1 * 0.9)


def strengths(policy: str, count: int = 1500) -> np.ndarray:
    return np.array([s for image in recorded(policy + "-p1-n1", count) for _, s in image])


def test_strength_is_constant_without_deviation():
    assert set(strengths("randaug-m7", 50)) == {7.0}


def test_strength_is_normal_and_clipped():
    normal = strengths("randaug-m5-mstd0.5")
    assert abs(normal.mean() - 5) < 4 * 0.5 / math.sqrt(1500)
    assert abs(normal.std() - 0.5) < 4 * 0.5 / math.sqrt(3000)
    clipped = strengths("randaug-m9-mstd3")
    assert clipped.max() == 10.0
    share = 0.5 * math.erfc(1 / 3 / math.sqrt(2))  # beyond 10
    assert abs((clipped == 10).mean() - share) < 4 * math.sqrt(share * (1 - share) / 1500)
    assert strengths("randaug-m9-mstd3-mmax20").max() > 15
    assert strengths("randaug-m1-mstd3").min() == 0.0


def test_strength_is_uniform_for_an_infinite_deviation():
    for policy in ("randaug-m8-mstdinf", "randaug-m8-mstd101"):
        uniform = strengths(policy)
        assert 0 <= uniform.min() < 0.1 and 7.9 < uniform.max() <= 8
        assert abs(uniform.mean() - 4) < 4 * 8 / math.sqrt(12 * 1500)


def test_augmentation_depends_on_the_image_and_the_seed_alone():
    augment = RandAugment("randaug-m9-mstd0.5-inc1-p1", FILL)
    once = augment(picture())
    assert once.shape == picture().shape and once.dtype == np.uint8
    np.testing.assert_array_equal(augment(picture()), once)
    results = set()
    for seed in range(10):
        ds.config.set_seed(seed)
        results.add(augment(picture()).tobytes())
    assert len(results) > 5


def test_python_operations_repeat_with_any_number_of_workers():
    images = [png(image) for image in random_images(12, 24)]
    transform = create_transforms(
        *("", 24, True, "randaug-m9-mstd0.5-inc1"),
        hflip=0.0,
        re_prob=0.5,
        re_value="random",
        **WHOLE,
    )

    def run(workers):
        loader = create_loader(
            rows_of(images), 4, transform=transform, num_parallel_workers=workers
        )
        return np.concatenate([batch["image"] for batch in batches_of(loader)])

    one = run(1)
    np.testing.assert_array_equal(one, run(2))
    changed = (one != np.stack(random_images(12, 24)).transpose(0, 3, 1, 2)).any((1, 2, 3))
    assert changed.sum() >= 6


@pytest.mark.parametrize(
    "text, expected",
    [
        ("randaug", RandAugmentPolicy()),
        ("randaug-m7-mstd0.5", RandAugmentPolicy(magnitude=7, magnitude_std=0.5)),
        (
            "randaug-m9-mstd0.5-inc1",
            RandAugmentPolicy(magnitude=9, magnitude_std=0.5, increasing=True),
        ),
        (
            "randaug-m10-n2-w0-mstd0.5-mmax10-inc0",
            RandAugmentPolicy(10, 2, 0.5, 10, increasing=False, weighted=True),
        ),
        ("randaug-p0.3-n3", RandAugmentPolicy(prob=0.3, num_ops=3)),
        ("randaug-mstd101", RandAugmentPolicy(magnitude_std=math.inf)),
        ("randaug-m15-mmax20", RandAugmentPolicy(magnitude=15, magnitude_max=20)),
    ],
)
def test_policy_syntax(text, expected):
    assert parse_policy(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "rand-m9", "randaugm9", "autoaug-mstd0.5", "autoaugr", "3a", "augmix-m5"),
        *("trivialaugwide", "randaug-", "randaug-m", "randaug-9", "randaug-x3", "randaug-m9-m8"),
        *("randaug-m31", "randaug-m-1", "randaug-n0", "randaug-n16", "randaug-n1.5"),
        *("randaug-p2", "randaug-w1", "randaug-inc2", "randaug-inc0.5", "randaug-m1.2.3"),
        *("randaug-mmax31", "randaug m9", "randaug-M9", "randaug-m9 "),
    ],
)
def test_malformed_policy_is_a_value_error_that_shows_it(text):
    with pytest.raises(ValueError) as error:
        parse_policy(text)
    assert repr(text) in str(error.value)


# In a user's own training


class UserNet(nn.Cell):
    def __init__(self, normalize=None):
        super().__init__()
        self.normalize = normalize
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Dense(8, 2)

    def construct(self, x):
        if self.normalize is not None:
            x = self.normalize(x)
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("mixup", [0.0, 0.2])
@pytest.mark.parametrize("on_device", [False, True])
def test_batches_train_a_users_cell_in_a_model(on_device, mixup):
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(0)
    labels = [index % 2 for index in range(16)]
    images = random_images(16, 24) // 4
    images[1::2] += 160
    transform = create_transforms("", 16, True, normalize_on_device=on_device)
    loader = create_loader(
        rows_of([png(image) for image in images], labels),
        8,
        drop_remainder=True,
        is_training=True,
        mixup=mixup,
        cutmix_prob=0.5,
        num_classes=2,
        transform=transform,
    )
    net = UserNet(Normalize(MEAN, STD) if on_device else None)
    losses = []

    class Record(ms.Callback):
        def on_train_step_end(self, run_context):
            losses.append(float(run_context.original_args().net_outputs.asnumpy()))

    model = ms.Model(net, create_loss(), create_optimizer(net, "momentum", lr=0.1))
    model.train(8, loader, callbacks=[Record()], dataset_sink_mode=False)
    assert len(losses) == 16
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])


def test_workers_above_the_core_count_are_lowered():
    images = [png(image) for image in random_images(4, 24)]
    loader = create_loader(
        rows_of(images),
        *(2, False, True, 0.8),
        cutmix_prob=1.0,
        transform=create_transforms("", 16),
        num_parallel_workers=64 * (os.cpu_count() or 1),
    )
    assert len(batches_of(loader)) == 2
