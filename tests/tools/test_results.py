"""What validate.py says of classes, of several weights and of several views of an image."""

import csv
import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from commands import METADATA, NAMES, other_metadata, weights, write_checkpoint
from evaluation_cases import picture
from golden.fill import fill
from html_page import contrast
from mindspore import Tensor
from pictures import png
from PIL import Image

from mindcv import create_model, engine
from mindcv.data import Preprocessing, create_normalize
from mindcv.data.confusion_picture import MOST_CLASSES, draw_confusion, ink_on
from mindcv.data.transforms import evaluation_transforms
from mindcv.engine import ClassFigures, Outcomes
from mindcv.engine.results import Evaluation, compare, write_evaluations
from mindcv.errors import ConfigError

GOLDEN = np.load(Path(__file__).parents[1] / "golden/results.npz")
TINY = (
    "import sys; sys.path[:0] = {paths}\n"
    "from commands import tiny_regnet\nimport mindcv\nmindcv.register_model(tiny_regnet)\n"
)


def figures(names=tuple("abcdef")) -> ClassFigures:
    return ClassFigures.of(names, GOLDEN["labels"], GOLDEN["predicted"])


def test_figures_of_classes_equal_scikit_learns():
    found = figures()
    precision, recall, f1, support = GOLDEN["classes"]
    np.testing.assert_array_equal(found.matrix(), GOLDEN["confusion"])
    np.testing.assert_allclose(found.precision, precision, rtol=1e-15)
    np.testing.assert_allclose(found.recall, recall, rtol=1e-15)
    np.testing.assert_allclose(found.f1, f1, rtol=1e-15)
    np.testing.assert_array_equal(found.support, support)
    for weighted, kind in ((False, "macro"), (True, "weighted")):
        np.testing.assert_allclose(list(found.means(weighted).values()), GOLDEN[kind], rtol=1e-14)
    np.testing.assert_array_equal(found.matrix([4, 0]), GOLDEN["confusion"][np.ix_([4, 0], [4, 0])])


def test_a_class_is_called_as_it_is_in_the_table():
    first, head, *rows = figures(("f1", "shelf1", *"cdef")).describe()
    assert "F1" in first and head.split() == ["class", "precision", "recall", "F1", "images"]
    assert {"f1", "shelf1"} <= {row.split()[0] for row in rows}


@pytest.mark.parametrize("tta", ["flip", "5crop", "10crop"])
def test_several_views_of_an_image_give_the_mean_probabilities_of_timms_and_count_it_once(tta):
    network = create_model("regnet_x_200mf").set_train(False)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(fill(parameter.name, parameter.shape)))
    used = Preprocessing(64, antialias=True)
    operations = evaluation_transforms(used, five_crops=tta != "flip")
    images = []
    for size in ((90, 121), (133, 84)):
        image = np.frombuffer(png(picture(*size)), np.uint8)
        for operation in operations:
            image = operation(image)
        images.append(image)
    if tta != "flip":
        expected = np.stack([GOLDEN["views 0"], GOLDEN["views 1"]])
        assert np.abs(np.stack(images).astype(int) - expected).max() <= 1
        images = list(expected)
    else:
        images = [GOLDEN["views 0"][4], GOLDEN["views 1"][4]]
    step = engine.EvaluationStep(network, 1000, create_normalize("imagenet"))
    step = engine.AugmentedStep(step, flip=tta != "5crop").set_train(False)
    label, counted = np.array([3, 0], np.int32), np.array([True, False])
    sums, logits = step(Tensor(np.stack(images)), Tensor(label), Tensor(counted))
    for number, row in enumerate(np.exp(logits.asnumpy())):
        np.testing.assert_allclose(row, GOLDEN[f"{tta} {number}"], rtol=2e-4)
    expected = -np.log(GOLDEN[f"{tta} 0"][3])
    np.testing.assert_allclose(sums.asnumpy()[0], expected, rtol=1e-4)
    assert sums.asnumpy()[3] == 0


def test_a_view_that_is_no_number_leaves_the_image_without_accuracy():
    class Broken(ms.nn.Cell):
        def construct(self, image):
            return image.mean((1, 2)).astype("float32") / 0.0 * 0.0

    step = engine.AugmentedStep(engine.EvaluationStep(Broken(), 3), flip=True)
    image, label = np.ones((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32)
    sums, _ = step(Tensor(image), Tensor(label), Tensor(np.array([True, True])))
    assert sums.asnumpy()[3] == 2


def test_images_without_room_for_crops_are_refused():
    for options in (dict(is_decoded=True), {}):
        used = Preprocessing(32, crop_pct=0.875 if options else 1.15)
        with pytest.raises(ConfigError, match="tta flip can be used"):
            evaluation_transforms(used, five_crops=True, **options)


def test_outcomes_of_all_processes_come_together():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 4)), np.array([0, 1, -1, 3, 2, 2, 1])
    parts, sent = [Outcomes(), Outcomes()], []
    parts[0](logits[:4], labels[:4])
    parts[1](logits[4:], labels[4:])

    class Recorder:
        def gather(self, values):
            sent.append(np.asarray(values, np.float32))
            return np.stack([[4.0], [3.0]]) if len(values) == 1 else np.stack([values])

    pieces = [part.of_all_ranks(Recorder()) for part in parts]
    assert [len(values) for values in sent] == [1, 8, 1, 8]  # equal lengths, as AllGather wants
    found = [np.concatenate(both) for both in zip(*pieces)]
    np.testing.assert_array_equal(found[0], labels[labels >= 0])
    np.testing.assert_array_equal(found[1], logits.argmax(1)[labels >= 0])
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(parts[0].arrays()[2][:2], -log[[0, 1], [0, 1]])


def test_files_of_results_hold_names_and_figures(tmp_path):
    names = ("ant, red", "=bee", "ñandú", "d", "e", "</f>")
    accuracy = engine.Accuracy(80, 1.0, 50.0, 90.0)
    one = Evaluation("x.ckpt", "m", "raw", params=9, accuracy=accuracy, figures=figures(names))
    write_evaluations(tmp_path / "new/folder", [one], tta="flip")
    folder = tmp_path / "new/folder"
    assert sorted(path.name for path in folder.iterdir()) == [
        "classes.csv", "confusion.csv", "confusion.png", "metrics.json",
    ]  # fmt: skip
    told = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert (told["top1"], told["tta"], told["weights"]) == (50.0, "flip", "raw")
    assert sum(entry["images"] for entry in told["confusions"]) == 80
    with open(folder / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == ["ant, red", "'=bee", *names[2:]]
    assert [float(row["f1"]) for row in rows] == pytest.approx(GOLDEN["classes"][2].tolist())
    with open(folder / "confusion.csv", encoding="utf-8", newline="") as file:
        matrix = [[int(v) for v in row[1:]] for row in list(csv.reader(file))[1:]]
    np.testing.assert_array_equal(matrix, GOLDEN["confusion"])
    write_evaluations(tmp_path, [one, one])
    assert len((tmp_path / "comparison.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert (tmp_path / "2_x/confusion.png").is_file()
    assert [line.split()[0] for line in compare([one, one])] == ["file", "x.ckpt", "x.ckpt"]


def test_the_picture_of_many_classes_shows_those_with_the_most_mistakes():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 300, 5000)
    predicted = np.where(labels < 40, rng.integers(0, 300, 5000), labels)
    found = ClassFigures.of([f"class {index}" for index in range(300)], labels, predicted)
    assert draw_confusion(found).width < 34 * MOST_CLASSES + 220
    few = draw_confusion(figures(("a very long name of a class, too long", *"bcdef")))
    pixels = np.asarray(few).astype(int)
    greenish = (pixels[..., 1] - pixels[..., 0] > 20).any(0)
    assert greenish.sum() > 3 * 30  # the diagonal's cells: classes 0, 1 and 2 have hits


def test_a_number_can_be_read_on_any_colour():
    """WCAG 2.2, level AA."""
    for colour in np.random.default_rng(0).integers(0, 256, (2000, 3)):
        assert contrast(tuple(bytes.fromhex(ink_on(tuple(colour))[1:])), colour) >= 4.5


@pytest.fixture
def tiny_module(tmp_path) -> Path:
    path = tmp_path / "tiny_of_commands.py"
    paths = [str(Path(__file__).parents[1])]
    path.write_text(TINY.format(paths=paths), encoding="utf-8")
    return path


def test_several_weights_are_compared_each_with_its_own_preprocessing_and_choice(
    warm, tmp_path, tiny_module
):
    rng = np.random.default_rng(2)
    for index in range(11):
        folder = tmp_path / "images/val" / NAMES[index % 5]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (50, 60, 3)).astype(np.uint8)).save(
            folder / f"{index}.png"
        )
    raw, averaged = weights(1), {f"ema.{name}": value for name, value in weights(2).items()}
    write_checkpoint(tmp_path / "raw.ckpt", raw)
    write_checkpoint(tmp_path / "both.ckpt", raw | averaged)
    write_checkpoint(tmp_path / "bare.ckpt", raw, None)
    used = Preprocessing(40, 0.9, "bilinear", (1.0, 2.0, 3.0), (90.0, 80.0, 70.0))
    write_checkpoint(tmp_path / "other.ckpt", raw, other_metadata(preprocessing=used))
    asked = ["validate.py", "--data_dir", "images", "--import_module", tiny_module]
    asked += ["--batch_size", 4, "--mode", 1, "--num_parallel_workers", 1]

    def run(*words):
        done = warm.run([*map(str, asked), *map(str, words)], tmp_path)
        assert done.code == 0, done.err
        return done

    def figures_of(*words):
        return run(*words).out.strip().splitlines()[-1]

    words = ["--compare", "both.ckpt", "other.ckpt", "--results_dir", "out"]
    done = run("--ckpt_path", "raw.ckpt", *words)
    assert done.out.splitlines()[0].endswith(
        "raw.ckpt: the raw weights; the file holds no averaged ones"
    )
    assert "both.ckpt: the averaged weights; ema False takes the raw ones" in done.out
    assert done.out.strip().splitlines()[-1] == figures_of("--ckpt_path", "raw.ckpt")
    with open(tmp_path / "out/comparison.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["weights"] for row in rows] == ["raw", "averaged", "raw"]
    for row in rows:
        alone = figures_of("--ckpt_path", row["file"])
        assert float(row["loss"]) == pytest.approx(json.loads(alone.replace("'", '"'))["loss"])
    # An option of the user holds for all of them.
    # So do those that equal the default (ema) or what the first file tells (image_resize), and
    # what the first file told is not taken for a file that tells nothing.
    side, given = METADATA.preprocessing.image_size, ["--ema", "False", "--model", "tiny_regnet"]
    given += ["--image_resize", side]
    compared = ["both.ckpt", "other.ckpt", "bare.ckpt", "both.ckpt"]
    table = run("--ckpt_path", compared[0], *given, "--compare", *compared[1:])
    swapped = run("--ckpt_path", "raw.ckpt", *given, "--compare", *compared)
    rows = swapped.out.strip().splitlines()[-6:-1]
    assert [line.split("  ", 1)[1] for line in table.out.strip().splitlines()[-5:-1]] == [
        line.split("  ", 1)[1] for line in rows[1:]
    ]
    losses = {}
    for name in ("raw.ckpt", "other.ckpt", "bare.ckpt"):
        alone = figures_of("--ckpt_path", name, *given).replace("'", '"')
        losses[name] = f" {json.loads(alone)['loss']:.4f} "
    assert len(set(losses.values())) == 3 and all(" raw " in row for row in rows)
    for name, row in zip(("raw.ckpt", "raw.ckpt", *compared[1:3], "raw.ckpt"), rows):
        assert losses[name] in row
    # Each image counts once, with several views too.
    views = run("--ckpt_path", "raw.ckpt", "--tta", "10crop")
    assert "on 11 images" in views.out and METADATA.num_classes == 5
    loss = json.loads(views.out.strip().splitlines()[-1].replace("'", '"'))["loss"]
    assert f"{loss:.4f}" not in rows[0]
