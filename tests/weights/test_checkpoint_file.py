"""MindSpore checkpoints are read as MindSpore reads them, and damaged ones are refused."""

import random

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import serialization
from weight_files import rewrite

from mindcv.errors import WeightsError
from mindcv.weights import Metadata, ckpt, read_weights, write_weights

TYPES = (
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "float32",
)


def save(path, entries: dict, **options) -> str:
    ms.save_checkpoint([{"name": k, "data": v} for k, v in entries.items()], str(path), **options)
    return str(path)


def test_every_type_and_shape_is_read_as_mindspore_reads_it(tmp_path):
    rng = np.random.default_rng(0)
    entries = {name: ms.Tensor(rng.integers(0, 9, (3, 4)).astype(name)) for name in TYPES}
    entries |= {
        "half": ms.Tensor(rng.normal(size=(2, 3)), ms.float16),
        "double": ms.Tensor(rng.normal(size=(2, 3)), ms.float64),
        "brain": ms.Tensor(rng.normal(size=(5,)), ms.bfloat16),
        "scalar": ms.Tensor(3.5, ms.float32),
        "one": ms.Tensor([2.5], ms.float32),
        "größe": ms.Tensor(np.ones((1, 1, 1, 1), np.float32)),
    }
    path = save(tmp_path / "a.ckpt", entries)
    theirs, ours = ms.load_checkpoint(path), read_weights(path).tensors
    assert list(ours) == list(theirs) == list(entries)
    for name, tensor in theirs.items():
        assert ours[name].shape == tuple(tensor.shape), name
        expected = tensor.astype(ms.float32) if "Float" in str(tensor.dtype) else tensor
        assert np.array_equal(ours[name], expected.asnumpy()), name


def test_a_tensor_in_pieces_is_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "SLICE_SIZE", 1)  # KiB
    values = np.arange(3000, dtype=np.float32).reshape(30, 100)
    path = save(tmp_path / "a.ckpt", {"a": ms.Tensor(values), "b": ms.Tensor(values[0])})
    assert (tmp_path / "a.ckpt").read_bytes().count(b"Float32") > 10
    found = read_weights(path).tensors
    assert np.array_equal(found["a"], values) and np.array_equal(found["b"], values[0])


def test_mindspores_checksum_is_verified(tmp_path):
    path = save(tmp_path / "a.ckpt", {"a": ms.Tensor([1.0, 2.0], ms.float32)}, crc_check=True)
    assert read_weights(path).tensors["a"].tolist() == [1, 2]
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    content[content.index(b"Float32") + 10] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(WeightsError, match="its checksum is not that of its content"):
        read_weights(path)


def test_every_flipped_bit_is_found_by_the_file_alone(tmp_path):
    path, whole_file = tmp_path / "a.ckpt", tmp_path / "whole.ckpt"
    write_weights(whole_file, {"a": np.ones(2, np.float32)}, Metadata("net", 5))
    assert read_weights(whole_file).notes == ()
    ms.load_checkpoint(str(whole_file), crc_check=True)  # MindSpore verifies it, too
    whole = whole_file.read_bytes()
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        rewrite(path, content)
        with pytest.raises(WeightsError, match="a.ckpt"):
            read_weights(path)


def test_a_checkpoint_without_checksum_is_read_and_told_to_be_unverified(tmp_path):
    path = tmp_path / "a.ckpt"
    write_weights(path, {"a": np.ones(2, np.float32)})
    path.write_bytes(path.read_bytes()[:-17])  # as older versions wrote it
    assert read_weights(path).notes == ("not verified, as the file has no checksum",)


def test_text_and_figures_beside_the_weights_are_no_obstacle(tmp_path):
    beside = {"epoch_num": 3, "lr": 0.5, "done": True, "note": "trained at night"}
    path = tmp_path / "a.ckpt"
    ms.save_checkpoint(nn.Dense(2, 1), str(path), append_dict=beside)
    assert ms.load_checkpoint(str(path))["note"] == "trained at night"
    found = read_weights(path).tensors
    assert set(found) == {"weight", "bias", "epoch_num", "lr", "done"}
    assert found["epoch_num"] == 3 and found["lr"] == 0.5


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3]) + varint(content)
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def record(dims=(2,), kind=b"Float32", numbers=bytes(8), name=b"a") -> bytes:
    shape = b"".join(field(1, size) for size in dims)
    tensor = shape + field(2, kind) + field(3, numbers)
    return field(1, field(1, name) + field(2, tensor))


LIES = {
    "larger shape": (record((2**20,)), "'a' of shape (1048576,) has 8 bytes, 4194304 expected"),
    "smaller shape": (record((1,)), "8 bytes, 4 expected"),
    "overflow to 8": (record((2, 2**62 + 1)), "8 bytes"),
    "negative": (record((2**64 - 2,)), "8 bytes"),
    "empty, but for its name": (record((2,), numbers=b""), "0 bytes, 8 expected"),
    "scalar of two": (record((0,)), "shape () has 8 bytes, 4 expected"),
    "many axes": (record((1,) * 33, numbers=bytes(4)), "more than 32 axes"),
    "unknown type": (record(kind=b"Float128"), "unknown type 'Float128'"),
    "type of another length": (record(kind=b"Int8"), "8 bytes, 2 expected"),
    "name that is no text": (record(name=b"\xff"), "decode"),
    "pieces of two types": (record() + record(kind=b"Int32"), "'a' twice"),
    "twice": (record() + record(name=b"b") + record(), "'a' twice"),
    "record without tensor": (field(1, field(1, b"a")), "without name or tensor"),
    "number for a tensor": (field(1, field(1, b"a") + field(2, 5)), "without name or tensor"),
    "number for a record": (field(1, b"\n\x01a") + field(1, 7), "without name or tensor"),
    "hash table": (field(1, field(1, b"a") + field(3, b"")), "hash table"),
    "field of no kind": (record() + b"\x0b", "cut off"),
    "field of another version": (record() + field(7, b""), "field 7"),
    "endless number": (b"\n" + b"\xff" * 20, "more than 64 bits"),
    "length of 2**60": (b"\n" + varint(2**60) + b"abc", "cut off"),
    "cut": (record()[:-3], "cut off"),
}


@pytest.mark.parametrize("lie", LIES)
def test_records_that_lie_are_refused(tmp_path, lie):
    content, told = LIES[lie]
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value) and told in str(caught.value)


@pytest.mark.parametrize("rounds", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_checkpoints_are_read_or_refused(tmp_path, rounds):
    path = tmp_path / "a.ckpt"
    arrays = {"a": np.ones((3, 4), np.float32), "b": np.ones(5, np.float16), "s": np.int32(3)}
    with path.open("wb") as stream:
        ckpt.write(stream, arrays)
    # Without the checksum, which would refuse all.
    whole, outcomes = path.read_bytes()[:-17], {"read": 0, "refused": 0}
    for seed in range(rounds):
        rewrite(path, damaged(whole, random.Random(seed)))
        try:
            found = read_weights(path).tensors
            outcomes["read"] += 1
            assert sum(array.nbytes for array in found.values()) <= 4 * len(whole)
        except WeightsError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
    print(outcomes)
    assert outcomes["refused"] > rounds / 2 and outcomes["read"] > rounds / 20


def damaged(content: bytes, generator: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4))):
        at = generator.randrange(len(data))
        kind = generator.randrange(5)
        if kind == 0:
            data[at] = generator.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            data[at : at + 8] = generator.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
        elif kind == 3:
            del data[at : at + generator.randrange(1, 20)]
        else:
            data[at:at] = data[at : at + 20]
        if not data:
            break
    return bytes(data) or b"\n"
