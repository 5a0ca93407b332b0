"""Transforms and batches, compared with Pillow and with their definitions."""

import math
import os

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.dataset import vision
from pictures import batches_of, png, random_images, rows_of, smooth_image, transformed

from mindcv.data import (
    Normalize,
    channel_statistics,
    create_loader,
    create_normalize,
    create_transforms,
)
from mindcv.errors import ConfigError
from mindcv.loss import create_loss
from mindcv.optim import create_optimizer

MEAN, STD = channel_statistics("imagenet")


pytestmark = pytest.mark.usefixtures("fixed_seed")


# Shapes and types


@pytest.mark.parametrize("is_training", [False, True])
def test_a_size_may_be_height_and_width(is_training):
    images = [png(image) for image in random_images(2, 32)]
    one, pair = (transformed(images, "", size, is_training) for size in (24, (24, 24)))
    np.testing.assert_array_equal(one, pair)
    options = dict(auto_augment="randaug-m9-mstd0.5") if is_training else {}
    assert transformed(images, "", (24, 32), is_training, **options).shape == (2, 3, 24, 32)
    for size in ((24, 0), [24], 0, "24", (24.5, 24)):
        with pytest.raises(ConfigError, match="image_resize .* expected one side"):
            create_transforms("", size, is_training)


def test_a_name_without_a_dataset_gets_no_operations_of_imagenet():
    for make in (create_transforms, create_normalize):
        with pytest.raises(ConfigError, match="dataset 'cifra10' is unknown; expected imagenet"):
            make("cifra10")


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("name", ["", "imagenet", "mnist_demo", "cifar10", "cifar100"])
def test_batches_are_float32_nchw_or_uint8_nhwc_with_int32_labels(name, is_training, on_device):
    images = random_images(5, 32)
    images = list(images) if name.startswith("cifar") else [png(image) for image in images]
    policy = "randaug-m9-mstd0.5" if is_training else None
    transform = create_transforms(
        name, 24, is_training, policy, normalize_on_device=on_device, re_prob=0.5, vflip=0.5
    )
    loader = create_loader(rows_of(images), 2, False, is_training, transform=transform)
    batches = batches_of(loader)
    shape = (24, 24, 3) if on_device else (3, 24, 24)
    assert [batch["image"].shape for batch in batches] == [(2, *shape)] * 2 + [(1, *shape)]
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


def test_a_script_may_change_the_list_of_operations():
    """As MindCV's users do: with +, which gives a list, or in place."""
    images = [png(image) for image in random_images(3, 32)]
    kept = batches_of(create_loader(rows_of(images), 3, transform=on_device_transforms()))
    joined, changed = on_device_transforms() + [vision.Invert()], on_device_transforms()
    changed.append(vision.Invert())
    for transform in (joined, changed):
        (batch,) = batches_of(create_loader(rows_of(images), 3, transform=transform))
        np.testing.assert_array_equal(batch["image"], 255 - kept[0]["image"])


def on_device_transforms() -> list:
    return create_transforms("", 24, normalize_on_device=True)


def test_default_transform_is_imagenets_evaluation():
    image = smooth_image(300, 280)
    loader = create_loader(rows_of([png(image)]), 1)
    (batch,) = batches_of(loader)
    np.testing.assert_array_equal(batch["image"], transformed([png(image)]))
    assert batch["image"].shape == (1, 3, 224, 224)


def test_gray_images_get_three_equal_channels():
    gray = random_images(1, 40)[0, :, :, 0]
    (image,) = transformed([png(gray)], "", 24, normalize_on_device=True)
    assert image.shape == (24, 24, 3)
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


# Statistics


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


def normalize(mean=MEAN, std=STD) -> Normalize:
    return Normalize(mean, std)


@pytest.mark.parametrize("values", [(0.485, 0.456, 0.406), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("key", ["mean", "std"])
@pytest.mark.parametrize("factory", [create_transforms, create_normalize, normalize])
def test_statistics_on_the_scale_0_to_1_are_refused(factory, key, values):
    with pytest.raises(ConfigError, match=f"^{key}: .*0-255 here: multiply mean and std by 255"):
        factory(**{key: values})
    factory(mean=(0, 0, 0), std=(255, 255, 255))  # which gives 0 to 1
    factory(mean=(0, 0, 0), std=(1, 1, 1))  # which changes nothing


# Training geometry and colour

WHOLE = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), normalize_on_device=True)


@pytest.mark.parametrize("hflip, vflip", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_flips_are_exact(hflip, vflip):
    image = random_images(1, 40)[0]
    (ours,) = transformed([png(image)], "", 40, True, hflip=hflip, vflip=vflip, **WHOLE)
    expected = image[:: -1 if vflip else 1, :: -1 if hflip else 1]
    np.testing.assert_array_equal(ours, expected)


def test_flip_has_its_probability():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8] = 255
    ours = transformed([png(image)] * 400, "", 16, True, hflip=0.25, **WHOLE)
    flipped = (ours[:, 0, 0, 0] == 0).sum()
    assert abs(flipped - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_both_flips_are_drawn_independently():
    """Two of MindSpore's own would flip together, since they start from the same seed."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :8] = 255
    ours = transformed([png(image)] * 600, "", 16, True, hflip=0.5, vflip=0.25, **WHOLE)[..., 0]
    top, left = ours[:, :8].any((1, 2)), ours[:, :, :8].any((1, 2))
    for is_top, is_left in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = 0.5 * (0.75 if is_top else 0.25)
        found = ((top == is_top) & (left == is_left)).sum()
        assert abs(found - 600 * share) < 4 * math.sqrt(600 * share * (1 - share))


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
    width = (ours[0::2, :, -2, 0] - ours[0::2, :, 1, 0]).mean(1) / 29 * 32
    height = (ours[1::2, -2, :, 0] - ours[1::2, 1, :, 0]).mean(1) / 29 * 32
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
    side = (ours[:, :, -2, 0] - ours[:, :, 1, 0]).mean(1) / 29 * 32 / 128
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
    assert "RandomSelectSubpolicy" in kinds and "RandomColorAdjust" not in kinds
    kinds = [type(operation).__name__ for operation in create_transforms("", 16, color_jitter=0.4)]
    assert "RandomColorAdjust" not in kinds


def test_cifar_training_pads_by_four_black_pixels_and_crops():
    image = np.full((32, 32, 3), 200, np.uint8)
    ours = transformed([image] * 200, "cifar10", 32, True, hflip=0.0, normalize_on_device=True)
    black = (ours[..., 0] == 0).sum((1, 2))
    rows = (ours[..., 0] == 0).all(2).sum(1)
    assert set(np.unique(ours)) == {0, 200}
    assert rows.max() == 4 and black.max() == 32 * 32 - 28 * 28 and black.min() < 32 * 2


def test_cifar_evaluation_keeps_the_whole_image():
    image = random_images(1, 32)[0]
    (ours,) = transformed([image], "cifar100", 32, normalize_on_device=True)
    np.testing.assert_array_equal(ours, image)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(interpolation="lanczos"), ["'lanczos'", "nearest, bilinear, bicubic"]),
        (dict(is_training=True, separate=True), ["separate", "auto_augment"]),
        (dict(is_training=True, auto_augment="autoaugment"), ["'autoaugment'", "autoaug"]),
        (dict(crop_mode="border"), ["'border'", "center, squash"]),
        (dict(interpolation="area", antialias=True), ["'area'", "bilinear and bicubic"]),
        (dict(is_training=True, re_prob=0.5, re_value="noise"), ["'noise'", "random"]),
    ],
)
def test_unknown_choice_is_a_value_error(arguments, words):
    with pytest.raises(ValueError) as error:
        create_transforms("", 16, **arguments)
    for word in words:
        assert word in str(error.value)


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


@pytest.mark.parametrize("on_device, mixup", [(False, 0.2), (True, 0.0)])
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
