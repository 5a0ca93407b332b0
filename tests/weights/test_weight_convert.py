"""`python -m mindcv convert`: what it writes, what it refuses, what it says."""

import numpy as np
import pytest
from golden.fill import fill
from weight_files import GOLDEN, known_weights, register_tiny, tiny

from mindcv.__main__ import main
from mindcv.weights import Metadata, Preprocessing, read_weights, write_weights
from mindcv.weights.match import sort_contents


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    register_tiny(monkeypatch)


def convert(capsys, *words) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    try:
        main(["convert", *map(str, words)])
        code = 0
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr()
    return code, output.out, output.err


def is_known(path) -> bool:
    weights = sort_contents(read_weights(path)).weights
    return len(weights) == 50 and all(
        np.array_equal(value, fill(name, value.shape)) for name, value in weights.items()
    )


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".npz"])
def test_a_torch_file_becomes_ours(tmp_path, capsys, suffix):
    code, output, _ = convert(capsys, GOLDEN / "legacy.pth", tmp_path / f"a{suffix}")
    assert code == 0 and is_known(tmp_path / f"a{suffix}")
    assert "read 50 tensors from" in output and "(torch legacy), names of torchvision" in output
    assert f"wrote 50 tensors to {tmp_path / f'a{suffix}'}, native names" in output


def test_names_go_to_another_library_and_back_bit_for_bit(tmp_path, capsys):
    for source, target, names in (
        (GOLDEN / "zip.pth", "a.safetensors", "timm"),
        (tmp_path / "a.safetensors", "b.npz", "pycls"),
        (tmp_path / "b.npz", "c.safetensors", "torchvision"),
    ):
        code, output, _ = convert(capsys, source, tmp_path / target, "--names", names)
        assert code == 0 and f"names of {names}" in output
        assert is_known(tmp_path / target)
    original, returned = read_weights(GOLDEN / "zip.pth"), read_weights(tmp_path / "c.safetensors")
    assert set(original.tensors) == set(returned.tensors)
    for name, value in original.tensors.items():
        assert value.tobytes() == returned.tensors[name].tobytes() and value.shape == (
            returned.tensors[name].shape
        )


def test_with_a_model_the_weights_are_checked_and_described(tmp_path, capsys):
    out = tmp_path / "a.safetensors"
    code, output, _ = convert(capsys, GOLDEN / "zip.pth", out, "--model", "tiny_regnet")
    assert code == 0 and "all of them fit tiny_regnet" in output
    pillows = Preprocessing(antialias=True)  # the file has torchvision's names
    assert read_weights(out).metadata == Metadata("tiny_regnet", 5, preprocessing=pillows)
    code, _, errors = convert(
        capsys, GOLDEN / "zip.pth", tmp_path / "b.npz", "--model", "regnet_x_200mf"
    )
    assert code == 5 and "missing from the file" in errors and "depths 1-1-4-7" in errors
    assert not (tmp_path / "b.npz").exists()


def test_names_of_no_library_are_converted_for_a_model_that_has_them_only(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **{"layer1.weight": np.ones(2)})
    code, _, errors = convert(capsys, tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 5 and "names of no known library, e.g. layer1.weight" in errors


def test_a_file_without_statistics_is_no_network(tmp_path, capsys):
    weights = {k: v for k, v in known_weights(tiny()).items() if "moving_" not in k}
    write_weights(tmp_path / "optim_net.ckpt", weights, names="mindcv")
    code, _, errors = convert(capsys, tmp_path / "optim_net.ckpt", tmp_path / "b.npz")
    assert code == 5 and "batch normalisations have no running statistics, e.g. stem.bn" in errors
    assert not (tmp_path / "b.npz").exists()


def test_the_averages_and_the_metadata_are_kept(tmp_path, capsys):
    code, output, _ = convert(capsys, GOLDEN / "training.pth", tmp_path / "a.npz", "--ema")
    assert code == 0 and "ignored 35 entries" in output and "averaged" in output
    stem = read_weights(tmp_path / "a.npz").tensors["stem.conv.weight"]
    np.testing.assert_array_equal(stem, fill("stem.conv.weight", stem.shape) + 1)
    metadata = Metadata("tiny_regnet", num_classes=5, class_names=tuple("abcde"))
    write_weights(tmp_path / "b.ckpt", known_weights(tiny()), metadata)
    assert convert(capsys, tmp_path / "b.ckpt", tmp_path / "b.safetensors")[0] == 0
    assert read_weights(tmp_path / "b.safetensors").metadata == metadata
    code, _, errors = convert(
        capsys, tmp_path / "b.ckpt", tmp_path / "c.npz", "--model", "regnet_x_200mf"
    )
    assert code == 5 and "is of model tiny_regnet, not regnet_x_200mf" in errors


def test_nothing_is_overwritten_unasked(tmp_path, capsys):
    out = tmp_path / "a.npz"
    assert convert(capsys, GOLDEN / "zip.pth", out)[0] == 0
    before = out.read_bytes()
    code, _, errors = convert(capsys, GOLDEN / "half.pth", out)
    assert code == 2 and "--force" in errors and out.read_bytes() == before
    code, _, errors = convert(capsys, out, out, "--force")
    assert code == 2 and "is an input file" in errors and out.read_bytes() == before
    (tmp_path / "link.npz").symlink_to(out)
    assert convert(capsys, out, tmp_path / "link.npz", "--force")[0] == 2
    (tmp_path / "page.pth").write_bytes(b"<!doctype html>")
    code, _, errors = convert(capsys, tmp_path / "page.pth", out, "--force")
    assert code == 5 and "a web page" in errors and out.read_bytes() == before
    code, output, _ = convert(capsys, GOLDEN / "half.pth", out, "--force")
    assert code == 0 and "cast from float16" in output and out.read_bytes() != before


def test_a_wrong_command_line_is_told(tmp_path, capsys):
    code, _, errors = convert(capsys, GOLDEN / "zip.pth", tmp_path / "a.pth")
    assert code == 2 and "expected a name ending in .ckpt or .safetensors or .npz" in errors
    code, _, errors = convert(capsys, GOLDEN / "zip.pth", tmp_path / "none" / "a.npz")
    assert code == 2 and "no folder" in errors
    code, _, errors = convert(capsys, tmp_path / "none.pth", tmp_path / "a.npz")
    assert code == 5 and "does not exist" in errors
    code, _, errors = convert(capsys, GOLDEN / "zip.pth", tmp_path / "a.npz", "--model", "rgnet")
    assert code == 2 and "is not registered" in errors
    assert list(tmp_path.iterdir()) == []
