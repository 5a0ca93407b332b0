"""Each option of data and augmentation takes effect in the batches that train.py builds."""

import csv
import json
from types import SimpleNamespace

import mindspore.dataset as ds
import numpy as np
import pytest
from conftest import run_command
from mindspore import nn
from pictures import batches_of
from PIL import Image

from mindcv import engine
from mindcv.config import Config, training_contradictions
from mindcv.data.preprocessing import Preprocessing
from mindcv.engine import build as recipe

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)

# A pipeline in which nothing is random.
STILL = dict(
    image_resize=32,
    batch_size=8,
    scale=(1.0, 1.0),
    ratio=(1.0, 1.0),
    hflip=0.0,
    color_jitter=None,
    shuffle=False,
    num_parallel_workers=1,
)
ERASING = dict(re_prob=1.0, re_scale=(0.1, 0.3))
MIXING = dict(mixup=0.8, cutmix=1.0, shuffle=True)  # in order a batch is of one class

# What stands around the option, the option and its changed value.
CHANGES = [
    ({}, "train_split", "val"),
    ({}, "batch_size", 6),
    ({"batch_size": 7}, "drop_remainder", False),
    ({}, "num_samples", 16),
    ({}, "shuffle", True),
    ({"shuffle": True}, "aug_repeats", 3),
    ({}, "image_resize", 24),
    ({}, "image_resize", (24, 40)),
    ({}, "scale", (0.2, 0.3)),
    ({"scale": (0.2, 0.2)}, "ratio", (2.0, 2.0)),
    ({}, "hflip", 0.5),
    ({}, "vflip", 0.5),
    ({}, "color_jitter", 0.4),
    ({}, "lighting", 0.5),
    ({"hflip": 0.5}, "augment_on_device", True),
    ({}, "interpolation", "nearest"),
    ({}, "interpolation", "bicubic"),
    ({}, "interpolation", "area"),
    ({}, "interpolation", "random"),
    ({}, "auto_augment", "trivialaugwide"),
    ({"auto_augment": "augmix"}, "aug_splits", 2),
    ({}, "re_prob", 1.0),
    (ERASING, "re_scale", (0.02, 0.03)),
    (ERASING, "re_ratio", (0.9, 1.1)),
    (ERASING, "re_value", "random"),
    (ERASING, "re_value", 0.5),
    (ERASING, "re_value", (0.0, 0.0, 1.0)),
    (ERASING | {"re_scale": (0.7, 0.9)}, "re_max_attempts", 1),
    (ERASING, "mean", (10.0, 20.0, 30.0)),
    (ERASING | {"re_value": "random"}, "std", (10.0, 20.0, 30.0)),
    ({}, "mixup", 0.8),
    ({}, "cutmix", 1.0),
    (MIXING, "cutmix_prob", 0.3),
    (MIXING, "switch_prob", 1.0),
    (MIXING | {"switch_prob": 1.0}, "switch_prob", 0.0),
    (MIXING, "mixup_off_epoch", 1),
]


@pytest.fixture
def training_batches(fixed_seed, image_folder):
    def batches(**options):
        config = Config(model="m", data_dir=str(image_folder), **{**STILL, **options})
        assert list(training_contradictions(config)) == []
        train_set = recipe.open_train_set(config, RUNTIME)
        of_run = recipe.build_train_batches(config, RUNTIME, train_set, 6)
        both_epochs = [*of_run.epoch(0), *of_run.epoch(1)]
        return [dict(zip(("image", "label"), batch)) for batch in both_epochs]

    return batches


def equal(first: list[dict], second: list[dict]) -> bool:
    return len(first) == len(second) and all(
        one[key].shape == other[key].shape and (one[key] == other[key]).all()
        for one, other in zip(first, second)
        for key in ("image", "label")
    )


@pytest.mark.parametrize("around, option, value", CHANGES, ids=lambda part: str(part)[:40])
def test_option_changes_the_training_batches(training_batches, around, option, value):
    plain = training_batches(**around)
    assert equal(plain, training_batches(**around))
    assert not equal(plain, training_batches(**{**around, option: value}))


def test_seed_changes_the_draws(training_batches):
    options = dict(auto_augment="randaug-m9-mstd0.5-inc1", **MIXING)
    plain = training_batches(**options)
    ds.config.set_seed(43)
    assert not equal(plain, training_batches(**options))


def test_mixing_ends_where_it_should(training_batches):
    first, second = np.split(
        np.stack([batch["label"] for batch in training_batches(mixup_off_epoch=1, **MIXING)]), 2
    )
    assert (first.max(-1) < 1).any() and (second.max(-1) == 1).all()


@pytest.mark.parametrize(
    "option, value",
    [
        ("val_split", "train"),
        ("batch_size", 5),
        ("image_resize", 24),
        ("image_resize", (24, 40)),
        ("interpolation", "nearest"),
        ("interpolation", "area"),
        ("crop_pct", 1.0),
        ("crop_pct", 1.15),
        ("crop_mode", "squash"),
        ("antialias", True),
    ],
)
def test_option_changes_the_evaluation_batches(image_folder, monkeypatch, option, value):
    evaluator = SimpleNamespace(evaluate=lambda step, loader, *_, **__: batches_of(loader))
    monkeypatch.setattr(engine, "evaluator_of", lambda dataset: evaluator)

    def batches(**options):
        config = Config(data_dir=str(image_folder), **{**STILL, **options})
        train_set = recipe.open_train_set(config, RUNTIME)
        return recipe.build_evaluation(config, RUNTIME, nn.ReLU(), train_set, num_classes=6)()

    plain = batches()
    assert equal(plain, batches(interpolation="random"))  # random is for training
    assert not equal(plain, batches(**{option: value}))


def test_jsd_needs_splits():
    missing = dict(training_contradictions(Config(model="m", loss="jsd")))
    assert "aug_splits 3" in missing["loss"]
    splits = Config(model="m", loss="jsd", aug_splits=3, auto_augment="augmix")
    assert not list(training_contradictions(splits))


def test_splits_train_with_plain_cross_entropy(short_run, tmp_path):
    """A batch holds three images of each label; an epoch has as many steps as without splits."""
    words = [*short_run, "--auto_augment", "augmix-m5-w4-d2", "--aug_splits", "3"]
    words[words.index("--epoch_size") + 1] = "2"
    done = run_command("train.py", *words, "--show_batch", "batch.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the first 24 training images are in batch.png" in done.stdout
    assert done.stdout.index("batch.png") < done.stdout.index("first step")
    assert Image.open(tmp_path / "batch.png").size[1] == 3 * 184 + 10
    assert "6 steps per epoch" in done.stdout
    table = list(csv.DictReader((tmp_path / "run/metrics.csv").open(encoding="utf-8")))
    assert float(table[1]["train_loss"]) < float(table[0]["train_loss"])


def test_checkpoint_tells_how_evaluation_prepares_images(image_folder):
    config = Config(
        model="regnet_x_200mf",
        data_dir=str(image_folder),
        interpolation="random",
        crop_mode="squash",
        antialias=True,
        image_resize=(40, 56),
    )
    train_set = recipe.open_train_set(config, RUNTIME)
    told = recipe.describe_weights(config, train_set, 6).preprocessing
    assert (told.interpolation, told.crop_mode, told.antialias) == ("bilinear", "squash", True)
    assert told.sides == (40, 56)
    assert Preprocessing.from_dict(json.loads(json.dumps(told.to_dict()))) == told
