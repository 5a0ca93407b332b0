"""`Classifier`: any image that a program holds, its class by name, as `mindcv predict` gives it."""

import json

import numpy as np
import pytest
from commands import (
    METADATA,
    NAMES,
    call,
    other_metadata,
    registered,
    tiny_regnet,
    weights,
    write_checkpoint,
)
from PIL import Image

from mindcv import Classifier
from mindcv.errors import ConfigError, DataError, WeightsError
from mindcv.hub import imagenet_classes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.ckpt", weights(1))


@pytest.fixture(scope="module")
def classifier(checkpoint):
    with registered(tiny_regnet):
        return Classifier.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three files and their pixels."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(2).integers(0, 256, (3, 40, 50, 3), np.uint8)
    for number, array in enumerate(pixels):
        Image.fromarray(array).save(folder / f"{number}.png")
    return folder, pixels


def test_an_image_is_the_same_as_a_file_a_picture_and_an_array(classifier, photos):
    folder, pixels = photos
    picture = Image.open(folder / "1.png")
    kinds = (str(folder / "1.png"), folder / "1.png", picture, picture.convert("RGBA"), pixels[1])
    found = [classifier(kind) for kind in kinds]
    assert len({one.guesses for one in found}) == 1
    assert [one.path for one in found] == [str(folder / "1.png")] * 2 + [""] * 3
    first = found[0]
    assert first.name in NAMES and first.probability == first.guesses[0].probability
    assert sum(guess.probability for guess in first.guesses) == pytest.approx(1, abs=1e-6)
    assert str(found[-1]).startswith(f"{first.name} ({first.probability:.1%}), ")
    grey = Image.fromarray(pixels[0, ..., 0])
    assert classifier(grey).guesses == classifier(pixels[0, ..., 0]).guesses
    assert classifier(grey).guesses == classifier(grey.convert("RGB")).guesses


def test_several_images_are_a_folder_a_list_or_an_array_of_four_axes(classifier, photos):
    folder, pixels = photos
    paths = [folder / f"{number}.png" for number in range(3)]
    found = [classifier(kind, top_k=1) for kind in (folder, paths, pixels, tuple(pixels))]
    assert [len(one) for one in found] == [3] * 4
    names = [[prediction.name for prediction in one] for one in found]
    assert names == [names[0]] * 4
    assert classifier([]) == []
    singly = [classifier(path, top_k=1).probability for path in paths]
    together = [one.probability for one in classifier(paths, top_k=1, batch_size=2)]
    assert together == pytest.approx(singly, rel=1e-5)


def test_it_agrees_with_the_command(classifier, checkpoint, photos, tmp_path, capsys):
    folder, _ = photos
    with registered(tiny_regnet):
        words = ("--ckpt_path", checkpoint, "--output", tmp_path / "found.json")
        assert call(capsys, "predict", folder, *words)[0] == 0
    told = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["images"]
    for prediction, image in zip(classifier(folder), told):
        assert prediction.path == image["path"]
        assert [guess.class_name for guess in prediction.guesses] == [
            guess["class_name"] for guess in image["predictions"]
        ]


@pytest.mark.parametrize(
    "image, message",
    [
        (
            np.zeros((3, 40, 50), np.uint8),
            "uint8, 3 x 40 x 50, is not an image; expected uint8 from 0 to 255, .heig",
        ),
        (np.zeros((40, 50, 3), np.float32), "an array of float32, 40 x 50 x 3, is not an image"),
        (7, "int: 7 is not an image; expected a file, a Pillow image or an array"),
        ("nowhere.jpg", "nowhere.jpg: "),
    ],
)
def test_what_is_no_image_is_refused_by_name(classifier, image, message):
    with pytest.raises(DataError, match=message):
        classifier(image)


def test_a_picture_whose_file_ends_early_is_refused(classifier, photos, tmp_path):
    content = (photos[0] / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="PngImageFile: damaged image"):
        classifier(Image.open(tmp_path / "cut.png"))


@pytest.mark.parametrize(
    "words", [{"top_k": 0}, {"batch_size": 0}, {"top_k": "3"}, {"batch_size": 2.5}]
)
def test_what_is_no_number_of_images_or_classes_is_refused(classifier, photos, words):
    ((name, value),) = words.items()
    with pytest.raises(ConfigError, match=f"{name} {value!r}: expected a whole number"):
        classifier(photos[0], **words)


@pytest.mark.parametrize(
    "words, error, message",
    [
        (("run/regnet_y_400mf_best.ckpt",), WeightsError, "_best.ckpt' does not exist"),
        (("regnet_y_400mf", False), ConfigError, "weights False: expected a source"),
        (("regnet_y_32gf", "timm_seer"), ConfigError, "have no classifier"),
        (("regnet_y_401mf",), ConfigError, "did you mean regnet_y_400mf"),
    ],
)
def test_what_names_no_classifier_is_refused_before_the_network(monkeypatch, words, error, message):
    monkeypatch.setattr("mindcv.models.from_file.fetch", None)
    with pytest.raises(error, match=message):
        Classifier.from_pretrained(*words)
    with pytest.raises(ConfigError, match="ema True: is for weight files"):
        Classifier.from_pretrained("regnet_y_400mf", ema=True)


def test_weights_without_a_classifier_are_refused(tmp_path, photos, capsys):
    values = {name: value for name, value in weights(1).items() if "head.fc" not in name}
    metadata = other_metadata(num_classes=0, class_names=None)
    path = write_checkpoint(tmp_path / "headless.ckpt", values, metadata)
    with registered(tiny_regnet):
        with pytest.raises(ConfigError, match="no classifier; `mindcv embed` writes the features"):
            Classifier.from_pretrained(path)
        for words in (["predict"], ["explain", "--output", tmp_path / "e.png"]):
            code, _, err = call(capsys, *words, photos[0], "--ckpt_path", path)
            assert code == 2 and "have no classifier" in err
        words = ["embed", photos[0], "--ckpt_path", path, "--output", tmp_path / "f.npz"]
        assert call(capsys, *words)[0] == 0


def test_the_names_are_the_files_or_the_users(checkpoint, photos):
    with registered(tiny_regnet):
        renamed = Classifier.from_pretrained(checkpoint, class_names="vwxyz")
        assert renamed(photos[0] / "0.png").name in "vwxyz"
        with pytest.raises(ConfigError, match="class_names: 2 names for a model of 5 classes"):
            Classifier.from_pretrained(checkpoint, class_names=("a", "b"))
        unnamed = write_checkpoint(checkpoint.with_name("unnamed.ckpt"), weights(1), None)
        told = Classifier.from_pretrained(unnamed, "tiny_regnet")(photos[0] / "0.png")
        assert told.name == "" and "class " in str(told)


def test_it_is_described_in_a_line(classifier, checkpoint):
    side = METADATA.preprocessing.image_size
    assert repr(classifier) == (
        f"Classifier(tiny_regnet, 5 classes, images of {side} x {side}, weights {checkpoint})"
    )


def test_imagenets_classes_are_in_the_order_of_its_networks():
    """Anchors of other people's code: timm's and torchvision's examples, Keras' class index."""
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    anchors = {0: "tench", 1: "goldfish", 207: "golden retriever", 258: "Samoyed"}
    anchors |= {281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 999: "toilet tissue"}
    assert {index: names[index] for index in anchors} == anchors
