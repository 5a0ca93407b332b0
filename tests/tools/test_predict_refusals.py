"""`predict` ends with the code of what is wrong, one line about it, and no half result."""

import os

import numpy as np
import pytest
from commands import call, registered, tiny_regnet, weights, write_checkpoint


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with registered(tiny_regnet):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.ckpt", weights(1))


def test_a_diverged_network_is_an_error(capsys, tmp_path, pictures):
    values = weights(1)
    values["head.fc.bias"][0] = np.nan
    path = write_checkpoint(tmp_path / "nan.ckpt", values)
    output = tmp_path / "o.json"
    code, out, err = call(capsys, "predict", pictures, "--ckpt_path", path, "--output", output)
    assert (code, out.count("\n")) == (5, 1) and "not finite" in err
    assert not output.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--model", "regnet_y_401mf"], 2, "did you mean regnet_y_400mf"),
        (["--num_classes", "5"], 2, "published weights bring their classes"),
        (["--ckpt_path", "x", "--model", "m", "--pretrained"], 2, "not both"),
        (["--pretrained"], 2, "--pretrained needs --model"),
        (["--ema", "False"], 2, "--ema is for --ckpt_path"),
        (["--ckpt_path", "x", "--output", "o.txt"], 2, "ending in .json or .csv"),
        (["--ckpt_path", "x", "--output", "none/o.csv"], 2, "there is no folder 'none'"),
        (["--ckpt_path", "x", "--contact_sheet", "o.jpg"], 2, "ending in .png"),
        (["--contact_sheet", "o.png", "--font", "none.ttf"], 2, "font: 'none.ttf' cannot be read"),
        (["--ckpt_path", "x", "--class_names", "none.txt"], 2, "class_names: 'none.txt'"),
        (["--ckpt_path", "x", "--top_k", "0"], 2, "'0' is not a whole number of at least 1"),
        (["--ckpt_path", "gone.ckpt"], 5, "gone.ckpt"),
        (["--ckpt_path", "a.JPG"], 5, "a.JPG"),
        (["--ckpt_path", "x", "--model", "regnet_x_201mf"], 2, "did you mean"),
        (["--model", "regnet_x_200mf", "--pretrained", "nobody"], 2, "nobody"),
    ],
)
def test_wrong_words_end_with_their_code_and_one_line(
    capsys, pictures, monkeypatch, words, code, message
):
    monkeypatch.chdir(pictures)
    before = sorted(os.listdir())
    found, out, err = call(capsys, "predict", "a.JPG", *words)
    assert (found, out) == (code, "")
    assert message in err and err.count("\n") == 1
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2, 3, 4, 5]", "no list of names"),
        ('{"1": "a"}', "no entry '0'"),
        ("{", "cannot be read"),
    ],
)
def test_a_class_name_file_of_something_else_is_refused(
    capsys, tmp_path, checkpoint, pictures, content, message
):
    (tmp_path / "n.json").write_text(content, encoding="utf-8")
    words = ["--ckpt_path", checkpoint, "--class_names", tmp_path / "n.json"]
    code, _, err = call(capsys, "predict", pictures, *words)
    assert code == 2 and message in err


def test_class_names_must_be_as_many_as_classes(capsys, tmp_path, checkpoint, pictures):
    (tmp_path / "n.txt").write_text("a\nb\n", encoding="utf-8")
    words = ["--ckpt_path", checkpoint, "--class_names", tmp_path / "n.txt"]
    code, out, err = call(capsys, "predict", pictures, *words)
    assert (code, out.count("\n")) == (2, 1) and "2 names for a model of 5 classes" in err


def test_a_folder_without_images_is_an_error(capsys, tmp_path, checkpoint):
    code, _, err = call(capsys, "predict", tmp_path, "--ckpt_path", checkpoint)
    assert code == 4 and "holds no image" in err
