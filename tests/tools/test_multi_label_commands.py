"""Predictions of several labels an image: over a threshold, from checkpoints and exported files."""

import csv
import json

import numpy as np
import pytest
from commands import NAMES, call, other_metadata, registered, tiny_regnet, weights, write_checkpoint
from mindspore import Tensor
from PIL import Image

from mindcv import Classifier
from mindcv.classifier import batches_of
from mindcv.config import Config
from mindcv.data import Normalize
from mindcv.engine.classes import check_classes, check_task
from mindcv.errors import ConfigError, DataError, WeightsError
from mindcv.tools.predict import class_folders
from mindcv.weights import Metadata

SEVERAL = other_metadata(task="multi_label")


@pytest.fixture(autouse=True)
def tiny():
    with registered(tiny_regnet):
        yield


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "net.ckpt", weights(1), SEVERAL)


def expected(checkpoint, images) -> np.ndarray:
    """Return the sigmoids, by the network's own logits."""
    classifier = Classifier.from_pretrained(checkpoint)
    used = SEVERAL.preprocessing
    (batch,) = batches_of(sorted(map(str, images.iterdir())), used, 8, on_bad=None)
    views = Tensor(np.stack([view for _, view in batch]))
    logits = classifier.network(Normalize(used.mean, used.std)(views)).asnumpy()
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def test_a_prediction_holds_every_class_over_the_threshold_with_its_sigmoid(checkpoint, images):
    shares = expected(checkpoint, images)
    classifier = Classifier.from_pretrained(checkpoint)
    for asked, limit in ((dict(), 0.5), (dict(threshold=0.3), 0.3), (dict(threshold=0.99), 0.99)):
        for found, row in zip(classifier(str(images), **asked), shares, strict=True):
            over = {NAMES[index]: row[index] for index in np.flatnonzero(row >= limit)}
            told = {guess.class_name: guess.probability for guess in found.guesses}
            assert told == pytest.approx(over, rel=1e-5)
            assert (found.name, found.probability) == next(iter(told.items()), ("", 0.0))
            assert over or str(found).endswith(": no class")
    assert len(classifier(str(images), threshold=0.0, top_k=2)[0].guesses) == 2
    with pytest.raises(ConfigError, match="threshold 1.5: expected a number from 0"):
        classifier(str(images), threshold=1.5)


def test_the_threshold_holds_for_one_label_an_image_too(tmp_path, images, capsys):
    path = write_checkpoint(tmp_path / "one.ckpt", weights(1))
    output = tmp_path / "found.json"
    words = (images, "--ckpt_path", path, "--output", output)
    assert call(capsys, "predict", *words, "--threshold", 0.2)[0] == 0
    (first, *_) = json.loads(output.read_text(encoding="utf-8"))["images"]
    assert first["predictions"] and all(g["probability"] >= 0.2 for g in first["predictions"])
    code, _, err = call(capsys, "predict", *words, "--threshold", 2)
    assert code == 2 and "'2' is not a number from 0 to 1" in err


def test_an_image_without_a_class_keeps_its_place_in_the_files(checkpoint, images, capsys):
    shares = expected(checkpoint, images)
    limit = float(np.sort(shares.max(1))[1])  # two of the three images reach it
    table, sheet = images.parent / "found.csv", images.parent / "sheet.png"
    words = (images, "--ckpt_path", checkpoint, "--threshold", limit - 1e-6)
    assert call(capsys, "predict", *words, "--output", table, "--contact_sheet", sheet)[0] == 0
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == set(map(str, images.iterdir()))
    assert [row["class_name"] for row in rows].count("") == 1
    assert sheet.is_file()
    assert "\n  no class\n" in call(capsys, "predict", *words)[1]


@pytest.mark.parametrize("more", [(), ("--softmax",)])
def test_an_exported_file_gives_what_its_checkpoint_gives(checkpoint, images, capsys, more):
    exported = checkpoint.with_suffix(".mindir")
    words = ("--ckpt_path", checkpoint, "--output", exported, "--normalize", "--batch_size", 3)
    assert call(capsys, "export", *words, *more)[0] == 0
    about = json.loads((checkpoint.parent / "net.mindir.json").read_text(encoding="utf-8"))
    assert about["task"] == "multi_label"
    output = checkpoint.with_name("found.json")
    words = (images, "--ckpt_path", exported, "--threshold", 0, "--output", output)
    assert call(capsys, "predict", *words)[0] == 0
    found = json.loads(output.read_text(encoding="utf-8"))["images"]
    for image, row in zip(found, expected(checkpoint, images), strict=True):
        told = {guess["class_index"]: guess["probability"] for guess in image["predictions"]}
        np.testing.assert_allclose([told[index] for index in range(5)], row, rtol=1e-4)


def test_a_task_of_a_later_version_is_refused():
    array = other_metadata(task="boxes").to_array()
    with pytest.raises(WeightsError, match="task 'boxes' is not single_label or multi_label"):
        Metadata.from_array(array, "net.ckpt")


def test_images_of_the_other_kind_are_refused():
    assert class_folders(SEVERAL) == () and class_folders(other_metadata()) == NAMES
    for dataset, metadata in (("csv", SEVERAL), ("multi_label", other_metadata())):
        with pytest.raises(DataError, match=f"was trained on {metadata.task} images"):
            check_task(Config(dataset=dataset), metadata, "net.ckpt")


def test_weights_without_names_need_a_column_for_each_class():
    config = Config(dataset="multi_label", data_dir="images", num_classes=20)
    with pytest.raises(DataError, match="holds 18 classes and net.ckpt knows 20.*; list a column"):
        check_classes(config, 18, 20, "net.ckpt", remedy="; set num_classes")
    check_classes(config, 20, 20, "net.ckpt")
