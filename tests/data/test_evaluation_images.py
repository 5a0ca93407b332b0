"""How evaluation resizes and crops: by which library, and the same in every command."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from commands import METADATA, call, registered, tiny_regnet, weights, write_checkpoint
from evaluation_cases import CASES, picture
from pictures import png, random_images, transformed

from mindcv import engine, validate
from mindcv.classifier import Classifier, read_image
from mindcv.config import Config, evaluation_contradictions, parse_arguments
from mindcv.data import Preprocessing
from mindcv.data.samples.pictures import find_images
from mindcv.data.transforms import evaluation_transforms
from mindcv.engine import build as recipe
from mindcv.errors import ConfigError
from mindcv.models import create_model_from_file
from mindcv.tools.report import predictions
from mindcv.weights import Metadata, preprocessing_of, read_weights

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "evaluation.npz")
RUNTIME = engine.Runtime("CPU", 1, "O1", 0, 1)

pytestmark = pytest.mark.usefixtures("fixed_seed")


@pytest.mark.parametrize("name", CASES)
def test_antialiased_evaluation_equals_torchvisions_and_timms(name):
    case = CASES[name]
    (ours,) = transformed(
        [png(picture(case.height, case.width))],
        image_resize=case.side,
        crop_pct=case.crop_pct,
        crop_mode=case.crop_mode,
        interpolation=case.interpolation,
        normalize_on_device=True,
        antialias=True,
    )
    assert ours.shape == GOLDEN[name].shape
    assert np.abs(ours.astype(int) - GOLDEN[name]).max() <= 1


def test_antialiasing_leaves_nothing_of_a_checkerboard():
    y, x = np.mgrid[0:768, 0:768]
    board = np.repeat(np.where((x + y) % 2, 255, 0)[..., None], 3, -1).astype(np.uint8)
    spread = {
        (name, antialias): transformed(
            [png(board)],
            image_resize=256,
            crop_pct=1.0,
            interpolation=name,
            antialias=antialias,
            normalize_on_device=True,
        ).std()
        for name in ("bilinear", "bicubic")
        for antialias in (False, True)
    }
    assert spread["bilinear", True] < 2 and spread["bicubic", True] < 1
    assert spread["bilinear", False] > 120 and spread["bicubic", False] > 120


@pytest.mark.parametrize("margin", range(8))
def test_half_an_odd_margin_is_rounded_as_by_the_library_that_resizes(margin):
    """torchvision rounds half to even; MindSpore, and so MindCV, rounds down."""
    image = random_images(1, 24 + margin)[0]
    for antialias, top in ((True, round(margin / 2)), (False, margin // 2)):
        (ours,) = transformed(
            [png(image)],
            image_resize=24,
            crop_pct=24 / (24.5 + margin),
            antialias=antialias,
            normalize_on_device=True,
        )
        np.testing.assert_array_equal(ours, image[top : top + 24, top : top + 24])


def test_decoded_datasets_are_antialiased_too():
    image = random_images(1, 32)[0]
    plain, smooth = (
        transformed([image], "cifar10", 12, antialias=antialias, normalize_on_device=True)[0]
        for antialias in (False, True)
    )
    assert plain.shape == smooth.shape == (12, 12, 3) and smooth.std() < 0.8 * plain.std()


# One rule for every command


@pytest.fixture
def images_seen(image_folder, tmp_path, capsys, monkeypatch):
    """Return a function that gives the images that each command feeds to a checkpoint's network."""

    def seen(used: Preprocessing, exports: bool = True) -> dict[str, np.ndarray]:
        path = tmp_path / f"{used.interpolation}-{used.antialias}.ckpt"
        names = tuple(f"class_{label}" for label in range(6))
        metadata = Metadata("tiny_regnet", 6, 3, names, used)
        write_checkpoint(path, weights(1, tiny_regnet(6)), metadata)
        given = dict(model="tiny_regnet", data_dir=str(image_folder), batch_size=4)
        with registered(tiny_regnet):
            found = {
                "train": by_train(given, used),
                "validate": by_validate(given, path),
                "report": by_report(given, path),
                "predict": by_predict(path),
            }
            return found | ({"export": by_export(path)} if exports else {})

    def evaluate_by(function):
        evaluator = SimpleNamespace(evaluate=function, outcomes=lambda num_classes: None)
        monkeypatch.setattr(engine, "evaluator_of", lambda dataset: evaluator)

    def by_train(given, used):
        # The options of a run that wrote such a checkpoint.
        config = Config(**given, **used.to_options(), tta="5crop")  # is of validate only
        evaluate_by(lambda step, loader, *_, **__: stacked(loader))
        network, train_set = tiny_regnet(6), recipe.open_train_set(config, RUNTIME)
        assert Preprocessing.from_options(config) == used
        return recipe.build_evaluation(config, RUNTIME, network, train_set, num_classes=6)()

    def by_validate(given, path):
        told, _ = validate.told_by_the_weights(Config(ckpt_path=str(path)))
        loader, _ = recipe.build_evaluation_batches(Config(**{**given, **told}), RUNTIME, None)
        return stacked(loader)

    def by_report(given, path):
        found = []

        def evaluate(step, loader, *_, **__):
            found.append(stacked(loader))
            raise InterruptedError

        evaluate_by(evaluate)
        with pytest.raises(InterruptedError):
            config = Config(**given, mode=1, tta="5crop", dataset_download=True)
            predictions.predict_split(config, read_weights(path))
        return found[0]

    def by_predict(path):
        network, metadata = predictions.create_model_from_file(path)
        paths = find_images([str(image_folder / "val")])
        rows = Classifier(network, metadata).stream(
            paths, top_k=1, batch_size=4, on_bad=pytest.fail
        )
        return np.stack([view for _, view in rows])

    def by_export(path):
        output = path.with_suffix(".mindir")
        code, _, problem = call(capsys, "export", "--ckpt_path", path, "--output", output)
        assert code == 0, problem
        used = json.loads(Path(f"{output}.json").read_text(encoding="utf-8"))["preprocessing"]
        operations = evaluation_transforms(Preprocessing.from_dict(used))
        paths = find_images([str(image_folder / "val")])
        return np.stack([read_image(place, operations) for place in paths])

    def stacked(loader) -> np.ndarray:
        rows = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
        return np.concatenate([images for images, _ in rows])

    ms.set_context(mode=ms.PYNATIVE_MODE)
    return seen


def test_every_command_sees_the_pixels_that_the_weights_were_measured_with(images_seen):
    used = Preprocessing(32, 0.8, "bilinear", (120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    plain = images_seen(used, exports=False)
    smooth = images_seen(replace(used, antialias=True))
    for found in (plain, smooth):
        for command, images in found.items():
            assert images.shape == (11, 32, 32, 3)
            np.testing.assert_array_equal(images, found["train"], command)
    assert (plain["train"] != smooth["train"]).any((1, 2, 3)).all()


@pytest.mark.parametrize(
    "library, antialias",
    [("timm", True), ("torchvision", True), ("transformers", True), ("pycls", False)]
    + [("mindcv", False)],
)
def test_a_converted_file_is_evaluated_as_its_library_does(
    tmp_path, capsys, library, antialias, monkeypatch
):
    """pycls resizes with OpenCV, MindCV with MindSpore, the others with Pillow."""
    values = weights(1, tiny_regnet(5))
    foreign, converted = tmp_path / "a.npz", tmp_path / "b.ckpt"
    np.savez(tmp_path / "own.npz", **values)
    with registered(tiny_regnet):
        code, _, told = call(capsys, "convert", tmp_path / "own.npz", foreign, "--names", library)
        assert code == 0, told
        file = read_weights(foreign)
        assert file.metadata is None
        assert preprocessing_of(file).antialias is antialias
        known, _ = validate.told_by_the_weights(Config(ckpt_path=str(foreign)))
        assert known["antialias"] is antialias
        words = (foreign, converted, "--model", "tiny_regnet")
        code, _, told = call(capsys, "convert", *words)
        assert code == 0, told
    assert read_weights(converted).metadata.preprocessing.antialias is antialias


def test_validate_reads_a_weight_file_once(tmp_path, monkeypatch):
    path, read, loaded = str(tmp_path / "a.ckpt"), [], []
    write_checkpoint(tmp_path / "a.ckpt", weights(1, tiny_regnet(6)))

    def reading(path):
        read.append(read_weights(path))
        return read[-1]

    def loading(file, *_, **__):
        loaded.append(file)
        raise InterruptedError

    monkeypatch.setattr("mindcv.weights.read_weights", reading)
    monkeypatch.setattr("mindcv.models.create_model_from_file", loading)
    monkeypatch.setattr(engine, "start_runtime", lambda **_: RUNTIME)
    monkeypatch.setattr(engine, "start_logging", lambda *_: None)
    monkeypatch.setattr(recipe, "build_evaluation_batches", lambda *_: (None, 6))
    known, _ = validate.told_by_the_weights(Config(ckpt_path=path))
    with pytest.raises(InterruptedError):
        validate.main(Config(**known))
    assert loaded == read and len(read) == 1


def test_the_channels_are_the_files_and_images_of_others_are_refused(
    tmp_path, capsys, image_folder, monkeypatch
):
    """A file without metadata, such as MindCV's, tells its channels, but no mean and std."""
    grey = tiny_regnet(5, in_channels=1)
    path = str(write_checkpoint(tmp_path / "a.ckpt", weights(1, grey), None))
    known, _ = validate.told_by_the_weights(Config(ckpt_path=path))
    assert known["in_channels"] == 1
    words = ["--ckpt_path", path, "--model", "tiny_regnet"]
    rules = evaluation_contradictions

    def tell(config, _):
        return validate.told_by_the_weights(config)

    def told(*more):
        given = (*words, *more)
        return parse_arguments("validate.py", "", rules, given, tell)

    with pytest.raises(ConfigError, match="a.ckpt: in_channels: 1 makes the images grey"):
        told()
    with pytest.raises(ConfigError, match="mean: 1 values .* add in_channels 1 for grey images"):
        told("--mean", "33", "--std", "78")
    assert told("--dataset", "mnist").in_channels == 1
    config = told("--in_channels", "1", "--mean", "33", "--std", "78")
    assert (config.in_channels, config.mean) == (1, (33.0,))
    with registered(tiny_regnet):
        for in_channels in (None, 1):
            built = create_model_from_file(path, "tiny_regnet", in_channels=in_channels)
            assert built[1].in_channels == 1
        named = write_checkpoint(
            tmp_path / "b.ckpt", weights(1), replace(METADATA, preprocessing=Preprocessing())
        )
        for file, other in ((path, 3), (named, 1)):
            with pytest.raises(ConfigError, match=f"in_channels {other}, but .* takes {4 - other}"):
                create_model_from_file(file, "tiny_regnet", in_channels=other)
        code, _, text = call(capsys, "predict", image_folder, *words)
        assert code == 2 and "mean and std of its images of 1 channels" in text


def test_checkpoints_from_before_the_property_are_evaluated_as_they_were():
    found = json.loads(METADATA.to_array().tobytes())
    del found["preprocessing"]["antialias"]
    old = Metadata.from_array(np.frombuffer(json.dumps(found).encode(), np.uint8), "old.ckpt")
    assert old == METADATA and not old.preprocessing.antialias


def test_the_value_goes_through_json_and_through_options_unchanged():
    used = replace(METADATA.preprocessing, crop_mode="squash", antialias=True)
    assert Preprocessing.from_dict(json.loads(json.dumps(used.to_dict()))) == used
    assert Preprocessing.from_dict(used.to_dict()) == used
    assert Preprocessing.from_options(Config(**used.to_options())) == used
