"""csv and json lists, MNIST's files, and datasets that a user registers."""

import csv
import gzip
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command
from PIL import Image

import mindcv
from mindcv.data import (
    create_dataset,
    create_loader,
    create_transforms,
    open_samples,
    training_classes,
)
from mindcv.data.samples import ImageError
from mindcv.data.samples import user as user_samples
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


def test_one_file_holds_all_splits_by_a_column(root):
    rows = [(*row, "val" if number == 2 else "train") for number, row in enumerate(ROWS)]
    write_list(root, "all.csv", rows, ("path", "label", "split"))
    assert len(open_samples("csv", str(root / "all.csv"), "train")) == 2
    assert open_samples("csv", str(root / "all.csv"), "val").name(0).endswith("3.png")
    assert "no image of the split 'test'" in error_of("csv", str(root / "all.csv"), "test")
    write_list(root, "train.csv")
    assert len(open_samples("csv", str(root / "train.csv"), "train")) == 3
    # Else the network would be evaluated on the images it was trained on.
    assert "no column split" in error_of("csv", str(root / "train.csv"), "val")


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
        ("train.json", "[", "train.json:1: "),
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
    pixels = batch if batch.shape[-1] == 3 else batch.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(pixels, np.repeat(images[..., None], 3, -1))
    assert labels.tolist() == list(range(6))


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
    write_idx(path, images[:5])
    assert "holds 5 images" in error_of("mnist", str(root), "train")
    packed = root / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:50])
    assert f"{packed} cannot be read" in error_of("mnist", str(root), "val")


# A user's own


@pytest.fixture(autouse=True)
def no_registrations(monkeypatch):
    monkeypatch.setattr(user_samples, "_factories", {})


class Own:
    """Three images, in the three forms that are taken."""

    def __init__(self, root, split, side=12):
        file = io.BytesIO()
        Image.fromarray(picture((0, 0, 200), side)).save(file, "PNG")
        self.images = [picture((200, 0, 0), side), Image.fromarray(picture((0, 200, 0), side))]
        self.images.append(file.getvalue())

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.images[index], [2, 0, 2][index]


def test_a_registered_dataset_is_read_like_any_other():
    mindcv.register_dataset("own", Own)
    dataset = create_dataset("own", "anywhere", "train", shuffle=False, side=16)
    assert dataset.num_classes() == 3 and dataset.class_names() is None
    transform = create_transforms("own", 16, crop_pct=1.0, normalize_on_device=True)
    ((images, labels),) = create_loader(dataset, 3, transform=transform).create_tuple_iterator(
        num_epochs=1, output_numpy=True
    )
    images = images if images.shape[-1] == 3 else images.transpose(0, 2, 3, 1)
    assert images[:, 0, 0].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
    assert labels.tolist() == [2, 0, 2]


def test_train_takes_a_dataset_that_its_import_module_registers(tmp_path, tiny_models):
    module = tmp_path / "mine.py"
    module.write_text(
        tiny_models.read_text(encoding="utf-8")
        + "from mindcv import register_dataset\n"
        + "register_dataset('own', lambda root, split: "
        + "[(np.full((40, 40, 3), i, np.uint8), i % 2) for i in range(8)])\n",
        encoding="utf-8",
    )
    options = f"--import_module {module} --dataset own --model tiny --image_resize 32"
    options += " --batch_size 4 --dry_run True"
    done = run_command("train.py", *options.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 steps per epoch" in done.stdout


def test_labels_and_names_of_the_object_are_taken_without_reading_an_image():
    class Told(Own):
        targets, classes = [1, 0, 1], ["ant", "bee"]

        def __getitem__(self, index):
            raise AssertionError("read")

    mindcv.register_dataset("told", Told)
    samples = open_samples("told", ".", "train")
    assert samples.labels.tolist() == [1, 0, 1] and samples.class_names == ("ant", "bee")
    other = open_samples("told", ".", "val", class_indexing={"bee": 0, "cow": 1, "ant": 2})
    assert other.labels.tolist() == [0, 2, 0] and other.num_classes == 3
    with pytest.raises(DataError, match="not in the training set: bee"):
        open_samples("told", ".", "val", class_indexing={"ant": 0})


def test_what_no_image_can_be_made_of_is_an_image_error():
    class Bad(Own):
        labels = [0, 0, 0]

        def __getitem__(self, index):
            if index == 2:
                raise OSError("disk on fire")
            return [np.zeros((4, 4, 3)), "text"][index], 0

    mindcv.register_dataset("bad", Bad)
    samples = open_samples("bad", ".", "train")
    for index, reason in enumerate(("float64", "str is no image", "disk on fire")):
        with pytest.raises(ImageError, match=reason):
            samples.read(index)


def test_labels_must_be_class_numbers():
    class Named(Own):
        labels = ["cat", "dog", "cat"]

    class Few(Own):
        num_classes = 2

    mindcv.register_dataset("named", Named)
    mindcv.register_dataset("few", Few)
    assert "expected whole numbers" in error_of("named", ".", "train")
    assert "expected 0 to 1" in error_of("few", ".", "train")


def test_names_and_arguments_that_nobody_takes_are_refused(tmp_path):
    mindcv.register_dataset("own", Own)
    mindcv.register_dataset("own", Own)
    for name in ("own", "imagenet", "csv", "", "cifar_own"):
        with pytest.raises(ConfigError, match="taken or empty"):
            mindcv.register_dataset(name, lambda root, split: None)
    with pytest.raises(ConfigError, match="'imagnet' is unknown.*mnist_demo.*, own,"):
        create_dataset("imagnet")
    with pytest.raises(ConfigError, match="takes no argument decode"):
        create_dataset("", str(tmp_path), decode=True)
