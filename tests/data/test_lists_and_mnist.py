"""Csv and json lists, and the files of MNIST."""

import csv
import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor
from PIL import Image

from mindcv.data import (
    create_dataset,
    create_loader,
    create_normalize,
    create_transforms,
    open_samples,
    training_classes,
)
from mindcv.data.datasets import IMAGENET_MEAN, IMAGENET_STD
from mindcv.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("fixed_seed")

ROWS = [("pets/1.png", "cat"), ("pets/2.png", "dog"), ("pets/3.png", "cat")]


def picture(colour: tuple[int, int, int], side: int = 12) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "pets").mkdir()
    for number, (path, _) in enumerate(ROWS):
        Image.fromarray(picture((number * 40, 0, 0))).save(tmp_path / path)
    return tmp_path


def write_list(root: Path, name: str, rows=ROWS, columns=("path", "label")) -> None:
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def error_of(*arguments, **named) -> str:
    with pytest.raises(DataError) as error:
        open_samples(*arguments, **named)
    return str(error.value)


# Lists


def write_json(root):
    entries = [{"path": path, "label": label, "more": 1} for path, label in ROWS]
    (root / "train.json").write_text(json.dumps(entries))


WRITERS = {
    "csv": lambda root: write_list(root, "train.csv"),
    "json": write_json,
    "json object": lambda root: (root / "train.json").write_text(json.dumps(dict(ROWS))),
    "jsonl": lambda root: (root / "train.jsonl").write_text(
        "\n".join(json.dumps({"label": label, "path": path}) for path, label in ROWS) + "\n\n"
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_list_is_read_in_its_order_with_sorted_classes(root, kind):
    WRITERS[kind](root)
    name = kind.split()[0].removesuffix("l")
    samples = open_samples(name, str(root), "train")
    assert samples.class_names == ("cat", "dog") and samples.labels.tolist() == [0, 1, 0]
    dataset = create_dataset(name, str(root), shuffle=False)
    assert dataset.num_classes() == 2 and dataset.get_class_indexing() == {"cat": 0, "dog": 1}
    rows = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    for (image, label), (path, _), expected in zip(rows, ROWS, samples.labels, strict=True):
        assert image.tobytes() == (root / path).read_bytes() and label == expected
    assert samples.name(1) == str(root / "pets/2.png")
    assert training_classes(name, str(root), "train") == {"cat": 0, "dog": 1}


def test_paths_are_absolute_or_relative_to_the_list_and_any_bytes(root, tmp_path):
    odd = os.fsdecode(os.fsencode(root) + b"/caf\xe9.png")
    os.link(root / "pets/1.png", odd)
    (root / "train.csv").write_bytes(
        b"\xef\xbb\xbfpath,label\n" + os.fsencode(odd) + b",a\npets/2.png,a\n"
    )
    samples = open_samples("csv", str(root), "train")
    assert samples.read(0).tobytes() == (root / "pets/1.png").read_bytes()
    assert samples.read(1).tobytes() == (root / "pets/2.png").read_bytes()


def test_numbers_are_the_classes_themselves(root):
    write_list(root, "train.csv", [("pets/1.png", 3), ("pets/2.png", 0)])
    samples = open_samples("csv", str(root), "train")
    assert samples.labels.tolist() == [3, 0] and samples.num_classes == 4
    write_list(root, "val.csv", [("pets/1.png", 2)])
    classes = training_classes("csv", str(root), "train")
    val = open_samples("csv", str(root), "val", class_indexing=classes)
    assert val.labels.tolist() == [2] and val.num_classes == 4


def test_a_validation_list_is_numbered_as_the_training_list(root):
    write_list(root, "train.csv")
    write_list(root, "val.csv", [("pets/2.png", "dog"), ("pets/1.png", "0")])
    classes = training_classes("csv", str(root), "train")
    assert open_samples("csv", str(root), "val", class_indexing=classes).labels.tolist() == [1, 0]
    write_list(root, "val.csv", [("pets/2.png", "dog"), ("pets/1.png", "bird")])
    message = error_of("csv", str(root), "val", class_indexing=classes)
    assert f"{root}/val.csv:3: label 'bird' is not in the training set" in message


@pytest.mark.parametrize("written", ["{}.0", " {} ", "0{}"])
def test_numbers_stay_the_classes_however_they_are_written(root, written):
    """As pandas writes a column with gaps, and with blanks after the comma."""
    rows = [("pets/1.png", written.format(number)) for number in range(12)]
    write_list(root, "train.csv", rows, ("path", " label"))
    assert open_samples("csv", str(root), "train").labels.tolist() == list(range(12))
    classes = training_classes("csv", str(root), "train")
    assert list(classes) == [str(n) for n in range(12)]
    write_list(root, "val.csv", [("pets/1.png", label) for label in ("11", "2.0", " 3")])
    val = open_samples("csv", str(root), "val", class_indexing=classes)
    assert val.labels.tolist() == [11, 2, 3]
    (root / "val.json").write_text(json.dumps({"pets/1.png": 11.0, "pets/2.png": 2}))
    assert open_samples("json", str(root), "val", classes).labels.tolist() == [11, 2]


def test_a_number_is_no_class_where_names_are_other_numbers(root):
    write_list(root, "train.csv", [("pets/1.png", label) for label in ("10", "2", "cat")])
    classes = training_classes("csv", str(root), "train")
    assert classes == {"10": 0, "2": 1, "cat": 2}
    write_list(root, "val.csv", [("pets/1.png", "2"), ("pets/2.png", "0")])
    assert "val.csv:3: label '0' is not" in error_of("csv", str(root), "val", classes)


def test_one_file_holds_all_splits_by_a_column(root):
    rows = [(*row, "val" if number == 2 else "train") for number, row in enumerate(ROWS)]
    write_list(root, "all.csv", rows, ("path", "label", "split"))
    assert len(open_samples("csv", str(root / "all.csv"), "train")) == 2
    assert open_samples("csv", str(root / "all.csv"), "val").name(0).endswith("3.png")
    assert "no image of the split 'test'" in error_of("csv", str(root / "all.csv"), "test")
    write_list(root, "train.csv")
    assert len(open_samples("csv", str(root / "train.csv"), "train")) == 3
    # Else the network would be evaluated on the images it was trained on.
    assert "into a list" in error_of("csv", str(root / "train.csv"), "val")
    write_list(root, "val.csv")
    assert f"name their folder, {root}" in error_of("csv", str(root / "train.csv"), "val")


@pytest.mark.parametrize("columns", [("fname", "label"), ("image", "label", "path")])
def test_another_name_stands_for_the_column_path_where_there_is_none(root, columns):
    rows = [(path, label, path)[: len(columns)] for path, label in ROWS]
    write_list(root, "train.csv", rows, columns)
    samples = open_samples("csv", str(root), "train")
    assert [samples.name(i).endswith(path) for i, (path, _) in enumerate(ROWS)] == [True] * 3
    write_list(
        root,
        "train.csv",
        [(path, path, label) for path, label in ROWS],
        ("image", "fname", "label"),
    )
    assert "expected label and one of path, image, fname, filename" in error_of(
        "csv", str(root), "train"
    )


@pytest.mark.parametrize(
    "name, content, fragment",
    [
        ("train.csv", "file,label\na,b\n", "train.csv:1: the columns are file, label"),
        ("train.csv", "", "train.csv:1: the columns are none"),
        ("train.csv", "path,label\n", "lists no image"),
        ("train.csv", "path,label\npets/1.png,cat\n,dog\n", "train.csv:3: no path"),
        ("train.csv", "path,label\npets/1.png,cat\npets/2.png\n", "train.csv:3: no label"),
        ("train.csv", 'path,label\npets/1.png,"cat\n', "train.csv:"),
        ("train.csv", "path,label\na.png,cat\nb.png,cat\n", "train.csv:2: no file"),
        ("train.csv", "path,label\npets/1.png,99999999999\n", "train.csv:2: label 99999999999"),
        ("train.csv", f"path,label\npets/1.png,{'9' * 5000}\n", "train.csv:2: label 999999"),
        ("train.csv", "path,label\npets/1.png, \n", "train.csv:2: no label"),
        ("train.csv", "path,label\npets/1.png,0\npets/2.png,-1\n", "train.csv:3: label -1: where"),
        (
            "train.csv",
            "path,label\npets/1.png,0.5\npets/2.png,1\n",
            "train.csv:2: label 0.5: where",
        ),
        ("train.json", "[", "train.json:1: "),
        ("train.json", "[" * 100_000, "train.json:1: "),
        (
            "train.json",
            '{"pets/\\ud83d.png": 1}',
            "train.json, entry 1: 'pets/\\ud83d.png' is not valid text",
        ),
        (
            "train.json",
            '{"pets/1.png": "\\ud83d"}',
            "train.json, entry 1: '\\ud83d' is not valid text",
        ),
        ("train.jsonl", "[" * 100_000, "train.jsonl:1: "),
        ("train.json", '[\n{"path": "a"}]', "train.json, entry 1: no label"),
        ("train.json", '"text"', "train.json: expected a list of objects"),
        ("train.json", "[1]", "train.json, entry 1: expected an object"),
        ("train.json", '[{"path": "a", "label": 1.5}]', "label 1.5 is neither"),
        ("train.json", '[{"path": 5, "label": 1}]', "5 is no path"),
        ("train.jsonl", '{"path": "pets/1.png", "label": 1}\n{\n', "train.jsonl:2: "),
    ],
)
def test_a_mistake_in_a_list_is_told_with_file_and_line(root, name, content, fragment):
    (root / name).write_text(content)
    message = error_of("csv" if name.endswith("csv") else "json", str(root), "train")
    assert fragment in message and str(root) in message


def test_a_missing_list_tells_what_is_there(root):
    message = error_of("json", str(root), "train")
    assert f"no list {root}/train.json or {root}/train.jsonl" in message and "pets" in message
    assert "does not exist" in error_of("csv", str(root / "no"), "train")
    (root / "train.json").write_text("[]")
    (root / "train.jsonl").write_text("")
    assert "both list" in error_of("json", str(root), "train")


# MNIST


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = head + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def mnist(tmp_path) -> tuple[Path, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    for part, ending in (("train", ""), ("t10k", ".gz")):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{ending}", np.arange(6, dtype=np.uint8))
    return tmp_path, images


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_mnist_files_give_their_images_through_the_usual_transforms(mnist, split):
    root, images = mnist
    dataset = create_dataset("mnist", str(root), split, shuffle=False)
    assert dataset.num_classes() == 10
    transform = create_transforms("mnist", 28, crop_pct=1.0, normalize_on_device=True)
    ((batch, labels),) = create_loader(dataset, 6, transform=transform).create_tuple_iterator(
        num_epochs=1, output_numpy=True
    )
    np.testing.assert_array_equal(batch, images[..., None])
    assert labels.tolist() == list(range(6))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_gets_the_channels_it_takes(channels):
    """Grey images serve a network for colour, and colour images one for grey."""
    grey = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    normalize = create_normalize("mnist", channels=channels)
    for images in (grey, np.repeat(grey, 3, -1)):
        found = normalize(Tensor(images)).asnumpy()
        expected = np.repeat((grey.transpose(0, 3, 1, 2) - 33.3285) / 78.5655, channels, 1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_digits_are_neither_flipped_nor_coloured_in_training(mnist, caplog):
    root, images = mnist
    options = dict(color_jitter=0.4, scale=(0.08, 0.1), normalize_on_device=True)
    transform = create_transforms("mnist", 28, is_training=True, **options)
    dataset = create_dataset("mnist", str(root), "train", shuffle=False)
    loader = create_loader(dataset, 6, is_training=True, transform=transform)
    ((batch, _),) = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
    np.testing.assert_array_equal(batch, images[..., None])
    with caplog.at_level("WARNING"):
        assert create_transforms("mnist", 28, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert "mnist: mean and std have three values and its images one channel" in caplog.text
    with pytest.raises(ConfigError, match="auto_augment: mnist has grey images"):
        create_transforms("MNIST", 28, is_training=True, auto_augment="autoaug")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_digits_are_trained_and_evaluated(warm, mnist, tiny_models, tmp_path, channels):
    """The weights tell validate.py and predict how many channels the network takes."""
    common = ["--import_module", str(tiny_models), "--dataset", "MNIST"]
    common += ["--data_dir", str(mnist[0]), "--val_split", "test"]
    words = [*common, "--model", "tiny", "--in_channels", str(channels), "--num_classes", "10"]
    words += ["--image_resize", "32", "--batch_size", "3", "--epoch_size", "1"]
    words += ["--warmup_epochs", "0", "--show_batch", "batch.png", "--ckpt_save_dir", "run"]
    done = warm.run(["train.py", *words, "--val_while_train", "True"], tmp_path)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "batch.png") as sheet:
        assert sheet.format == "PNG"
    weights = ["--ckpt_path", "run/tiny-1_2.ckpt"]
    done = warm.run(["validate.py", *common, *weights], tmp_path)
    assert done.code == 0 and "on 6 images" in done.out, done.err
    Image.fromarray(picture((9, 99, 200))).save(tmp_path / "colour.png")
    words = ["predict", "colour.png", "--import_module", str(tiny_models), *weights]
    done = warm.run(["mindcv", *words], tmp_path)
    assert done.code == 0 and "colour.png" in done.out, done.err


def test_both_splits_together_are_all(mnist):
    samples = open_samples("mnist", str(mnist[0]), "all")
    assert len(samples) == 12 and samples.labels.tolist() == 2 * list(range(6))


def test_digits_are_numbered_as_in_the_training_set(mnist):
    root, _ = mnist
    classes = {str(digit): 9 - digit for digit in range(10)}
    samples = open_samples("mnist", str(root), "val", class_indexing=classes)
    assert samples.labels.tolist() == [9, 8, 7, 6, 5, 4] and samples.class_names[0] == "9"
    del classes["5"]
    message = error_of("mnist", str(root), "val", class_indexing=classes)
    assert f"mnist in {root} holds classes that are not in the training set: 5" in message


def test_missing_or_cut_mnist_files_are_named(mnist, tmp_path):
    root, images = mnist
    assert "no train-images-idx3-ubyte" in error_of("mnist", str(root / "no"), "train")
    assert "'dev'" in error_of("mnist", str(root), "dev")
    path = root / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, fragment in (
        (whole[:-1], "is incomplete"), (whole[:7], "is no idx file"), (b"text", "is no idx file"),
    ):  # fmt: skip
        path.write_bytes(content)
        assert fragment in error_of("mnist", str(root), "train")
    write_idx(path, images[:, :0])
    assert f"{path} is damaged: its header says images of 0 x 28" in error_of(
        "mnist", root, "train"
    )
    write_idx(path, images[:5])
    assert "holds 5 images" in error_of("mnist", str(root), "train")
    write_idx(path, images)
    labels = path.with_name("train-labels-idx1-ubyte")
    write_idx(labels, np.full(len(images), 77, np.uint8))
    assert f"{labels}, row 0: label 77 is none of" in error_of("mnist", str(root), "train")
    packed = root / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:50])
    assert f"{packed} cannot be read" in error_of("mnist", str(root), "val")
