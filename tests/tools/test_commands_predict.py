"""`predict`: the evaluation's pixels, each good image once, bad ones named, whole results."""

import csv
import json
import os
from pathlib import Path

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
from mindspore import Parameter, Tensor, load_param_into_net
from PIL import Image

from mindcv.classifier import read_image
from mindcv.data import (
    Preprocessing,
    contact_sheet,
    create_evaluation_loader,
    create_transforms,
    open_samples,
)
from mindcv.data.samples.pictures import find_images
from mindcv.errors import DataError
from mindcv.hub import PublishedWeights
from mindcv.models import registry


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with registered(tiny_regnet):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.ckpt", weights(1))


def add_bad_files(folder: Path) -> dict[str, str]:
    """Write files that are no images; return their names and what is wrong with them."""
    jpeg, png = (folder / "a.JPG").read_bytes(), (folder / "Zebra/d.png").read_bytes()
    bad = {
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged image"),
        "header.jpg": (jpeg[:300], "damaged image"),  # ends MindSpore's decoder, and the process
        "cut.png": (png[: len(png) // 2], "damaged image"),
        "empty.png": (b"", "empty file"),
        "page.jpg": (b"<html>not found</html>", "not an image (text file)"),
    }
    for name, (content, _) in bad.items():
        (folder / name).write_bytes(content)
    return {name: reason for name, (_, reason) in bad.items()}


def expected_probabilities(paths) -> np.ndarray:
    """Classify with MindSpore's own pieces: decode, PIL-free transforms, float64 softmax."""
    network = tiny_regnet(5).set_train(False)
    load_param_into_net(network, {k: Parameter(v) for k, v in weights(1).items()})
    used = METADATA.preprocessing
    transform = create_transforms(
        image_resize=32, interpolation="bicubic", crop_pct=0.8, mean=used.mean, std=used.std
    )
    images = []
    for path in paths:
        image = np.fromfile(path, np.uint8)
        for operation in transform:
            image = operation(image)
        images.append(image)
    logits = network(Tensor(np.stack(images))).asnumpy().astype(np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_prediction_sees_the_pixels_that_validation_sees(image_folder):
    used = Preprocessing(24, 0.9, "bicubic")
    loader = create_evaluation_loader(open_samples("", str(image_folder), "val"), used, 11)
    images, _ = next(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
    paths = find_images([str(image_folder / "val")])
    operations = create_transforms(
        image_resize=24, interpolation="bicubic", crop_pct=0.9, normalize_on_device=True
    )
    assert len(paths) == 11
    assert np.array_equal(np.stack([read_image(path, operations) for path in paths]), images)


def test_every_image_is_classified_once_with_the_weights_own_preprocessing(
    capsys, tmp_path, checkpoint, image_folder
):
    folder = image_folder / "val"
    twice = sorted(folder.rglob("*.jpg"))[3]
    words = [folder, twice, "--ckpt_path", checkpoint, "--batch_size", 4, "--top_k", 3]
    code, out, err = call(capsys, "predict", *words, "--output", tmp_path / "o.json")
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert found["model"] == "tiny_regnet" and found["skipped"] == []
    paths = [row["path"] for row in found["images"]]
    assert paths == [str(path) for path in sorted(folder.rglob("*.jpg"))]  # 4 + 4 + 3
    expected = expected_probabilities(paths)
    for row, probabilities in zip(found["images"], expected):
        order = np.argsort(-probabilities)[:3]
        rows = row["predictions"]
        assert [entry["rank"] for entry in rows] == [1, 2, 3]
        assert [entry["class_index"] for entry in rows] == order.tolist()
        assert [entry["class_name"] for entry in rows] == [NAMES[index] for index in order]
        np.testing.assert_allclose(
            [entry["probability"] for entry in rows], probabilities[order], rtol=1e-4
        )
    assert len(out.splitlines()) == 3  # quiet: the weights, a summary, the file
    assert "11 classified" in out
    printed = call(capsys, "predict", *words)[1].splitlines()
    assert len(printed) == 1 + 11 * (1 + 3) + 1


def test_averaged_weights_are_the_first_choice_and_the_choice_is_printed(
    capsys, tmp_path, pictures
):
    raw, averaged = weights(1), {f"ema.{name}": value for name, value in weights(2).items()}
    for name, values in (("both", raw | averaged), ("raw", raw), ("averaged", weights(2))):
        write_checkpoint(tmp_path / f"{name}.ckpt", values)
    printed = {
        words: call(capsys, "predict", pictures, "--ckpt_path", tmp_path / words[0], *words[1:])[1]
        for words in [
            ("both.ckpt",), ("both.ckpt", "--ema"), ("both.ckpt", "--ema", "False"),
            ("raw.ckpt",), ("averaged.ckpt",),
        ]
    }  # fmt: skip
    first, rest = zip(*(printed[words].split("\n", 1) for words in list(printed)))
    assert rest[:3] == (rest[4], rest[4], rest[3])
    assert first[3].endswith(": the raw weights; the file holds no averaged ones")
    assert (
        first[0] == f"{tmp_path / 'both.ckpt'}: the averaged weights; ema False takes the raw ones"
    )
    assert first[2].endswith(": the raw weights; ema True takes the averaged ones")
    code, _, err = call(capsys, "predict", "--ckpt_path", "x", "--ema", "a.jpg")
    assert code == 2 and "--ema" in err and "expected true or false, got 'a.jpg'" in err


def test_bad_files_are_named_and_skipped(capsys, tmp_path, checkpoint, pictures, monkeypatch):
    bad = add_bad_files(pictures)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("\x1b[31m\npipe.jpg")
    words = [
        pictures,
        "gone.jpg",
        "\x1b[31m\npipe.jpg",
        "--ckpt_path",
        checkpoint,
        "--output",
        "o.json",
    ]
    code, out, err = call(capsys, "predict", *words)
    assert code == 0
    for name, reason in bad.items():
        assert f"skipped {pictures / name}: {reason}" in err
    assert "skipped gone.jpg: No such file" in err
    assert r"skipped \x1b[31m\npipe.jpg: no file, but a pipe" in err and "\x1b" not in err
    assert out.splitlines()[-2] == "5 classified, 7 skipped"
    found = json.loads(Path("o.json").read_text(encoding="utf-8"))
    assert len(found["images"]) == 5 and len(found["skipped"]) == 7
    # MindSpore's decoder would leave a copy of each in the working folder.
    assert sorted(os.listdir()) == ["\x1b[31m\npipe.jpg", "o.json", "pictures"]


def test_a_path_that_does_not_exist_is_told_before_weights_are_fetched(capsys, tmp_path):
    code, out, err = call(capsys, "predict", tmp_path / "typo.jpg", tmp_path / "typo")
    assert (code, out) == (4, "")
    assert f"no file or folder '{tmp_path}/typo.jpg', '{tmp_path}/typo'" in err


def test_no_good_image_at_all_is_an_error_and_writes_nothing(
    capsys, tmp_path, checkpoint, pictures
):
    bad = [pictures / name for name in add_bad_files(pictures)]
    output = tmp_path / "o.csv"
    output.write_text("older\n", encoding="utf-8")
    code, out, err = call(capsys, "predict", *bad, "--ckpt_path", checkpoint, "--output", output)
    assert (code, out.count("\n")) == (4, 1)
    assert "none of 5 files could be read" in err
    assert output.read_text(encoding="utf-8") == "older\n"


def test_folders_are_searched_below_sorted_without_hidden_files(pictures):
    for hidden in (".hidden.jpg", "Zebra/.hidden.png"):
        (pictures / hidden).touch()
    (pictures / ".git").mkdir()
    (pictures / ".git" / "picture.jpg").touch()
    (pictures / "notes.txt").touch()
    found = find_images([str(pictures / "b.jpeg"), str(pictures), str(pictures / "Zebra")])
    names = [os.path.relpath(path, pictures) for path in found]
    assert names == ["b.jpeg", "a.JPG", "ü b,c.bmp", "Zebra/c.Jpg", "Zebra/d.png"]


def test_linked_folders_are_followed_once_and_plots_of_a_run_left_out(tmp_path, pictures):
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    for name in ("e.png", "deep/f.png"):
        (tmp_path / "elsewhere" / name).touch()
    (pictures / "linked").symlink_to(tmp_path / "elsewhere")
    (pictures / "linked again").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "elsewhere/circle").symlink_to(pictures)
    (pictures / "run").mkdir()
    for name in ("config.yaml", "metrics.csv", "first_batch.png"):
        (pictures / "run" / name).touch()
    names = [os.path.relpath(path, pictures) for path in find_images([str(pictures)])]
    assert names == [
        *("a.JPG", "b.jpeg", "ü b,c.bmp", "Zebra/c.Jpg", "Zebra/d.png"),
        *("linked/e.png", "linked/deep/f.png"),
    ]
    with pytest.raises(DataError, match="run folder, whose plots are not classified"):
        find_images([str(pictures / "run")])


def test_csv_has_a_row_for_each_image_and_class(capsys, tmp_path, checkpoint, pictures):
    odd = os.fsencode(pictures) + b"/\xff.jpg"  # no UTF-8
    with open(odd, "wb") as file:
        file.write((pictures / "a.JPG").read_bytes())
    words = [pictures, "--ckpt_path", checkpoint, "--top_k", 9, "--output", tmp_path / "o.csv"]
    code, out, _ = call(capsys, "predict", *words)
    assert code == 0 and "6 classified" in out
    assert "\\udcff.jpg" in call(capsys, "predict", *words[:-2])[1]
    with open(tmp_path / "o.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 5  # top_k is lowered to the classes there are
    assert {os.fsencode(row["path"]) for row in rows} >= {odd, os.fsencode(pictures / "ü b,c.bmp")}
    sums = {}
    for row in rows:
        sums[row["path"]] = sums.get(row["path"], 0) + float(row["probability"])
    np.testing.assert_allclose(list(sums.values()), 1.0, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("n.txt", "one\ntwo\nthree\nfour\nfünf\n"),
        ("n.json", '["one", "two", "three", "four", "fünf"]'),
        (
            "n.json",
            '{"4": ["n4", "fünf"], "0": ["n0", "one"], "1": "two", "2": "three", "3": "four"}',
        ),
    ],
)
def test_class_names_of_a_file_replace_the_weights_own(
    capsys, tmp_path, checkpoint, pictures, name, content
):
    (tmp_path / name).write_text(content, encoding="utf-8")
    words = [pictures / "a.JPG", "--ckpt_path", checkpoint, "--class_names", tmp_path / name]
    code, out, _ = call(capsys, "predict", *words)
    assert code == 0
    named = dict(line.split()[1:] for line in out.splitlines()[2:-1])
    assert named == {"0": "one", "1": "two", "2": "three", "3": "four", "4": "fünf"}


def test_indices_stand_for_names_that_are_not_known(capsys, tmp_path, pictures):
    path = write_checkpoint(tmp_path / "t.ckpt", weights(1), other_metadata(class_names=None))
    code, out, _ = call(capsys, "predict", pictures / "a.JPG", "--ckpt_path", path)
    assert code == 0
    assert {line.split()[-1] for line in out.splitlines()[2:-1]} == set("01234")


def test_a_file_without_metadata_needs_the_model(capsys, tmp_path, pictures):
    path = write_checkpoint(tmp_path / "t.ckpt", weights(1), None)
    code, _, err = call(capsys, "predict", pictures / "a.JPG", "--ckpt_path", path)
    assert code == 5 and "name the model" in err
    words = ["--ckpt_path", path, "--model", "tiny_regnet", "--num_classes", 5]
    assert call(capsys, "predict", pictures / "a.JPG", *words, "--image_size", 32)[0] == 0


def test_the_contact_sheet_shows_what_the_network_saw(
    capsys, tmp_path, checkpoint, pictures, monkeypatch
):
    monkeypatch.setattr(contact_sheet, "MOST_PREDICTIONS", 4)
    sheet = tmp_path / "sheet.png"
    words = [pictures, "--ckpt_path", checkpoint, "--contact_sheet", sheet]
    code, out, err = call(capsys, "predict", *words)
    assert (code, err) == (0, "") and f"wrote {sheet}, {tmp_path / 'sheet-2.png'}" in out
    assert Image.open(tmp_path / "sheet-2.png").size[1] < Image.open(sheet).size[1]
    drawn = np.asarray(Image.open(sheet)).astype(int)
    operations = create_transforms(
        image_resize=32, interpolation="bicubic", crop_pct=0.8, normalize_on_device=True
    )
    view = read_image(str(pictures / "a.JPG"), operations)
    side, gap, head = 224, 20, 44
    tile = drawn[head : head + side, gap : gap + side]
    centres = np.arange(32) * side // 32 + side // 64
    assert np.array_equal(tile[np.ix_(centres, centres)], view)
    below = drawn[head + side : head + side + 100, gap : gap + side]
    assert (below.min(2) < 100).sum() > 300  # letters


def test_folders_named_like_classes_give_the_accuracy_and_the_true_labels(
    capsys, tmp_path, checkpoint, pictures
):
    paths = [
        path for path in find_images([str(pictures)]) if path.endswith(("a.JPG", "png", "bmp"))
    ]
    right = NAMES[expected_probabilities(paths[:1]).argmax()]
    wrong = [name for name in NAMES if name != right]
    for path, name in zip(paths, (right, wrong[0], "none of them")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.open(path).save(tmp_path / "photos" / name / "photo.png")
    words = ["predict", tmp_path / "photos", "--ckpt_path", checkpoint]
    files = ["--output", tmp_path / "o.csv", "--contact_sheet", tmp_path / "o.png"]
    code, out, err = call(capsys, *words, *files)
    with open(tmp_path / "o.csv", encoding="utf-8", newline="") as file:
        first = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    known = [(row["true_class"], row["class_name"]) for row in first if row["true_class"]]
    assert {true for true, _ in known} == {right, wrong[0]} and len(first) == 3
    share = 100 * np.mean([true == guess for true, guess in known])
    assert (code, err) == (0, "") and share in (50.0, 100.0)
    line = f"3 classified; top-1 {share:.3f} %, top-5 100.000 % of the 2 whose folder names their"
    assert line in out
    with_labels = Image.open(tmp_path / "o.png").size
    call(capsys, "predict", pictures, "--ckpt_path", checkpoint, *files)
    assert Image.open(tmp_path / "o.png").size[1] < with_labels[1] + 24  # no line for labels


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("net.onnx", ["--batch_size", 2, "--softmax"]),
        ("net.mindir", ["--batch_size", "dynamic", "--normalize"]),
    ],
)
def test_an_exported_file_predicts_what_its_checkpoint_does(
    capsys, tmp_path, checkpoint, pictures, name, options
):
    words = ["--ckpt_path", checkpoint, "--output", tmp_path / name, *options]
    assert call(capsys, "export", *words)[0] == 0
    found = []
    for path in (checkpoint, tmp_path / name):
        words = [pictures, "--ckpt_path", path, "--output", tmp_path / "o.json"]
        code, out, err = call(capsys, "predict", *words)
        assert (code, err) == (0, ""), err
        found.append(json.loads((tmp_path / "o.json").read_text(encoding="utf-8")))
    assert out.startswith(f"{tmp_path / name}: raw weights of {checkpoint.name}\n")
    for ours, theirs in zip(*(entry["images"] for entry in found)):
        assert ours["path"] == theirs["path"]
        for one, other in zip(ours["predictions"], theirs["predictions"]):
            assert one["class_name"] == other["class_name"]
            assert one["probability"] == pytest.approx(other["probability"], rel=1e-4)
    words = [pictures, "--ckpt_path", tmp_path / name]
    code, _, err = call(capsys, "predict", *words, "--image_size", 64)
    assert code == 2 and "--image_size is for checkpoints" in err
    for option in (["--ema", "False"], ["--regnet", "d=3"]):
        code, _, err = call(capsys, "predict", *words, *option)
        assert code == 2 and f"{option[0]} is for checkpoints" in err
    # The file describes itself; one of an earlier version is described beside it.
    path, description = tmp_path / name, tmp_path / f"{name}.json"
    kept = description.read_bytes()
    description.unlink()
    assert call(capsys, "predict", *words)[0] == 0
    written = path.read_bytes()
    path.write_bytes(written[: written.rindex(b"\x0a\x06format") - 2])
    code, _, err = call(capsys, "predict", *words)
    assert code == 5 and "export the file again" in err
    description.write_text("{}", encoding="utf-8")
    code, _, err = call(capsys, "predict", *words)
    assert code == 5 and f"{description} does not describe an exported file" in err
    description.write_bytes(kept)
    assert call(capsys, "predict", *words)[0] == 0


def test_any_name_can_be_written_on_a_contact_sheet():
    font = contact_sheet.load_font(None)
    for text in ("猫の写真", "bée", "\udcff\udcfe", "a\nb\tc", "עברית", "🐈", "", "x" * 500):
        fitted = contact_sheet.fit_text(text, 200, font)
        assert font.getlength(fitted) <= 200
        assert fitted.isprintable()
    assert contact_sheet.fit_text("IMG_" + "0" * 90 + "7.jpg", 200, font).endswith("7.jpg")


def test_published_weights_bring_their_own_preprocessing(
    capsys, tmp_path, checkpoint, pictures, monkeypatch
):
    def choose_weights(asked, model, pretrained):
        assert asked == model == "tiny_regnet" and pretrained in (True, "first")
        return PublishedWeights(
            model, "first", "https://nowhere", num_classes=5, preprocessing=METADATA.preprocessing
        )

    monkeypatch.setattr(registry, "choose_weights", choose_weights)
    monkeypatch.setattr(registry, "fetch", lambda found: checkpoint)
    _, of_file, _ = call(capsys, "predict", pictures, "--ckpt_path", checkpoint)
    for words in (["--pretrained"], ["--pretrained", "first"], ["--pretrained", "True"]):
        code, out, err = call(capsys, "predict", pictures, "--model", "tiny_regnet", *words)
        assert (code, err) == (0, "")
        assert out.startswith("tiny_regnet: weights first of ")
        # Of five classes, published without names, the indices.
        assert [line.split()[:2] for line in out.splitlines() if line[0] == " "] == [
            line.split()[:2] for line in of_file.splitlines() if line[0] == " "
        ]
