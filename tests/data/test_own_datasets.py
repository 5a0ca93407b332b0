"""Datasets that a user registers: which forms work, and the messages for those that do not."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import nn
from PIL import Image

import mindcv
from mindcv import engine
from mindcv.config import Config
from mindcv.data import (
    create_dataset,
    create_loader,
    create_transforms,
    datasets,
    open_samples,
)
from mindcv.data.samples import ImageError
from mindcv.engine import build as recipe
from mindcv.errors import ConfigError, DataError
from mindcv.process.entry_point import import_user_module

pytestmark = pytest.mark.usefixtures("fixed_seed")


def picture(colour: tuple[int, int, int], side: int = 12) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def error_of(*arguments, **named) -> str:
    with pytest.raises(DataError) as error:
        open_samples(*arguments, **named)
    return str(error.value)


@pytest.fixture(autouse=True)
def no_registrations(monkeypatch):
    monkeypatch.setattr(datasets, "_registered", {})


class Own:
    """Three images, in the three accepted forms."""

    def __init__(self, root, split, side=12):
        file = io.BytesIO()
        Image.fromarray(picture((0, 0, 200), side)).save(file, "PNG")
        self.images = [picture((200, 0, 0), side), Image.fromarray(picture((0, 200, 0), side))]
        self.images.append(file.getvalue())

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.images[index], [2, 0, 2][index]


@pytest.mark.parametrize("name", ["own", "cifar_own"])
def test_a_registered_dataset_is_read_like_any_other(name):
    mindcv.register_dataset(name, Own)
    dataset = create_dataset(name, "anywhere", "train", shuffle=False, side=16)
    assert dataset.num_classes() == 3 and dataset.class_names() is None
    transform = create_transforms(name, 16, crop_pct=1.0, normalize_on_device=True)
    ((images, labels),) = create_loader(dataset, 3, transform=transform).create_tuple_iterator(
        num_epochs=1, output_numpy=True
    )
    images = images if images.shape[-1] == 3 else images.transpose(0, 2, 3, 1)
    assert images[:, 0, 0].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
    assert labels.tolist() == [2, 0, 2]


def test_train_takes_a_dataset_that_its_import_module_registers(warm, tmp_path, tiny_models):
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
    done = warm.run(["train.py", *options.split()], tmp_path)
    assert done.code == 0, done.err
    assert "2 steps per epoch" in done.out


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
    reasons = (
        "float64",
        "'text' is not an image",
        "uint8, 3 x 4 x 5, is not an image",
        "uint8, 0 x 0, is not an image",
        "pixels of mode F: the range of their values is unknown",
        "fire",
    )

    class Bad:
        labels = [0] * len(reasons)

        def __init__(self, root, split):
            channels_first, empty = (np.zeros(shape, np.uint8) for shape in ((3, 4, 5), (0, 0)))
            floats = Image.new("F", (4, 4))
            self.images = [np.zeros((4, 4, 3)), "text", channels_first, empty, floats]

        def __len__(self):
            return len(reasons)

        def __getitem__(self, index):
            if index == len(self.images):
                raise OSError("disk on fire")
            return self.images[index], 0

    mindcv.register_dataset("bad", Bad)
    samples = open_samples("bad", ".", "train")
    for index, reason in enumerate(reasons):
        with pytest.raises(ImageError, match=reason):
            samples.read(index)


def test_a_picture_of_16_bits_keeps_its_greys():
    deep = Image.fromarray(np.full((4, 4), 200 << 8, np.uint16))  # where Pillow would clip at 255
    mindcv.register_dataset("deep", lambda root, split: [(deep, 0), (deep, 1)])
    samples = open_samples("deep", ".", "train")
    assert Image.open(io.BytesIO(samples.read(0))).getpixel((0, 0)) == (200, 200, 200)


def test_pixels_that_are_floats_are_told_without_advice_that_cannot_help():
    mindcv.register_dataset("floats", lambda root, split: [(np.zeros((8, 8, 3)), 0)] * 4)
    dataset = create_dataset("floats", ".", "train", max_bad_fraction=0.5)
    with pytest.raises((DataError, RuntimeError)) as told:
        list(dataset.create_tuple_iterator(num_epochs=1))
    message = str(told.value)
    assert (
        "an array of float64, 8 x 8 x 3, is not an image; expected uint8 from 0 to 255" in message
    )
    assert "scan" not in message


def test_labels_must_be_class_numbers():
    class Named(Own):
        labels = ["cat", "dog", "cat"]

    class Few(Own):
        num_classes = 2

    class Large(Own):
        labels = [2**32, 0, 1]  # as int32 it would be class 0

    for name, kind in {"named": Named, "few": Few, "large": Large}.items():
        mindcv.register_dataset(name, kind)
    assert "expected whole numbers" in error_of("named", ".", "train")
    assert "expected 0 to 1" in error_of("few", ".", "train")
    assert "labels 0 to 4294967296; expected 0 to 2147483647" in error_of("large", ".", "train")


def test_names_may_be_an_array_and_all_that_is_told_a_method():
    class Told(Own):
        labels = lambda self: [1, 0, 1]  # noqa: E731
        num_classes = lambda self: 4  # noqa: E731

    class Array(Own):
        class_names = np.array(["ant", "bee", "cat"])

    mindcv.register_dataset("told", Told)
    mindcv.register_dataset("array", Array)
    samples = open_samples("told", ".", "train")
    assert (samples.labels.tolist(), samples.num_classes) == ([1, 0, 1], 4)
    assert open_samples("array", ".", "train").class_names == ("ant", "bee", "cat")


def no_such_file(root, split):
    raise FileNotFoundError(2, "No such file", f"{root}/labels.txt")


class Unreadable(Own):
    def __getitem__(self, index):
        raise OSError("disk on fire")


def with_(**attributes):
    return type("With", (Own,), attributes)


FAULTS = {
    "no file": (no_such_file, r"factory\('\.', 'train'\).* raised FileNotFoundError.*test_own_d"),
    "two arguments": (lambda root: Own(root, ""), "factory.* raised TypeError.*1 positional"),
    "nothing": (lambda root, split: None, "returned NoneType; expected an object with __len__"),
    "no label": (Unreadable, "no label train, sample 0: its label cannot be .*on fire; if .*lab"),
    "twice": (with_(class_names=["a", "b", "a"]), "class_names repeat 'a'"),
    "a number": (with_(classes=3), "class_names 3; expected a list of names"),
    "a word": (with_(num_classes="3"), "num_classes '3'; expected a whole number"),
    "names": (with_(class_names=["a", "b"]), "labels 0 to 2; expected 0 to 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_in_ones_own_dataset_is_told_with_its_name(name):
    factory, message = FAULTS[name]
    mindcv.register_dataset(name, factory)
    with pytest.raises(DataError, match=message) as error:
        create_dataset(name, ".", "train", class_indexing={"a": 0, "b": 1, "c": 2})
    assert name in str(error.value)


# Numbered as in training


class Split(Own):
    """Training has the classes ant, bee and cat; validation has no ant."""

    def __init__(self, root, split):
        super().__init__(root, split)
        self.class_names = ["ant", "bee", "cat"] if split == "train" else ["bee", "cat"]
        self.labels = [0, 1, 2] if split == "train" else [0, 1, 1]


class AsSamples(Split):
    """The same as `Samples`, the library's own form."""

    encoded = True

    def __init__(self, root, split):
        super().__init__(root, split)
        self.labels, self.num_classes = np.array(self.labels, np.int32), len(self.class_names)
        self.class_names = tuple(self.class_names)

    def read(self, index):
        return np.frombuffer(self.images[2], np.uint8)

    def name(self, index):
        return str(index)

    def fingerprint(self):
        return "print"


def evaluated_labels(monkeypatch, name: str, num_classes: int) -> list[int]:
    """Return the labels by which training's evaluation counts."""

    def evaluate(step, loader, *_, **__):
        batches = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
        return [label for _, labels in batches for label in labels.tolist()]

    evaluator = SimpleNamespace(evaluate=evaluate)
    monkeypatch.setattr(engine, "evaluator_of", lambda dataset: evaluator)
    config = Config(model="m", dataset=name, data_dir=".", image_resize=16)
    runtime = engine.Runtime("CPU", 1, "O1", 0, 1)
    train_set = recipe.open_train_set(config, runtime)
    network = nn.ReLU()
    return recipe.build_evaluation(config, runtime, network, train_set, num_classes=num_classes)()


@pytest.mark.parametrize("kind", [Split, AsSamples])
def test_a_split_that_lacks_a_class_is_numbered_as_the_training(monkeypatch, kind):
    mindcv.register_dataset("own", kind)
    assert evaluated_labels(monkeypatch, "own", 3) == [1, 2, 2]
    assert "in the training set: ant" in error_of("own", ".", "train", {"bee": 0, "cat": 1})


def test_a_split_with_more_classes_than_the_training_is_refused_before_it_begins(monkeypatch):
    class More(Own):
        def __init__(self, root, split):
            super().__init__(root, split)
            self.labels = [0, 1, 2] if split == "train" else [0, 3, 1]

    mindcv.register_dataset("more", More)
    with pytest.raises(DataError, match="'val' of more has labels of 4 classes, .* has 3: .*out"):
        evaluated_labels(monkeypatch, "more", 3)
    assert evaluated_labels(monkeypatch, "more", 4) == [0, 3, 1]


def test_a_file_that_is_imported_twice_registers_its_datasets_anew(tmp_path, monkeypatch):
    """As `validate.py --pretrained --import_module my.py` does, and a notebook's cell."""
    monkeypatch.setattr("mindcv.data.datasets._registered", {})
    file = tmp_path / "own_sets.py"
    file.write_text(
        "from functools import partial\nfrom mindcv import register_dataset\n"
        "def named(root, split): return [(root, 0)]\n"
        "def sized(root, split, size): return [(root, 0)]\n"
        "register_dataset('named', named)\n"
        "register_dataset('sized', partial(sized, size=3))\n"
        "register_dataset('nameless', lambda root, split: [(root, 0)])\n"
    )
    for _ in range(2):
        import_user_module(str(file))
    for other in (
        "register_dataset('named', sized)",
        "register_dataset('sized', partial(sized, size=4))",
        "register_dataset('nameless', lambda root, split: [(root, 1)])",
    ):
        file.write_text(file.read_text() + other + "\n")
        with pytest.raises(ConfigError, match="is taken or empty"):
            import_user_module(str(file))
        file.write_text(file.read_text().removesuffix(other + "\n"))


def test_names_and_arguments_that_nobody_takes_are_refused(tmp_path):
    mindcv.register_dataset("own", Own)
    mindcv.register_dataset("own", Own)
    for name in ("own", "imagenet", "csv", ""):
        with pytest.raises(ConfigError, match="taken or empty"):
            mindcv.register_dataset(name, lambda root, split: None)
    with pytest.raises(ConfigError, match="'imagnet' is unknown.*mnist_demo.*, own,"):
        create_dataset("imagnet")
    with pytest.raises(ConfigError, match="takes no argument padded"):
        create_dataset("", str(tmp_path), padded=None)
