"""`export`: files that give what the network gives, or none at all."""

import json
import os
import shutil
import sys

import mindspore as ms
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
from mindspore import Parameter, Tensor, load_param_into_net, nn
from mindspore.train import mind_ir_pb2

from mindcv.errors import ConfigError
from mindcv.models import AnyNet, create_model_from_file, fold_batch_norm
from mindcv.tools.export.deployment import relative_difference
from mindcv.tools.export.model_file import name_output_batch, read_entries


class Preactivation(nn.Cell):
    """Normalises before the convolution: the names look like a pair that can be folded."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 3, pad_mode="pad", padding=1)
        self.fc = nn.Dense(3, num_classes)

    def construct(self, x):
        return self.fc(self.conv(self.bn(x)).mean((2, 3)))


class Flattening(nn.Cell):
    """Its graph holds the batch size in a constant."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.pool = nn.AvgPool2d(16, 16)
        self.fc = nn.Dense(12, num_classes)

    def construct(self, x):
        x = self.pool(x)
        return self.fc(x.reshape((x.shape[0], -1)))


def preactivation(num_classes=1000, in_channels=3):
    return Preactivation(num_classes)


def flattening(num_classes=1000, in_channels=3):
    return Flattening(num_classes)


@pytest.fixture(scope="module", autouse=True)
def models():
    with registered(tiny_regnet, preactivation, flattening):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.ckpt", weights(1))


def images(count: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def normalised(batch: np.ndarray) -> np.ndarray:
    used = METADATA.preprocessing
    return np.float32((batch - np.array(used.mean)) / np.array(used.std)).transpose(0, 3, 1, 2)


def logits(checkpoint, batch: np.ndarray) -> np.ndarray:
    network, _ = create_model_from_file(str(checkpoint))
    return network(Tensor(normalised(batch))).asnumpy()


@pytest.mark.parametrize(
    ("options", "folded"),
    [
        ({}, 1 + 2 * 3 + 3 + 2),
        ({"se_r": 0.25, "head_w": 24}, 1 + 2 * 3 + 3 + 2 + 1),
        ({"block_type": "vanilla_block"}, 1 + 3 * 2),
        ({"block_type": "res_basic_block", "stem_type": "res_stem_in"}, 1 + 3 * 2 + 2),
        ({"block_type": "res_bottleneck_linear_block", "stem_type": "res_stem_cifar"}, 1 + 3 * 3),
    ],
    ids=["bottleneck", "squeeze and head", "vanilla", "basic", "linear"],
)
def test_a_folded_network_gives_the_same_with_no_normalisation_left(options, folded):
    network = AnyNet(
        depths=[1, 2], widths=[16, 32], strides=[2, 2], num_classes=5, stem_w=8, **options
    ).set_train(False)
    values = weights(3, network)
    load_param_into_net(network, {k: Parameter(v) for k, v in values.items()})
    batch = Tensor(normalised(images(2)))
    before = network(batch).asnumpy()
    copy, count = fold_batch_norm(network)
    assert count == folded
    assert not [c for _, c in copy.cells_and_names() if isinstance(c, nn.BatchNorm2d)]
    assert relative_difference(before, copy(batch).asnumpy()) < 1e-5
    assert np.array_equal(network(batch).asnumpy(), before)
    after = {p.name: p.asnumpy() for p in network.get_parameters()}
    assert set(after) == set(values)
    assert all(np.array_equal(after[name], values[name]) for name in values)
    names = {p.name for p in copy.get_parameters()}
    kept = {name for name in values if name.endswith("weight") or "se." in name or "fc." in name}
    assert kept <= names and len(names) == len(kept) + folded  # a new bias each


def test_folding_is_computed_in_float64():
    network = tiny_regnet(5).set_train(False)
    values = weights(3, network)
    load_param_into_net(network, {k: Parameter(v) for k, v in values.items()})
    copy, _ = fold_batch_norm(network)
    v = {name.removeprefix("stem."): values[name].astype(np.float64) for name in values}
    scale = v["bn.gamma"] / np.sqrt(v["bn.moving_variance"] + 1e-5)
    weight = (v["conv.weight"] * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    bias = (v["bn.beta"] - v["bn.moving_mean"] * scale).astype(np.float32)
    assert np.array_equal(copy.stem.conv.weight.asnumpy(), weight)
    assert np.array_equal(copy.stem.conv.bias.asnumpy(), bias)


def test_a_mindir_file_takes_any_batch_and_gives_the_networks_logits(capsys, tmp_path, checkpoint):
    folder = tmp_path / "é [a] b=c+"  # MindSpore takes no such names
    folder.mkdir()
    path = folder / "tiny é.mindir"
    words = ["--ckpt_path", checkpoint, "--output", path, "--batch_size", "dynamic"]
    code, out, _ = call(capsys, "export", *words)
    assert code == 0
    count = sum(name.endswith("gamma") for name in weights(1))
    assert f"{count} batch normalisations folded in" in out and "checked with MindSpore" in out
    plain = shutil.copy(path, tmp_path / "plain.mindir")
    graph = nn.GraphCell(ms.load(str(plain)))
    for count in (2, 5):
        found = graph(Tensor(normalised(images(count)))).asnumpy()
        assert relative_difference(logits(checkpoint, images(count)), found) < 1e-5
    about = json.loads((folder / "tiny é.mindir.json").read_text(encoding="utf-8"))
    assert about["input"]["shape"] == ["any", 3, 32, 32] and about["input"]["type"] == "float32"
    assert tuple(about["class_names"]) == NAMES
    assert about["preprocessing"]["interpolation"] == "bicubic"
    assert about["checks"]["file"] < 1e-5
    assert sorted(os.listdir(folder)) == ["tiny é.mindir", "tiny é.mindir.json"]
    (folder / "new").touch()  # with the rights that umask leaves
    assert path.stat().st_mode == (folder / "new").stat().st_mode


@pytest.mark.parametrize("batch_size", [2, "dynamic"])
def test_an_onnx_file_takes_bytes_and_gives_probabilities(capsys, tmp_path, checkpoint, batch_size):
    onnxruntime = pytest.importorskip("onnxruntime")
    if batch_size == "dynamic" and not hasattr(ms, "onnx"):
        pytest.skip("this MindSpore has no mindspore.onnx")
    path = tmp_path / "tiny [é] a=b+.onnx"
    words = ["--ckpt_path", checkpoint, "--output", path, "--batch_size", batch_size]
    code, out, _ = call(capsys, "export", *words, "--normalize", "--softmax")
    assert code == 0 and "checked with onnxruntime" in out
    session = onnxruntime.InferenceSession(str(path))
    declared = "batch" if batch_size == "dynamic" else batch_size
    assert session.get_inputs()[0].shape == [declared, 32, 32, 3]
    assert session.get_outputs()[0].shape == [declared, 5]
    for count in (1, 2, 7) if batch_size == "dynamic" else (2,):
        found = session.run(None, {session.get_inputs()[0].name: images(count)})[0]
        powers = np.exp(logits(checkpoint, images(count)).astype(np.float64))
        np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-4)
    about = json.loads(path.with_suffix(".onnx.json").read_text(encoding="utf-8"))
    assert about["input"]["type"] == "uint8" and about["output"]["values"] == "probabilities"
    inside = session.get_modelmeta().custom_metadata_map
    assert inside["model"] == "tiny_regnet" and tuple(json.loads(inside["class_names"])) == NAMES
    assert {key: about[key] for key in ("format", "model", "written_by")}.items() <= inside.items()
    for key in ("input", "output", "preprocessing"):
        assert json.loads(inside[key]) == about[key]
    assert read_entries(path) == inside and set(about) - set(inside) == {"checks"}


def test_a_mindir_file_describes_itself_where_mindspore_does(capsys, tmp_path):
    """Also with class folders and a checkpoint whose names are no UTF-8, or without class names."""
    for names in (("\udcff", "bée", "c", "d", "e"), None):
        metadata = other_metadata(class_names=names)
        checkpoint = write_checkpoint(tmp_path / "t\udcff.ckpt", weights(1), metadata)
        path = tmp_path / "t.mindir"
        words = ["--ckpt_path", checkpoint, "--output", path, "--force"]
        assert call(capsys, "export", *words)[0] == 0
        inside = mind_ir_pb2.ModelProto.FromString(path.read_bytes()).user_info
        assert dict(inside) == read_entries(path) and "t\\udcff.ckpt" in inside["weights"]
        assert tuple(json.loads(inside["class_names"])) == names if names else len(inside) == 8
        about = json.loads(path.with_suffix(".mindir.json").read_text(encoding="utf-8"))
        assert about["class_names"] == (list(names) if names else None)


def test_an_onnx_file_that_nobody_can_check_is_reported(capsys, tmp_path, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = ["--ckpt_path", checkpoint, "--output", tmp_path / "t.onnx"]
    code, out, _ = call(capsys, "export", *words)
    assert code == 0 and "not checked: onnxruntime is not installed" in out
    about = json.loads((tmp_path / "t.onnx.json").read_text(encoding="utf-8"))
    assert about["checks"]["file"] is None


def test_a_dynamic_batch_that_the_graph_does_not_have_is_refused(capsys, tmp_path):
    pytest.importorskip("onnxruntime")
    if not hasattr(ms, "onnx"):
        pytest.skip("this MindSpore has no mindspore.onnx")
    metadata = other_metadata(model="flattening")
    path = write_checkpoint(tmp_path / "f.ckpt", weights(1, Flattening(5)), metadata)
    words = ["--ckpt_path", path, "--output", tmp_path / "f.onnx", "--batch_size"]
    code, _, err = call(capsys, "export", *words, "dynamic")
    assert code == 5 and "onnxruntime cannot run the exported file" in err
    assert os.listdir(tmp_path) == ["f.ckpt"]
    assert call(capsys, "export", *words, 3)[0] == 0


def test_a_network_that_folding_would_change_is_not_written(capsys, tmp_path):
    metadata = other_metadata(model="preactivation")
    path = write_checkpoint(tmp_path / "p.ckpt", weights(1, Preactivation(5)), metadata)
    words = ["--ckpt_path", path, "--output", tmp_path / "p.mindir"]
    code, out, err = call(capsys, "export", *words)
    assert (code, out.count("\n")) == (5, 1) and "add --no_fold_bn" in err
    assert os.listdir(tmp_path) == ["p.ckpt"]
    assert call(capsys, "export", *words, "--no_fold_bn")[0] == 0


def message(*fields: tuple[int, bytes]) -> bytes:
    """Return a protocol buffer of fields with a length, each below 128 bytes."""
    return b"".join(bytes([number << 3 | 2, len(content)]) + content for number, content in fields)


def test_only_the_batch_of_an_onnx_output_is_renamed(tmp_path):
    """Beside it: a number, a fixed one, and a field of eight bytes, none of which we know."""

    def model(batch: bytes) -> bytes:
        shape = message((1, batch), (1, b"\x08\x05"))
        value = message((1, b"output"), (2, message((1, b"\x08\x01" + message((2, shape))))))
        beside = b"\x08\x96\x01" + b"\x11" + bytes(range(8)) + b"\x1d" + bytes(4)
        return beside + message((2, b"name"), (7, message((11, b"in"), (12, value))))

    path = tmp_path / "a.onnx"
    path.write_bytes(model(b"\x08\x02"))
    name_output_batch(path, "batch")
    assert path.read_bytes() == model(message((2, b"batch")))
    for damaged in (b"", b"no protocol buffer", model(b"\x08\x02")[:-1], message((7, b""))):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="no shape of its output"):
            name_output_batch(path, "batch")
        assert path.read_bytes() == damaged


def test_air_is_refused_where_there_is_no_ascend(capsys, tmp_path):
    words = ["--ckpt_path", tmp_path / "gone.ckpt", "--output", tmp_path / "t.air"]
    code, _, err = call(capsys, "export", *words)
    assert code == 2 and "only on Ascend" in err
    assert os.listdir(tmp_path) == []


def test_existing_files_stay_unless_forced(capsys, tmp_path, checkpoint):
    words = ["--ckpt_path", checkpoint, "--output", tmp_path / "t.mindir"]
    for existing in ("t.mindir", "t.mindir.json"):
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / existing).write_text("precious", encoding="utf-8")
        code, _, err = call(capsys, "export", *words)
        assert code == 2 and "exists already" in err
        assert (tmp_path / existing).read_text(encoding="utf-8") == "precious"
        assert os.listdir(tmp_path) == [existing]
    (tmp_path / "t.mindir").write_text("precious", encoding="utf-8")
    assert call(capsys, "export", *words, "--force")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["t.mindir", "t.mindir.json"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() != b"precious"


def test_weights_that_are_not_finite_are_not_exported(capsys, tmp_path):
    values = weights(1)
    values["head.fc.bias"][0] = np.inf
    path = write_checkpoint(tmp_path / "t.ckpt", values)
    code, _, err = call(capsys, "export", "--ckpt_path", path, "--output", tmp_path / "t.mindir")
    assert code == 5 and "not finite" in err
    assert os.listdir(tmp_path) == ["t.ckpt"]


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        (["--output", "t.mindir"], 2, "neither was given"),
        (["--ckpt_path", "x", "--output", "t.pb"], 2, "expected a suffix among .mindir"),
        (["--ckpt_path", "x", "--output", "t.onnx", "--format", "mindir"], 2, "ending in .mindir"),
        (["--ckpt_path", "x", "--output", "none/t.onnx"], 2, "there is no folder"),
        (["--ckpt_path", "x", "--output", "t.onnx", "--batch_size", "many"], 2, "the word dynamic"),
        (["--ckpt_path", "gone.ckpt", "--output", "t.onnx"], 5, "gone.ckpt"),
        (["--ckpt_path", "x"], 2, "--output"),
    ],
)
def test_wrong_words_end_with_their_code_and_one_line(
    capsys, tmp_path, monkeypatch, words, code, fragment
):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(capsys, "export", *words)
    assert (found, out) == (code, "")
    assert fragment in err and err.count("\n") == 1
    assert os.listdir(tmp_path) == []
