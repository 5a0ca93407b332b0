"""`explain`, `embed` and `search`: what torch finds with equal weights, and what a user reads."""

import csv
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from commands import NAMES, call, registered, tiny_regnet, weights, write_checkpoint
from evaluation_cases import picture
from golden.fill import fill
from mindspore import Tensor
from PIL import Image

from mindcv import create_model
from mindcv.data import Preprocessing
from mindcv.tools.embed import embed
from mindcv.tools.explain import blend, grad_cam
from mindcv.tools.search import duplicates, unit
from mindcv.weights import Metadata

GOLDEN = np.load(Path(__file__).parents[1] / "golden/explain.npz")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with registered(tiny_regnet):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.ckpt", weights(1))


@pytest.fixture(scope="module")
def network():
    network = create_model("regnet_y_400mf").set_train(False)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(fill(parameter.name, parameter.shape)))
    return network


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three different photos, and a smaller copy of the first."""
    for name, seed in (("ant/a.png", 0), ("bée/b.png", 1), ("c.png", 2)):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (5, 6, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((90, 75), Image.BICUBIC).save(tmp_path / "photos" / name)
    copy = Image.open(tmp_path / "photos/ant/a.png").resize((84, 70), Image.BICUBIC)
    copy.save(tmp_path / "photos/ant/copy.jpg", quality=90)
    return tmp_path / "photos"


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_grad_cam_equals_torchs_on_equal_weights(network, mode):
    ms.set_context(mode=mode)
    for index in (7, 500):
        heat = grad_cam(network, Preprocessing(96), picture(96, 96), index)
        expected = GOLDEN[f"cam {index}"]
        assert expected.max() > 0
        np.testing.assert_allclose(heat, expected, atol=1e-4 * expected.max())


def test_features_equal_timms_on_equal_weights(network, tmp_path):
    Image.fromarray(picture(96, 96)).save(tmp_path / "p.png")
    metadata = Metadata("regnet_y_400mf", 1000, preprocessing=Preprocessing(96, crop_pct=1.0))
    paths, features = embed(network, metadata, [str(tmp_path / "p.png")], 16)
    assert paths == [str(tmp_path / "p.png")]
    largest = np.abs(GOLDEN["features"]).max()
    np.testing.assert_allclose(features[0], GOLDEN["features"], atol=1e-5 * largest)


def test_the_colours_follow_the_heat():
    view = np.full((40, 60, 3), 100, np.uint8)
    shown = blend(view, np.array([[0.0, 0.0], [0.0, 2.0]], np.float32)).astype(int)
    assert shown.shape == view.shape
    assert shown[-1, -1, 0] > shown[-1, -1, 2] and shown[0, 0, 2] > shown[0, 0, 0]
    assert np.array_equal(blend(view, np.zeros((2, 2), np.float32))[0, 0], shown[0, 0])


def test_explain_draws_each_image_for_the_class_that_is_asked(capsys, tmp_path, checkpoint, photos):
    (photos / "bad.jpg").write_bytes(b"no image")
    found = {}
    for name, words in (("own", []), ("dog", ["--target", "dog"]), ("three", ["--target", 3])):
        words = [photos, "--ckpt_path", checkpoint, "--output", tmp_path / f"{name}.png", *words]
        code, out, err = call(capsys, "explain", *words)
        assert code == 0 and "4 explained, 1 skipped" in out and "bad.jpg: not an image" in err
        found[name] = np.asarray(Image.open(tmp_path / f"{name}.png"))[44:]
    assert NAMES[3] == "dog" and np.array_equal(found["dog"], found["three"])
    assert not np.array_equal(found["own"], found["dog"])
    words = ["--ckpt_path", checkpoint, "--output", tmp_path / "x.png"]
    code, _, err = call(capsys, "explain", photos / "bad.jpg", *words)
    assert code == 4 and "none of 1 file could be read" in err and not Path(words[-1]).exists()
    words.insert(0, photos)
    code, _, err = call(capsys, "explain", *words, "--target", "wolf")
    assert code == 2 and "'wolf' is neither a class name nor an index below 5" in err


def test_search_finds_the_copy_and_refuses_features_that_cannot_be_compared(
    capsys, tmp_path, checkpoint, photos
):
    words = [photos, "--ckpt_path", checkpoint, "--batch_size", 3, "--output"]
    assert call(capsys, "embed", *words, tmp_path / "f.npz")[0] == 0
    code, out, _ = call(capsys, "embed", *words, tmp_path / "f.csv")
    with np.load(tmp_path / "f.npz") as file, open(tmp_path / "f.csv", encoding="utf-8") as table:
        rows = list(csv.reader(table))[1:]
        assert [row[0] for row in rows] == file["paths"].tolist()
        values = np.array([row[1:] for row in rows], np.float32)
        np.testing.assert_array_equal(values, file["features"])
    features = ["--features", tmp_path / "f.npz"]
    words = [photos / "ant/a.png", "--ckpt_path", checkpoint, "--top_k", 2, *features]
    code, out, _ = call(capsys, "search", *words, "--contact_sheet", tmp_path / "s.png")
    lines = out.splitlines()
    assert code == 0 and lines[1].endswith("a.png") and lines[2].endswith("1.0000  " + lines[1])
    assert lines[3].endswith("copy.jpg") and len(lines) == 5
    assert Image.open(tmp_path / "s.png").size == (10 + 3 * 154, 10 + 184)
    least = float(lines[3].split()[0]) - 1e-3
    code, out, _ = call(capsys, "search", "--duplicates", least, *features)
    assert code == 0 and "a.png" in out.splitlines()[0] and "copy.jpg" in out.splitlines()[0]
    other = write_checkpoint(tmp_path / "other.ckpt", weights(2))
    code, _, err = call(capsys, "search", photos, "--ckpt_path", other, *features)
    assert code == 5 and "features of other weights" in err
    words = [photos, "--ckpt_path", checkpoint, "--image_size", 40]
    code, _, err = call(capsys, "search", *words, *features)
    assert code == 5 and "of images of another preprocessing" in err
    broken = weights(1)
    last = [name for name in broken if name.endswith("gamma")][-1]
    broken[last][:] = np.inf
    path = write_checkpoint(tmp_path / "nan.ckpt", broken)
    words = [photos, "--ckpt_path", path, "--output", tmp_path / "nan.npz"]
    code, _, err = call(capsys, "embed", *words)
    assert code == 5 and "are not finite" in err and not (tmp_path / "nan.npz").exists()
    words = [photos / "c.png", "--ckpt_path", checkpoint, "--output", tmp_path / "one.npz"]
    assert "features of 1 image\n" in call(capsys, "embed", *words)[1]


def test_duplicates_are_all_pairs_once(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 4))
    features[7], features[2] = 3 * features[0], 0.0
    monkeypatch.setattr("mindcv.tools.search._BLOCK", 4)
    similar = unit(features) @ unit(features).T
    expected = [(i, j) for i in range(9) for j in range(i + 1, 9) if similar[i, j] >= 0.3]
    found = list(duplicates(features, 0.3))
    assert sorted((i, j) for i, j, _ in found) == expected and (0, 7) in expected
    for i, j, similarity in found:
        assert similarity == pytest.approx(similar[i, j])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.png"], 2, "add --features"),
        (["--features", "f.npz"], 2, "either images to look for, or --duplicates"),
        (
            ["--features", "f.npz", "--duplicates", "0.9", "--top_k", "5"],
            2,
            "--top_k is for images",
        ),
        (
            ["--features", "f.npz", "--duplicates", "0.9", "--ema", "False"],
            2,
            "--ema is for images",
        ),
        (["--features", "none.npz", "--duplicates", "0.9"], 4, "none.npz cannot be read"),
        (["--features", "bad.npz", "--duplicates", "0.9"], 4, "no file that `embed` wrote"),
    ],
)
def test_wrong_words_end_with_their_code(capsys, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.npz").write_bytes(b"PK nothing")
    found, out, err = call(capsys, "search", *words)
    assert (found, out) == (code, "") and message in err
