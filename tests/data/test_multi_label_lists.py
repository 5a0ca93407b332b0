"""Lists of images with several labels each."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindcv.data import create_dataset, create_loader, create_transforms, open_samples
from mindcv.data.datasets import training_classes
from mindcv.errors import DataError

pytestmark = pytest.mark.usefixtures("fixed_seed")

LABELS = [("a.png", "cat dog"), ("b.png", "dog"), ("c.png", "emu cat")]
COLUMNS = [("a.png", 1, 0, 1), ("b.png", 0, 0, 0), ("c.png", "0.0", "True", "1.0")]
EXPECTED = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


@pytest.fixture
def root(tmp_path) -> Path:
    for name in "abcd":
        Image.new("RGB", (12, 12)).save(tmp_path / f"{name}.png")
    return tmp_path


def write(root: Path, rows, columns=("image", "labels"), name="train.csv") -> str:
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(root)


def error_of(root: str, split="train", **named) -> str:
    with pytest.raises(DataError) as error:
        open_samples("multi_label", root, split, **named)
    return str(error.value).replace(f"{root}/", "")


def test_names_in_one_column_become_a_yes_or_no_for_each_class(root):
    samples = open_samples("multi_label", write(root, LABELS), "train")
    assert samples.class_names == ("cat", "dog", "emu") and samples.labels.tolist() == EXPECTED
    assert training_classes("multi_label", str(root), "train") == {"cat": 0, "dog": 1, "emu": 2}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (("traffic light; dog", "dog", "cat;"), ("cat", "dog", "traffic light")),
        (("dog;", "traffic light"), ("dog", "traffic light")),
        (("2 0", "1", "2.0"), ("0", "1", "2")),
        (("traffic light|dog", "dog", "cat"), ("cat", "dog", "traffic light")),
        (("traffic light, dog", "dog", "cat"), ("cat", "dog", "traffic light")),
        (("dog, sitting; cat", "a|b", "cat"), ("a|b", "cat", "dog, sitting")),
    ],
)
def test_one_mark_or_blanks_separate_names_and_numbers_are_the_classes(root, texts, names):
    rows = [(f"{name}.png", text) for name, text in zip("abc", texts)]
    assert open_samples("multi_label", write(root, rows), "train").class_names == names


def test_a_column_for_each_class_keeps_its_order_and_may_say_that_an_image_shows_none(root):
    samples = open_samples("multi_label", write(root, COLUMNS, ("path", *"zay")), "train")
    assert samples.class_names == ("z", "a", "y")
    assert samples.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]


def test_a_validation_list_is_numbered_as_the_training_list(root):
    write(root, LABELS)
    write(root, [("d.png", "emu")], name="val.csv")
    classes = training_classes("multi_label", str(root), "train")
    val = open_samples("multi_label", str(root), "val", class_indexing=classes)
    assert val.labels.tolist() == [[0, 0, 1]] and val.class_names == ("cat", "dog", "emu")
    write(root, [("d.png", "emu"), ("a.png", "dog bird")], name="val.csv")
    message = error_of(str(root), "val", class_indexing=classes)
    assert message.startswith("val.csv:3: label 'bird' is not in the training set")


def test_a_list_without_a_semicolon_takes_names_with_blanks_from_the_training(root):
    write(root, [("a.png", "traffic light;dog"), ("b.png", "dog")])
    write(root, [("c.png", "traffic light"), ("d.png", "dog")], name="val.csv")
    classes = training_classes("multi_label", str(root), "train")
    val = open_samples("multi_label", str(root), "val", class_indexing=classes)
    assert val.class_names == ("dog", "traffic light") and val.labels.tolist() == [[0, 1], [1, 0]]


def test_a_list_of_several_splits_is_not_read_whole_as_one_of_them(root):
    rows = [("a.png", "cat", "False"), ("b.png", "dog", "True"), ("c.png", "cat", "False")]
    write(root, rows, ("fname", "labels", "is_valid"))
    message = error_of(str(root))
    assert message.startswith("train.csv:3: is_valid True, and train.csv:2: is_valid False, would")
    assert "name the file itself as data_dir" in message
    assert len(open_samples("multi_label", str(root / "train.csv"), "train")) == 2


def test_a_list_of_one_split_may_have_a_column_is_valid_of_anything(root):
    write(root, [("a.png", "cat", "maybe")], ("fname", "labels", "is_valid"))
    assert len(open_samples("multi_label", str(root), "train")) == 1


def test_one_file_serves_both_splits_by_fastais_column(root):
    rows = [(*row, valid) for row, valid in zip(LABELS, ("False", "True", "0"))]
    write(root, rows, ("fname", "labels", "is_valid"), "all.csv")
    file = str(root / "all.csv")
    assert len(open_samples("multi_label", file, "train")) == 2
    assert len(open_samples("multi_label", file, "val")) == 1
    write(root, [("a.png", "cat", "maybe")], ("fname", "labels", "is_valid"), "all.csv")
    assert "all.csv:2: is_valid 'maybe'; expected True or False" in error_of(file)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (LABELS, ("photo", "labels"), "train.csv:1: the columns are photo, labels; expected one"),
        (LABELS, ("image", "label"), "train.csv:1: the columns are image, label; a column label"),
        ([("a.png",)], ("image",), "train.csv:1: the columns are image; expected a column labels"),
        ([("a.png", 1, 1)], ("image", "x", "x"), "train.csv:1: the columns are image, x, x;"),
        ([("a.png", " ; ")], ("image", "labels"), "train.csv:2: no labels"),
        ([("a.png", "['x', 'y']")], ("image", "labels"), "train.csv:2: labels \"['x', 'y']\";"),
        ([("a.png", "x", "y")], ("image", "labels"), "train.csv:2: more fields than columns"),
        ([*LABELS, ("", "cat")], ("image", "labels"), "train.csv:5: no path"),
        ([*LABELS, ("./a.png", "emu")], ("image", "labels"), "train.csv:5: ./a.png is listed at"),
        ([("a.png", 1, 2)], ("image", "x", "y"), "train.csv:2: '2' in the column y; expected 0"),
        ([("a.png", 1)], ("image", "x", "y"), "train.csv:2: None in the column y; expected 0"),
        ([("no.png", "cat")], ("image", "labels"), "train.csv:2: no file"),
    ],
)
def test_what_is_wrong_with_a_list_is_named_with_its_line(root, rows, columns, message):
    assert error_of(write(root, rows, columns)).startswith(message)


def test_other_class_columns_than_the_trainings_are_refused(root):
    write(root, [("a.png", 1, 0)], ("image", "x", "z"), "val.csv")
    message = error_of(str(root), "val", class_indexing={"x": 0, "y": 1})
    assert message == (
        "val.csv:1: the class columns are not those of the training set; the difference: y, z"
    )


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_batches_hold_a_float_for_each_class_mixed_as_the_images_are(root, mixup):
    """Mixup of yes and no is linear, as of one-hot labels (timm, `data/mixup.py`)."""
    dataset = create_dataset("multi_label", write(root, LABELS), shuffle=False)
    transform = create_transforms("multi_label", 16, is_training=True)
    how = dict(is_training=True, num_classes=3, transform=transform, mixup=mixup)
    loader = create_loader(dataset, 3, **how)
    ((_, labels),) = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
    expected = np.array(EXPECTED, np.float32)
    assert labels.dtype == np.float32 and labels.shape == (3, 3)
    if not mixup:
        np.testing.assert_array_equal(labels, expected)
        return
    own = labels[2][2]  # only the last image shows this class
    np.testing.assert_allclose(labels, own * expected + (1 - own) * expected[::-1], rtol=1e-6)
