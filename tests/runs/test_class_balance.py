"""Class weights and balanced sampling: what a run makes of rare classes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command, write_images

from mindcv.config import parse_arguments
from mindcv.data.order import sample_order
from mindcv.errors import ConfigError, DataError
from mindcv.loss.class_weights import class_weights

NAMES = ("class_0", "class_1", "class_2")


def train(words, folder: Path, tmp_path: Path, **options) -> str:
    options = {"ckpt_save_dir": folder, "log_interval": 1, **options}
    more = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = run_command("train.py", *words, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_balanced_weights_are_those_of_scikit_learn():
    """compute_class_weight("balanced", classes=[0, 1, 2], y=24 x 0, 6 x 1, 10 x 2), 1.9.1."""
    expected = [0.5555555555555556, 2.2222222222222223, 1.3333333333333333]
    assert class_weights("balanced", [24, 6, 10], NAMES) == pytest.approx(expected, rel=1e-12)


def test_weights_come_from_numbers_or_a_file_by_name(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"class_2": 3, "class_0": 0.5, "class_1": 1.25}))
    assert class_weights(str(path), [1, 1, 1], NAMES) == [0.5, 1.25, 3.0]
    path.write_text("[1, 2, 3]")
    assert class_weights(str(path), [1, 1, 1], NAMES) == [1.0, 2.0, 3.0]
    assert class_weights((1, 2.5, 4), [1, 0, 1], NAMES) == [1.0, 2.5, 4.0]


@pytest.mark.parametrize(
    "content, message",
    [
        (
            {"class_0": 1, "class_1": 1},
            "class 'class_2' has the weight None; expected a number above 0",
        ),
        ({"class_0": 1, "class_1": 1, "class_2": 0}, "class 'class_2' has the weight 0"),
        ({"class_0": 1, "class_1": 1, "class_2": True}, "class 'class_2' has the weight True"),
        ({"class_0": 1, "cat": 1}, "cat is not a class of the training set, which has class_0, "),
        ([1, 2], "expected one weight for each of 3 classes, in the order of "),
        ("many", "expected one weight for each of 3 classes"),
    ],
)
def test_a_file_that_does_not_weigh_every_class_is_an_error(tmp_path, content, message):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        class_weights(str(path), [1, 1, 1], NAMES)


def test_what_cannot_be_read_or_balanced_is_an_error(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    for path in ("missing.json", "broken.json", ""):
        with pytest.raises(ConfigError, match="cannot be read|is not JSON"):
            class_weights(str(tmp_path / path), [1, 1, 1], NAMES)
    with pytest.raises(DataError, match="balanced: class_1 of the training set has no image"):
        class_weights("balanced", [1, 0, 1], NAMES)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            "--class_weights balanced --loss asl_single_label",
            "asl_single_label has none; use CE or",
        ),
        ("--class_weights balanced --sampler balanced", "favour rare classes twice"),
        ("--class_weights 1,0,2", "0.0 is out of range, expected above 0"),
        ("--class_weights=-1,2", "-1.0 is out of range, expected above 0"),
        ("--class_weights nan,1", "class_weights: expected finite numbers, got 'nan,1'"),
        ("--class_weights 1,1e400", "class_weights: expected finite numbers, got '1,1e400'"),
        ("--sampler balanced --shuffle False", "leave out shuffle False"),
        ("--sampler balanced --aug_repeats 3", "leave out aug_repeats 3"),
    ],
)
def test_contradictions_are_answered_at_once(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_arguments("train.py", "", arguments=["--model", "tiny_x", *words.split()])


def test_a_class_of_weight_two_trains_as_if_each_of_its_images_were_there_twice(
    short_run, tmp_path
):
    """Batches of all images, without randomness: the mean of the loss is weighted, as in torch."""
    write_images(tmp_path / "once/train", 12, 3)
    shutil.copytree(tmp_path / "once", tmp_path / "twice")
    for path in (tmp_path / "twice/train/class_1").glob("*.jpg"):
        shutil.copy(path, path.with_name(f"{path.stem}-again.jpg"))
    (tmp_path / "weights.json").write_text('{"class_0": 0.5, "class_1": 1, "class_2": 0.5}')
    common = dict(val_while_train=False)  # smoothing weighs classes, not images
    once = dict(common, data_dir=tmp_path / "once", batch_size=12)
    said = train(
        short_run, tmp_path / "a", tmp_path, **once, class_weights=tmp_path / "weights.json"
    )
    assert "  weights in the loss: 0.5 of class_0, 1.0 of class_1, 0.5 of class_2\n" in said
    train(short_run, tmp_path / "b", tmp_path, **common, data_dir=tmp_path / "twice", batch_size=16)
    assert losses(tmp_path / "a") == pytest.approx(losses(tmp_path / "b"), rel=1e-5)
    train(short_run, tmp_path / "c", tmp_path, **once)
    assert losses(tmp_path / "c") != pytest.approx(losses(tmp_path / "a"), rel=1e-3)
    # A resumed run keeps its weights, wherever they come from.
    (tmp_path / "weights.json").write_text("[0.5, 3, 0.5]")
    words = ("--class_weights", tmp_path / "weights.json", "--resume", "auto")
    once |= {"ckpt_save_dir": tmp_path / "a"}
    more = [word for key, value in once.items() for word in (f"--{key}", str(value))]
    done = run_command("train.py", *short_run, *more, *words, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "class class_1 had the weight 1.0 in the loss and has 3.0" in done.stderr


def test_a_balanced_run_reads_what_its_log_says(short_run, tmp_path):
    write_images(tmp_path / "data/train", 48, 3)
    for path in sorted((tmp_path / "data/train/class_1").iterdir())[2:]:
        path.unlink()
    options = dict(data_dir=tmp_path / "data", shuffle=True, sampler="balanced", epoch_size=2)
    options |= dict(val_while_train=False, warmup_epochs=0, batch_size=4)
    log = tmp_path / "samples.csv"
    said = train(short_run, tmp_path / "whole", tmp_path, **options, log_samples=log)
    assert "  34 images to train on, 16 of class_0, 2 of class_1, 16 of class_2\n" in said
    assert (
        "an epoch draws 11.33 images of each class: 2 of the images more than once, up to " in said
    )
    labels = np.repeat([0, 1, 2], [16, 2, 16])
    with log.open() as file:
        rows = list(csv.DictReader(file))
    for epoch in (1, 2):
        read = " ".join(row["indices"] for row in rows if row["epoch"] == str(epoch)).split()
        expected = sample_order(34, 42, epoch - 1, True, balance=labels)
        assert list(map(int, read)) == expected[:32].tolist()
