"""Reading and writing weight files: every format, cut anywhere, and nothing but WeightsError."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from golden.fill import fill
from weight_files import rewrite

from mindcv.errors import WeightsError
from mindcv.weights import Metadata, read_weights, write_weights
from mindcv.weights.match import sort_contents

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"

METADATA = Metadata("regnet_x_200mf", num_classes=3, class_names=("kat", "hünd", "猫"))


def golden_weights() -> dict[str, np.ndarray]:
    """Return the values that make_weight_files.py gave to torchvision's network."""
    names = sort_contents(read_weights(GOLDEN / "zip.pth")).weights
    return {name: fill(name, value.shape) for name, value in names.items()}


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16 as torch does: to nearest, ties to even."""
    bits = values.view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


ROUNDINGS = {
    "half.pth": lambda values: values.astype(np.float16).astype(np.float32),
    "bfloat16.pth": bfloat16,
}


@pytest.mark.parametrize(
    "name",
    "zip legacy protocol4 half bfloat16 one_storage one_storage_legacy training".split(),
)
def test_files_that_torch_wrote_give_their_values_bit_for_bit(name):
    contents = sort_contents(read_weights(GOLDEN / f"{name}.pth"))
    assert contents.scheme == "torchvision"
    rounding = ROUNDINGS.get(f"{name}.pth", lambda values: values)
    expected = {key: rounding(value) for key, value in golden_weights().items()}
    assert len(expected) == 50
    assert set(contents.weights) == set(expected)
    for key, value in expected.items():
        found = contents.weights[key]
        assert found.dtype == np.float32 and found.shape == value.shape
        assert found.tobytes() == value.tobytes(), key


def test_every_kind_of_tensor_is_read_and_what_stands_beside_is_not():
    tensors = dict(read_weights(GOLDEN / "objects.pth").tensors)
    assert tensors.pop("scalar").shape == () and tensors.pop("empty").shape == (0, 3)
    assert tensors.pop("flags").tolist() == [False, True]
    kinds = ("uint8", "int8", "int16", "int32", "float64")
    assert set(tensors) == {
        "parameter",
        "parameter_without_gradient",
        "with_attribute",
        "list.0",
        "list.1.0",
        *(f"numbers.{kind}" for kind in kinds),
    }
    assert all(value.tolist() == [0, 1, 2, 3, 4, 5] for value in tensors.values())
    assert all(tensors[f"numbers.{kind}"].dtype == kind for kind in kinds[:-1])


def test_the_format_and_the_cast_are_told():
    assert read_weights(GOLDEN / "zip.pth").format == "torch zip"
    assert read_weights(GOLDEN / "legacy.pth").format == "torch legacy"
    assert read_weights(GOLDEN / "legacy.pth").notes == ()
    assert read_weights(GOLDEN / "half.pth").notes == ("50 tensors cast from float16 to float32",)
    assert read_weights(GOLDEN / "bfloat16.pth").notes == (
        "50 tensors cast from bfloat16 to float32",
    )


def test_what_a_training_script_saved_beside_the_weights_is_set_aside():
    contents = sort_contents(read_weights(GOLDEN / "training.pth"))
    momenta = [name for name in contents.set_aside if name.endswith("momentum_buffer")]
    averages = [name for name in contents.others if name.startswith("model_ema.module.")]
    assert len(momenta) == 34 and len(averages) == 50  # buffers have no momentum
    assert set(contents.set_aside) == {*momenta, "model_ema.n_averaged"}
    averaged = sort_contents(read_weights(GOLDEN / "training.pth"), ema=True).weights
    for name, value in golden_weights().items():
        np.testing.assert_array_equal(averaged[name], value + 1)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "one_storage_legacy.pth"])
def test_a_torch_file_cut_anywhere_is_an_error(tmp_path, name):
    content = (GOLDEN / name).read_bytes()
    path = tmp_path / "cut.pth"
    step = max(1, len(content) // 150)
    ends = {*range(1, len(content), step), *range(len(content) - 40, len(content))}
    if name.startswith("zip"):
        with zipfile.ZipFile(GOLDEN / name) as archive:  # at every entry's border and inside
            ends |= {entry.header_offset + k for entry in archive.infolist() for k in (0, 30)}
    for end in sorted(ends - {0}):
        rewrite(path, content[:end])
        with pytest.raises(WeightsError):
            read_weights(path)


def test_bytes_behind_a_legacy_file_are_an_error(tmp_path):
    (tmp_path / "long.pth").write_bytes((GOLDEN / "legacy.pth").read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="1 bytes after the last storage"):
        read_weights(tmp_path / "long.pth")


def test_a_damaged_number_in_a_zip_is_found(tmp_path):
    content = bytearray((GOLDEN / "zip.pth").read_bytes())
    with zipfile.ZipFile(GOLDEN / "zip.pth") as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    content[entry.header_offset + 200] ^= 1
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="CRC"):
        read_weights(tmp_path / "bad.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".ckpt"])
def test_what_we_write_comes_back_bit_for_bit_with_its_metadata(tmp_path, suffix):
    weights = golden_weights()
    path = tmp_path / f"é [a] b=c{suffix}"  # MindSpore takes no such names
    assert write_weights(path, weights, METADATA) == 50
    file = read_weights(path)
    assert file.metadata == METADATA and file.notes == ()
    assert set(file.tensors) == set(weights)
    assert all(file.tensors[k].tobytes() == v.tobytes() for k, v in weights.items())
    # MindSpore 2.7 takes no array that spells out its byte order.
    assert not any("<" in memoryview(array).format for array in file.tensors.values())
    write_weights(path, {"w": np.ones(2, np.float32)})  # over the old one, without metadata
    assert read_weights(path).metadata is None
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    (tmp_path / "new").touch()  # with the rights that umask leaves
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("names", ["pycls", "timm", "torchvision", "transformers", "classyvision"])
def test_every_library_s_names_lead_there_and_back_bit_for_bit(tmp_path, suffix, names):
    weights = golden_weights()
    path = tmp_path / f"a{suffix}"
    # One counter for each of eight normalisations.
    assert write_weights(path, weights, METADATA, names) == 50 + 8
    contents = sort_contents(read_weights(path))
    assert contents.scheme == names and contents.set_aside == ()
    assert set(contents.weights) == set(weights)
    assert all(np.array_equal(contents.weights[k], v) for k, v in weights.items())
    stem = next(v for k, v in read_weights(path).tensors.items() if v.shape == (8, 3, 3, 3))
    expected = weights["stem.conv.weight"]
    np.testing.assert_array_equal(stem, expected[:, ::-1] if names == "pycls" else expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_our_files_cut_anywhere_are_errors(tmp_path, suffix):
    write_weights(tmp_path / f"a{suffix}", golden_weights(), METADATA)
    content = (tmp_path / f"a{suffix}").read_bytes()
    path = tmp_path / "cut"
    ends = {*range(1, len(content), len(content) // 150), *range(len(content) - 30, len(content))}
    for end in sorted(ends):
        rewrite(path, content[:end])
        with pytest.raises(WeightsError):
            read_weights(path)


def test_half_precision_is_cast_with_a_note_in_every_format(tmp_path):
    values = fill("w.weight", (4, 3))
    np.savez(tmp_path / "a.npz", w=values.astype(np.float16), n=np.arange(3))
    file = read_weights(tmp_path / "a.npz")
    np.testing.assert_array_equal(file.tensors["w"], values.astype(np.float16))
    assert file.tensors["w"].dtype == np.float32 and file.tensors["n"].dtype == np.int64
    assert file.notes == ("1 tensor cast from float16 to float32",)
    bits = (bfloat16(values).view(np.uint32) >> 16).astype(np.uint16)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4, 3], "data_offsets": [0, 24]}})
    content = len(header).to_bytes(8, "little") + header.encode() + bits.tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    file = read_weights(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(file.tensors["w"], bfloat16(values))
    assert file.notes == ("1 tensor cast from bfloat16 to float32",)
    np.savez(tmp_path / "b.npz", w=values.astype(np.float64))
    assert read_weights(tmp_path / "b.npz").notes == ("1 tensor cast from float64 to float32",)


def test_a_checkpoint_of_bfloat16_is_cast_with_a_note(tmp_path):
    ms = pytest.importorskip("mindspore")
    values = fill("w.weight", (4, 3))
    entries = [{"name": "w", "data": ms.Tensor(values, ms.bfloat16)}]
    ms.save_checkpoint(entries, str(tmp_path / "a.ckpt"))
    file = read_weights(tmp_path / "a.ckpt")
    np.testing.assert_array_equal(file.tensors["w"], bfloat16(values))
    unverified = "not verified, as the file has no checksum"
    assert file.notes == ("1 tensor cast from bfloat16 to float32", unverified)


def test_arrays_of_other_orders_are_read(tmp_path):
    values = fill("w.weight", (4, 3))
    swapped = values.astype(">f4")
    np.savez_compressed(tmp_path / "a.npz", swapped=swapped, fortran=np.asfortranarray(values))
    file = read_weights(tmp_path / "a.npz")
    for name in ("swapped", "fortran"):
        np.testing.assert_array_equal(file.tensors[name], values)
        assert file.tensors[name].dtype == np.float32


PAGE = b"\n <!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"


@pytest.mark.parametrize(
    "content, said",
    [
        (PAGE, "a web page"),
        (b"<html>", "a web page"),
        (b"<?xml version='1.0'?><Error>", "a web page"),
        (b"\0" * 4096, "no known format"),
        (b"PK\x03\x04" * 9, "a zip archive, cut off or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"\x1f\x8b\x08" + b"\0" * 40, "gzip"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\x01\0", "one numpy array"),
        (b"\x80\x02}q\x00.", "a Python pickle"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "damaged or cut off"),
        (b"\n\x05hello", "no MindSpore checkpoint"),
        (b"\x10\0\0\0\0\0\0\0{" + b" " * 40, "cut off or damaged"),
        (b'{"error": "not found"}', "no known format"),
        (b"", "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["a.ckpt", "a.pth"])
def test_what_is_no_weight_file_is_told_by_its_content(tmp_path, content, said, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=said) as caught:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_zip_of_other_things_names_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(WeightsError, match="no weights: photo.jpg"):
        read_weights(tmp_path / "a.zip")


def test_writing_refuses_what_it_cannot_do_and_keeps_the_old_file(tmp_path):
    weights = golden_weights()
    path = tmp_path / "a.safetensors"
    write_weights(path, weights)
    before = path.read_bytes()
    with pytest.raises(WeightsError, match="no name for stages.0.blocks.0.other.weight"):
        write_weights(path, {"stages.0.blocks.0.other.weight": np.ones(1)}, names="timm")
    with pytest.raises(WeightsError, match="cannot be written"):
        write_weights(path, {"w": np.array(["text"])})
    with pytest.raises(WeightsError, match="should end in .ckpt, .safetensors, .npz"):
        write_weights(tmp_path / "a.pth", weights)
    with pytest.raises(WeightsError, match="names of 'keras'"):
        write_weights(path, weights, names="keras")
    with pytest.raises(WeightsError, match="cannot be written"):
        write_weights(tmp_path / "none" / "a.npz", weights)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_torch_files_are_read_without_torch_mindspore_or_pickle():
    code = (
        "import sys; from mindcv.weights import read_weights;"
        f"read_weights({str(GOLDEN / 'zip.pth')!r}); read_weights({str(GOLDEN / 'legacy.pth')!r});"
        "print([m for m in ('torch', 'mindspore') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_safetensors_file_whose_header_length_begins_as_a_checkpoint_is_one(tmp_path):
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"weight": entry, "__metadata__": {"x": ""}})
    header += " " * (266 - len(header))  # 266 = 0x10a: the file begins with a line feed
    path = tmp_path / "a.safetensors"
    path.write_bytes((266).to_bytes(8, "little") + header.encode() + np.float32(3).tobytes())
    assert path.read_bytes()[:1] == b"\n"
    assert read_weights(path).tensors["weight"].tolist() == [3.0]
