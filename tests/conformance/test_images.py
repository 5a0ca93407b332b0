"""Transforms, mixing and loaders equal MindCV's (golden/make_mindcv_images.py)."""

import inspect
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from conftest import parameters_of, write_images
from golden.mindcv_image_cases import (
    CASES,
    LOADERS,
    MIXES,
    STRENGTHS,
    WHOLE,
    batch,
    effect,
    image_for,
    pictures,
    ramp,
)
from pictures import transformed
from PIL import Image

import mindcv.data
from mindcv.config import Config
from mindcv.data import channel_statistics, create_loader, create_transforms, presets
from mindcv.data.augment.operations import DESATURATE, OPERATIONS, original_bits
from mindcv.data.augment.pixel_operations import PixelSeeded, RandomErasing
from mindcv.data.augment.policies import parse_policy
from mindcv.engine.build import build_normalize
from mindcv.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGES = np.load(GOLDEN / "mindcv_images.npz")
FACTS = json.loads((GOLDEN / "mindcv_images.json").read_text(encoding="utf-8"))

# Where MindCV is plainly wrong: its probability never mixes; see docs/from_mindcv.md.
OTHER_DEFAULTS = {("create_loader", "cutmix_prob"): 1.0}
# MindCV reads neither mstd nor the 0 of inc0; see docs/from_mindcv.md.
OTHER_SETTINGS = {
    "randaug-m9-mstd1.5": {"magnitude_std": 1.5},
    "randaug-m9-mstd0.5-inc0": {"increasing": False},
}

pytestmark = pytest.mark.usefixtures("fixed_seed")


def plain(value):
    return json.loads(json.dumps(value, default=list))


@pytest.mark.parametrize("name", FACTS["signatures"])
def test_a_function_takes_the_parameters_of_mindcv_in_its_order(name):
    function = getattr(presets, name, None) or getattr(mindcv.data, name)
    ours = parameters_of(function)
    for own, (parameter, default) in zip(ours, FACTS["signatures"][name], strict=False):
        assert own.name == parameter
        expected = OTHER_DEFAULTS.get((name, parameter), default)
        if expected == "required":
            assert own.default is inspect.Parameter.empty
        elif isinstance(expected, list):
            assert plain(own.default) == pytest.approx(expected)
        else:
            assert own.default == expected
    assert len(ours) >= len(FACTS["signatures"][name])


def test_modules_of_mindcv_are_attributes_before_they_are_imported(monkeypatch):
    for name in ("transforms_factory", "constants", "mixup"):
        monkeypatch.delitem(sys.modules, f"mindcv.data.{name}", raising=False)
        monkeypatch.delattr(mindcv.data, name, raising=False)
    assert mindcv.data.transforms_factory.create_transforms is create_transforms
    assert mindcv.data.constants.DEFAULT_CROP_PCT == 0.875
    assert mindcv.data.mixup.Mixup is presets.Mixup
    with pytest.raises(AttributeError, match="'no_such_module'"):
        mindcv.data.no_such_module  # noqa: B018


@pytest.mark.parametrize("name", FACTS["constants"])
def test_constants_are_those_of_mindcv(name):
    assert getattr(mindcv.data, name) == pytest.approx(FACTS["constants"][name])


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_of_mindcv(case):
    name, size, is_training, options = CASES[case]
    operations = create_transforms(name, size, is_training, **options)
    rows = ds.NumpySlicesDataset({"image": image_for(name)[None]}, shuffle=False)
    rows = rows.map(operations, "image")
    (found,) = next(rows.create_tuple_iterator(num_epochs=1, output_numpy=True))
    np.testing.assert_allclose(found, IMAGES[case], atol=2e-6)


def test_the_operations_run_one_by_one_on_an_image_of_pillow():
    """As MindCV's infer.py runs them: without the first, which decodes."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    operations = create_transforms(dataset_name="imagenet", image_resize=24, is_training=False)
    operations.pop(0)
    for operation in operations:
        image = operation(image)
    np.testing.assert_allclose(image, IMAGES["one by one"], atol=2e-6)


def test_a_size_that_is_no_square_trains_with_any_policy():
    image = np.zeros((32, 32, 3), np.uint8)
    for policy in ("randaug-m9-mstd0.5", "autoaug", "augmix"):
        operations = create_transforms(
            "cifar10", (24, 40), True, policy, normalize_on_device=True, re_prob=1.0
        )
        rows = ds.NumpySlicesDataset({"image": image[None]}, shuffle=False).map(operations, "image")
        assert next(rows.create_tuple_iterator(num_epochs=1))[0].shape == (24, 40, 3)


@pytest.mark.parametrize("value", [7, 0, 2.5, (1.0, 2.0, 3.0), np.arange(3)])
def test_erasing_fills_with_a_number(value):
    erase = dict(re_prob=1.0, re_scale=(0.3, 0.3), re_ratio=(1.0, 1.0), re_value=value)
    planes = np.full((3, 16, 16), 200.0, np.float32)
    operation = create_transforms("", 16, True, **erase).erasing
    assert isinstance(operation, RandomErasing)
    found = operation(planes)
    filled = found[found != 200.0].reshape(3, -1)
    assert np.array_equal(filled.T, np.broadcast_to(np.float32(value), filled.T.shape))
    if np.array_equal(value, 7):
        assert filled.max() == FACTS["erased_value"]


@pytest.mark.parametrize("value", ["7", "noise", None, True, (1.0, 2.0), float("nan"), [[1], [2]]])
def test_a_fill_that_is_no_number_is_an_error_that_shows_it(value):
    with pytest.raises(ValueError, match="re_value .* is unknown; expected random, a number"):
        create_transforms("", 16, True, re_prob=0.5, re_value=value)


class Draws:
    """Stands in for NumPy's generator, with the draws that MindCV got."""

    def __init__(self, share: float, corner: list[int]):
        self.share, self.corner = share, list(corner)

    def random(self) -> float:
        return 0.4

    def beta(self, *_) -> float:
        return self.share

    def integers(self, *_) -> int:
        return self.corner.pop(0)


@pytest.mark.parametrize("name", MIXES)
def test_mixup_and_cutmix_mix_as_mindcv_with_the_same_draws(name, monkeypatch):
    options, share, corner = MIXES[name]
    monkeypatch.setattr(PixelSeeded, "generator", lambda self, image: Draws(share, corner))
    images, labels = presets.Mixup(num_classes=5, **options)(batch(), np.array([0, 1, 2, 4]))
    assert images.dtype == labels.dtype == np.float32
    np.testing.assert_allclose(images, IMAGES[f"mix/{name}/images"], atol=1e-6)
    np.testing.assert_allclose(labels, IMAGES[f"mix/{name}/labels"], atol=1e-6)


def test_mixup_maps_batches_and_can_be_switched_off(fixed_seed):
    mixup = presets.Mixup(cutmix_alpha=1.0, num_classes=5)
    rows = ds.NumpySlicesDataset({"image": batch(), "label": np.arange(4)}, shuffle=False)
    rows = rows.batch(4).map(mixup, ["image", "label"])
    images, labels = next(rows.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert images.shape == (4, 3, 16, 16) and labels.shape == (4, 5)
    assert not np.array_equal(images, batch())
    mixup.mixup_enabled = False
    images, labels = mixup(batch(), np.arange(4))
    np.testing.assert_array_equal(images, batch())
    np.testing.assert_allclose(labels, 0.9 * np.eye(5)[:4] + 0.02, atol=1e-6)
    with pytest.raises(ConfigError, match="mode 'elem'"):
        presets.Mixup(mode="elem")


@pytest.mark.parametrize("text", FACTS["policies"])
def test_a_policy_string_means_what_it_means_in_mindcv(text):
    expected = FACTS["policies"][text] | OTHER_SETTINGS.get(text, {})
    policy = parse_policy(text)
    for field, value in expected.items():
        if field == "magnitude_max" and text.startswith("randaug"):
            value = value or 10.0
        if field == "depth":
            value = max(0, value)
        if text.startswith("trivial"):  # one scale there, shares of it here
            assert expected["magnitude"] == expected["magnitude_max"] == policy.scale
        elif hasattr(policy, field):
            assert getattr(policy, field) == (float(value) if isinstance(value, str) else value)
        else:  # MindCV limits the strength of no other policy
            assert field == "magnitude_max" and value is None


# Effects at strength 10: (mean change of the ramp, levels left) in MindCV and here. MindCV takes a
# shear's slope for degrees, and keeps 8 - n bits where n should be kept; see docs/from_mindcv.md.
DIFFERENT = {
    "ShearX": ((0.32, 256), (34.24, 255)),
    "ShearY": ((0.22, 256), (21.9, 256)),
    "PosterizeIncreasing": ((0.0, 256), (63.5, 2)),
    "PosterizeOriginal": ((63.5, 2), (0.0, 256)),
    "Posterize": ((7.5, 16), (7.5, 16)),  # equal at this strength only
}


@pytest.mark.parametrize("name", sorted(FACTS["operations"].keys() - {"GaussianBlurRand"}))
def test_an_operation_of_a_policy_changes_as_much_as_in_mindcv(name):
    own = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
    operation = OPERATIONS.get(own.split("_inc")[0].split("_orig")[0], DESATURATE)
    if name == "PosterizeOriginal":
        operation = replace(operation, value=original_bits)
    positive, increasing = SimpleNamespace(random=lambda: 0.0), "inc" in own
    found = [
        effect(
            np.asarray(
                operation.apply(
                    Image.fromarray(ramp()), strength, positive, (128,) * 3, increasing=increasing
                )
            )
        )
        for strength in STRENGTHS
    ]
    expected = FACTS["operations"][name]
    if name in DIFFERENT:
        np.testing.assert_allclose((expected[-1], found[-1]), DIFFERENT[name], atol=1.1)
        assert not np.allclose(found, expected, rtol=0, atol=1.1)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.1)


@pytest.mark.parametrize(
    "function, text",
    [
        ("auto_augment_transform", "autoaugr-mstd0.5"),
        ("auto_augment_transform", "3a"),
        ("rand_augment_transform", "randaug-m9-mstd0.5"),
        ("trivial_augment_wide_transform", "trivialaugwide"),
        ("augment_and_mix_transform", "augmix-m5"),
    ],
)
def test_a_policy_of_a_function_of_mindcv_runs_in_a_users_map(function, text, caplog):
    make = getattr(mindcv.data, function)
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    policy = make(text, dict(img_mean=(1, 2, 3), translate_const=9))
    rows = ds.NumpySlicesDataset({"image": image}, shuffle=False).map(policy, "image")
    assert next(rows.create_tuple_iterator(num_epochs=1))[0].shape == (16, 16, 3)
    assert policy.fill == (1, 2, 3) and not caplog.messages
    make(text, dict(interpolation="bicubic", translate_pct=0.1))
    assert caplog.messages[0].startswith("hparams interpolation, translate_pct: not used")
    with pytest.raises(ValueError, match="'v0' does not belong to this function, which takes "):
        make("v0", {})


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_gives_what_mindcvs_gives(name, caplog):
    rows = ds.GeneratorDataset(pictures(), ["image", "label"], shuffle=False)
    loader = create_loader(rows, **LOADERS[name])
    expected = FACTS["loaders"][name]
    assert loader.get_col_names() == expected["columns"]
    assert loader.get_dataset_size() == expected["steps"]
    assert loader.get_batch_size() == LOADERS[name]["batch_size"]
    images, labels = next(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert [list(images.shape), str(images.dtype)] == expected["image"]
    assert [list(labels.shape), str(labels.dtype)] == expected["label"]
    assert images[1].mean() == pytest.approx(expected["first"], abs=0.02)
    assert "create_loader got no transform" in caplog.text


def test_labels_that_come_as_arrays_of_one_number_are_class_numbers():
    """Mixed they would be taken for soft labels, and a loss would pair all with all."""
    rows = [(image, np.array([label % 3])) for image, label in pictures()[:4]]
    plain, three = (
        create_transforms("", 8),
        create_transforms("", 8, True, "autoaug", separate=True),
    )

    def labels_of(**more):
        dataset = ds.GeneratorDataset(rows, ["image", "label"], shuffle=False)
        transform = three if "separate" in more else plain
        loader = create_loader(dataset, 4, transform=transform, num_classes=3, **more)
        return next(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))[1]

    assert labels_of().tolist() == [0, 1, 2, 0]
    mixed = labels_of(is_training=True, mixup=0.8, cutmix_prob=0.0)
    np.testing.assert_array_equal(mixed, np.eye(3)[[0, 1, 2, 0]])
    assert labels_of(is_training=True, separate=True).tolist() == [0, 1, 2, 0] * 3
    soft = [lambda label: np.eye(3, dtype=np.float32)[int(label[0])]]
    copies = labels_of(is_training=True, separate=True, target_transform=soft)
    np.testing.assert_array_equal(copies, np.eye(3)[[0, 1, 2, 0] * 3])


@pytest.mark.parametrize("name", ["cifar10", "CIFAR100"])
def test_cifar_keeps_its_own_statistics_where_a_script_passes_imagenets(name, caplog):
    """As in MindCV, whose train.py passes them for every dataset."""
    own = channel_statistics(name)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    imagenets = dict(mean=[0.485 * 255, 0.456 * 255, 0.406 * 255], std=[58.395, 57.12, 57.375])
    found = transformed(images, name, 32, **imagenets)
    expected = (images - np.array(own[0])) / own[1]
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-5)
    told = f"{name.lower()}: mean and std are ImageNet's; the set's own are used, as in MindCV"
    assert caplog.messages == [told]
    other = transformed(images, name, 32, mean=(1, 2, 3), std=(4, 5, 6))
    np.testing.assert_allclose(other[:, 2], (images[..., 2] - 3.0) / 6, atol=1e-5)
    create_transforms(name, 32, normalize_on_device=True, **imagenets)
    assert len(caplog.messages) == 1
    config = Config(model="m", dataset=name.lower(), **imagenets)
    assert build_normalize(config).mean.shape == (1, 3, 1, 1)
    assert "leave them out to evaluate or continue its weights" in caplog.messages[1]


@pytest.mark.parametrize("is_training", [True, False])
def test_one_mean_serves_the_three_channels_of_colour_images(is_training):
    image = np.full((1, 32, 32, 3), 99, np.uint8)
    named = dict(mean=[100.0], std=[50.0]) | (dict(hflip=0.0) if is_training else {})
    found = transformed(image, "cifar10", 32, is_training, **named)
    assert found.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(found[0, :, 16, 16], -0.02, atol=1e-6)


def test_a_size_may_be_any_whole_number():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    for size in (np.int64(16), np.array([16, 16])):
        assert transformed(image, "cifar10", size).shape == (1, 3, 16, 16)
    with pytest.raises(ConfigError, match="image_resize 16.5: expected one side"):
        create_transforms("cifar10", 16.5)


def test_splits_of_a_batch_begin_with_the_clean_images():
    """As MindCV documents; its own loader fails under MindSpore 2.10 (column_order)."""
    rows = ds.GeneratorDataset(pictures(), ["image", "label"], shuffle=False)
    plain = create_loader(rows, 2, transform=create_transforms("", 24, True, **WHOLE))
    expected = next(plain.create_tuple_iterator(num_epochs=1, output_numpy=True))[0]
    transform = create_transforms("", 24, True, "autoaug", separate=True, **WHOLE)
    clean, varied, final = transform
    for operations in (transform, (clean, varied, final)):  # as a script may hand them on
        rows = ds.GeneratorDataset(pictures(), ["image", "label"], shuffle=False)
        loader = create_loader(rows, 2, is_training=True, transform=operations, separate=True)
        images, labels = next(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
        np.testing.assert_array_equal(images[:2], expected)
        assert labels.tolist() == [0, 1] * 3
        assert images.shape == (6, 3, 24, 24)


def test_a_loader_knows_the_classes_of_its_dataset(tmp_path):
    write_images(tmp_path / "train", 6, 3)
    dataset = mindcv.data.create_dataset("ImageNet", str(tmp_path), "train")
    for is_training in (True, False):
        transform = create_transforms("ImageNet", 16, is_training)
        loader = create_loader(dataset, 2, is_training=is_training, transform=transform)
        assert loader.num_classes() == dataset.num_classes() == 3
    loader = mindcv.data.create_evaluation_loader(dataset.samples, mindcv.data.Preprocessing(16), 2)
    assert loader.num_classes() == 3


def test_a_user_with_the_label_column_of_cifar100_is_served():
    rows = ds.GeneratorDataset(pictures()[:4], ["image", "fine_label"], shuffle=False)
    loader = create_loader(rows, 4, transform=create_transforms("", 8))
    assert loader.get_col_names() == ["image", "label"]
    assert next(loader.create_tuple_iterator(output_numpy=True))[1].tolist() == [0, 1, 2, 3]
