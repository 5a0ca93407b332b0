"""examples/lite/classify.py sees the pixels that `mindcv predict` sees, and gives its classes."""

import ast
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import METADATA, call, registered, tiny_regnet, weights, write_checkpoint
from conftest import ROOT
from PIL import Image

from mindcv.classifier import read_image
from mindcv.data.transforms import evaluation_transforms

CLASSIFY = ROOT / "examples/lite/classify.py"
ANTIALIASED = replace(METADATA.preprocessing, antialias=True)


def picture(seed: int, width: int = 90, height: int = 70) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "changes", [{}, {"crop_mode": "squash"}, {"image_size": (24, 40)}], ids=str
)
def test_it_sees_the_networks_pixels(changes):
    used = replace(ANTIALIASED, interpolation="bilinear", **changes)
    preprocess = runpy.run_path(str(CLASSIFY))["preprocess"]
    expected = read_image(picture(1), evaluation_transforms(used))
    read = {"type": "uint8", "shape": ["any", *used.sides, 3]}
    about = {"preprocessing": used.to_dict(), "input": read}
    assert np.array_equal(preprocess(picture(1), about)[0], expected)
    read["shape"][3] = 1
    assert preprocess(picture(1), about).shape == (1, *used.sides, 1)
    about["preprocessing"]["interpolation"] = "area"
    assert preprocess(picture(1), about).dtype == np.uint8
    about["preprocessing"] = used.to_dict()
    about["input"] = {"type": "float32", "shape": ["any", 3, *used.sides]}
    normalised = (expected - np.array(used.mean)) / np.array(used.std)
    found = preprocess(picture(1), about)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, normalised.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_several_labels_are_all_from_one_half():
    describe = runpy.run_path(str(CLASSIFY))["describe"]
    about = {"task": "multi_label", "output": {"values": "logits"}, "class_names": ["a", "b", "c"]}
    scores = np.array([0.0, -1.0, 900.0], np.float32)
    assert describe(scores, about) == "c (100.0%), a (50.0%)"
    assert describe(scores, about | {"task": "single_label"}) == "c (100.0%)"
    shares = np.array([0.1, 0.2, 0.3], np.float32)
    about["output"]["values"] = "probabilities"
    assert describe(shares, about) == ""
    assert (
        describe(shares, about | {"task": "single_label", "class_names": None}) == "class 2 (30.0%)"
    )


def test_an_older_conversion_is_replaced(tmp_path, monkeypatch):
    converted = []

    def convert(kind, source, target):
        converted.append(source)
        Path(f"{target}.mindir").touch()

    lite = SimpleNamespace(
        Converter=lambda: SimpleNamespace(convert=convert),
        ModelType=SimpleNamespace(MINDIR=1),
        FmkType=SimpleNamespace(ONNX=2),
    )
    monkeypatch.setitem(sys.modules, "mindspore_lite", lite)
    function = runpy.run_path(str(CLASSIFY))["convert"]
    network = tmp_path / "n.onnx"
    network.touch()
    assert function(network, "cpu") == function(network, "cpu") == tmp_path / "n.cpu.mindir"
    assert len(converted) == 1
    os.utime(network, (2**32, 2**32))  # exported again, later
    function(network, "cpu")
    assert len(converted) == 2


def test_python_3_7_can_read_it():
    """MindSpore Lite's newest package on PyPI is for Python 3.7."""
    ast.parse(CLASSIFY.read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.peers
@pytest.mark.parametrize("options", [["--normalize", "--softmax"], ["--batch_size", "dynamic"]])
def test_mindspore_lite_gives_the_checkpoints_classes(capsys, tmp_path, options):
    """LITE_PYTHON is an interpreter with mindspore-lite, numpy and pillow."""
    if "LITE_PYTHON" not in os.environ:
        pytest.skip("LITE_PYTHON is not set")
    pytest.importorskip("onnxruntime")
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    metadata = replace(METADATA, preprocessing=ANTIALIASED)
    with registered(tiny_regnet):
        checkpoint = write_checkpoint(tmp_path / "tiny.ckpt", weights(1), metadata)
        words = ["--ckpt_path", checkpoint, "--output", tmp_path / "tiny.onnx", *options]
        assert call(capsys, "export", *words)[0] == 0
        code, out, _ = call(capsys, "predict", *paths, "--ckpt_path", checkpoint, "--top_k", 1)
        assert code == 0
    expected = re.findall(r"^ +([\d.]+)% +\d +(\w+)$", out, re.M)
    words = [
        os.environ["LITE_PYTHON"],
        str(CLASSIFY),
        str(tmp_path / "tiny.onnx"),
        *map(str, paths),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env={})
    assert done.returncode == 0, done.stderr
    found = re.findall(r"\.png: (\w+) \(([\d.]+)%\)$", done.stdout, re.M)
    assert len(found) == 3 == len(expected)
    for (share, name), (ours, percent) in zip(expected, found):
        assert name == ours and abs(float(share) - float(percent)) < 0.1
