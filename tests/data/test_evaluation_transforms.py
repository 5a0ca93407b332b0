"""Resizing and cropping of evaluation, compared with Pillow and with their definitions."""

import math

import numpy as np
import pytest
from pictures import png, random_images, smooth_image, transformed
from PIL import Image

from mindcv.data import channel_statistics
from mindcv.data.augment.pixel_operations import RoundedCenterCrop

MEAN, STD = channel_statistics("imagenet")
WHOLE = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), normalize_on_device=True)

pytestmark = pytest.mark.usefixtures("fixed_seed")


def test_a_crop_beyond_the_image_has_a_black_border():
    """As of torchvision: half of what is missing comes first, rounded down."""
    image = np.full((4, 7, 3), 9, np.uint8)
    cropped = RoundedCenterCrop((7, 4))(image)
    assert cropped.shape == (7, 4, 3)
    assert (cropped[1:5] == 9).all() and not cropped[[0, 5, 6]].any()


def eval_reference(image: np.ndarray, side: int, crop_pct: float, resample) -> np.ndarray:
    """Resize the shorter side with Pillow, then crop the middle; (side, side, 3) uint8."""
    height, width = image.shape[:2]
    scale = math.floor(side / crop_pct) / min(height, width)
    size = (int(width * scale), int(height * scale))
    resized = np.asarray(Image.fromarray(image).resize(size, resample))
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized[top : top + side, left : left + side]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (120, 90)])
def test_evaluation_equals_pillows_resize_and_centre_crop(shape, interpolation):
    """MindSpore's filters cover 2 x 2 or 4 x 4 source pixels; Pillow's widen when shrinking.

    Where an image has no detail beyond the target's resolution, they agree within two levels.
    """
    image = smooth_image(*shape)
    (ours,) = transformed(
        [png(image)], "", 112, interpolation=interpolation, normalize_on_device=True
    )
    reference = eval_reference(image, 112, 0.875, Image.Resampling[interpolation.upper()])
    difference = np.abs(ours.astype(int) - reference)
    assert difference.max() <= 2 and difference.mean() < 0.6


def test_evaluation_on_fine_detail_samples_two_by_two_pixels():
    """MindSpore's bilinear filter leaves more contrast there than Pillow's, which averages."""
    image = random_images(1, 200)[0]
    (ours,) = transformed([png(image)], "", 100, crop_pct=1.0, normalize_on_device=True)
    means = image.reshape(100, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(ours - means).max() <= 1
    pillow = eval_reference(image, 100, 1.0, Image.Resampling.BILINEAR)
    assert pillow.std() < 0.8 * ours.std()


def test_evaluation_normalises_the_uint8_image():
    image = smooth_image(150, 200)
    (raw,) = transformed([png(image)], "", 112, normalize_on_device=True)
    (normalised,) = transformed([png(image)], "", 112)
    expected = ((raw - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    np.testing.assert_allclose(normalised, expected, atol=2e-6)


def test_evaluation_without_resizing_is_the_exact_centre():
    image = random_images(1, 64)[0]
    (ours,) = transformed([png(image)], "", 48, crop_pct=0.75, normalize_on_device=True)
    np.testing.assert_array_equal(ours, image[8:56, 8:56])


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256)])
def test_squash_keeps_the_whole_image_and_not_its_aspect(shape):
    """timm: resize to a square of side / crop_pct, then the centre."""
    image = smooth_image(*shape)
    (ours,) = transformed([png(image)], "", 112, crop_mode="squash", normalize_on_device=True)
    resized = np.asarray(Image.fromarray(image).resize((128, 128), Image.Resampling.BILINEAR))
    difference = np.abs(ours.astype(int) - resized[8:120, 8:120])
    assert difference.max() <= 2 and difference.mean() < 0.6


@pytest.mark.parametrize("is_training", [False, True])
def test_area_interpolation_averages_what_a_pixel_covers(is_training):
    image = random_images(1, 192)[0]
    means = image.reshape(64, 3, 64, 3, 3).mean((1, 3))
    arguments = dict(WHOLE, hflip=0.0) if is_training else dict(normalize_on_device=True)
    results = {
        name: transformed(
            [png(image)], "", 64, is_training, crop_pct=1.0, interpolation=name, **arguments
        )[0]
        for name in ("area", "bilinear")
    }
    assert np.abs(results["area"] - means).max() <= 1
    assert np.abs(results["bilinear"] - means).max() > 20


def test_random_interpolation_is_bilinear_or_bicubic_in_training_and_bilinear_in_evaluation():
    image = random_images(1, 100)[0]

    def results(count, is_training, interpolation):
        arguments = dict(WHOLE, hflip=0.0) if is_training else dict(normalize_on_device=True)
        images = [png(image)] * count
        ours = transformed(images, "", 40, is_training, interpolation=interpolation, **arguments)
        return [one.tobytes() for one in ours]

    drawn = results(300, True, "random")
    (bilinear,), (bicubic,) = results(1, True, "bilinear"), results(1, True, "bicubic")
    assert set(drawn) == {bilinear, bicubic}
    assert abs(drawn.count(bilinear) - 150) < 4 * math.sqrt(75)
    assert results(1, False, "random") == results(1, False, "bilinear")


def test_nearest_interpolation_invents_no_values():
    image = np.where(random_images(1, 60) > 127, 200, 10)[0].astype(np.uint8)
    (ours,) = transformed([png(image)], "", 32, interpolation="nearest", normalize_on_device=True)
    assert set(np.unique(ours)) == {10, 200}
