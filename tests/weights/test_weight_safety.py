"""Weight files that want to run something, or to fill the memory: refused, and nothing happens."""

import argparse
import builtins
import functools
import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mindcv.errors import WeightsError
from mindcv.weights import array_files, pickle_reader, read_weights
from mindcv.weights.torch_file import LEGACY_START

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"


def torch_zip(path: Path, content: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Write an archive as torch does, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, numbers in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", numbers)
    return path


def torch_legacy(path: Path, content: bytes, storages: bytes = b"") -> Path:
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    start = LEGACY_START + pickle.dumps(1001, 2) + pickle.dumps(machine, 2)
    path.write_bytes(start + content + pickle.dumps([], 2) + storages)
    return path


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


class Calls:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class WithState(Calls):
    """Pickles to a call whose result then takes a state."""

    def __reduce__(self):
        return (*self.call, {"state": 1})


class Thing:
    pass


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def attacks(canary: str) -> dict[str, tuple[bytes, str]]:
    """Return pickles that would create the canary, and what the refusal has to name."""
    command = f"touch {canary}"
    thing = Thing()
    thing.path = canary
    nested = Calls(functools.partial, Calls(getattr, builtins, "eval"), "1")
    return {
        "system": (pickle.dumps({"a": Calls(os.system, command)}, 2), f"{os.name}.system"),
        "system-protocol-4": (pickle.dumps(Calls(os.system, command), 4), f"{os.name}.system"),
        "eval": (pickle.dumps(Calls(eval, f"open({canary!r}, 'w')"), 2), "__builtin__.eval"),
        "eval-protocol-4": (pickle.dumps(Calls(eval, f"open({canary!r}, 'w')"), 4), "eval"),
        "open": (pickle.dumps(Calls(open, canary, "w"), 2), "open"),
        "popen": (pickle.dumps(Calls(subprocess.Popen, command, -1), 4), "subprocess.Popen"),
        "getattr": (
            b"\x80\x02c__builtin__\ngetattr\nc__builtin__\n__import__\n" + text("x") + b"\x86R.",
            "getattr",
        ),
        "partial": (pickle.dumps(nested.call[0], 2), "functools.partial"),
        "import": (b"\x80\x02c__builtin__\n__import__\n" + text("os") + b"\x85R.", "__import__"),
        "dotted": (b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.", ""),
        "module-of-known": (b"\x80\x02ccollections\nabc.os.system\n.", "collections.abc"),
        "inst": (b"(S'" + command.encode() + b"'\nios\nsystem\n.", "instruction STRING"),
        "inst-binary": (b"\x80\x02(" + text(command) + b"ios\nsystem\n.", "instruction INST"),
        "obj": (b"\x80\x02(ccollections\nOrderedDict\no.", "instruction OBJ"),
        "extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
        "extension-4": (b"\x80\x02\x84\x01\x00\x00\x00.", "instruction EXT4"),
        "object": (pickle.dumps(thing, 2), "Thing"),
        "object-protocol-0": (pickle.dumps(thing, 0), "copy_reg._reconstructor"),
        "newobj-of-function": (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
            "_rebuild_tensor_v2",
        ),
        "newobj-ex": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "instruction NEWOBJ_EX"),
        "state-of-name": (b"\x80\x02ccollections\nOrderedDict\n}b.", "OrderedDict"),
        "call-of-value": (b"\x80\x02" + text("os.system") + text(command) + b"\x85R.", "a str"),
        "computed-name": (b"\x80\x04}" + text("system") + b"\x93.", "computes a name"),
        "persistent-text": (b"\x80\x02Pstorage\n.", "instruction PERSID"),
        "persistent-module": (
            b"\x80\x02(" + text("module") + text("x") + text("y") + text("z") + b"tQ.",
            "no storage",
        ),
        "persistent-of-class": (
            b"\x80\x02(" + text("storage") + b"ccollections\nOrderedDict\n"
            b"" + text("0") + text("cpu") + b"K\x01tQ.",
            "collections.OrderedDict",
        ),
        "buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
        "huge-bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "damaged"),
        "whole-network": (b"\x80\x02ctorchvision.models.regnet\nRegNet\n)\x81.", "RegNet"),
        "numpy-function": (b"\x80\x02cnumpy.f2py\nget_include\n)R.", "numpy.f2py.get_include"),
        "runstring": (b"\x80\x02cnumpy.testing\nrunstring\n)R.", "numpy.testing.runstring"),
        "rebuild-of-rebuild": (
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nSize\nctorch\nTensor\n))tR.",
            "torch.Size",
        ),
        "ordered-dict-state": (
            pickle.dumps(WithState(os.system, command), 2),
            f"{os.name}.system",
        ),
    }


@pytest.mark.parametrize("name", attacks("x"))
def test_a_pickle_that_runs_something_is_refused_by_name_and_nothing_runs(tmp_path, name):
    canary = tmp_path / "canary"
    content, named = attacks(str(canary))[name]
    for write in (torch_zip, torch_legacy):
        message = refused(write(tmp_path / "weights.pth", content))
        assert named in message
        assert not canary.exists()


def test_the_attacks_are_real(tmp_path):
    """Python's own reader runs them; the test above would prove nothing otherwise."""
    for name in ("system", "eval", "inst-binary", "open"):
        canary = tmp_path / name
        pickle.loads(attacks(str(canary))[name][0])
        assert canary.exists()


def test_pickles_in_other_clothes_are_not_run(tmp_path):
    canary = tmp_path / "canary"
    attack = pickle.dumps(Calls(os.system, f"touch {canary}"), 4)
    (tmp_path / "plain.pth").write_bytes(attack)
    assert "a Python pickle that torch.save did not write" in refused(tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        array = io.BytesIO()
        np.save(array, np.array([Calls(os.system, f"touch {canary}")], object), allow_pickle=True)
        archive.writestr("weight.npy", array.getvalue())
    message = refused(tmp_path / "a.npz")
    assert "'weight.npy'" in message and "object" in message
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for entry in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"net/{entry}", attack)
    assert "TorchScript" in refused(tmp_path / "script.pt")
    assert not canary.exists()


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.pth", "w") as archive:
        archive.writestr("../../evil/data.pkl", pickle.dumps({}, 2))
        archive.writestr("../canary", b"x")
    assert "holds no tensors" in refused(inside / "a.pth")
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "a.pth"]


def tensor(offset: int, shape: tuple, strides: tuple, size: int, key: str = "0") -> bytes:
    """Return the instructions that describe one tensor."""

    def numbers(values):
        return b"(" + b"".join(pickle.dumps(v, 2)[2:-1] for v in values) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage + pickle.dumps(size, 2)[2:-1] + b"tQ")
        + pickle.dumps(offset, 2)[2:-1]
        + (numbers(shape) + numbers(strides) + b"\x89}tR")
    )


def in_dictionary(value: bytes) -> bytes:
    return b"\x80\x02}" + text("w") + value + b"s."


def test_a_tensor_inside_its_storage_is_read(tmp_path):
    numbers = np.arange(6, dtype=np.float32)
    content = in_dictionary(tensor(1, (2, 2), (1, 3), 6))
    path = torch_zip(tmp_path / "a.pth", content, {"0": numbers.tobytes()})
    assert read_weights(path).tensors["w"].tolist() == [[1, 4], [2, 5]]


@pytest.mark.parametrize(
    "shape_of_lie",
    [
        (3, (2, 2), (1, 3), 6),
        (0, (7,), (1,), 6),
        (0, (2**40,), (0,), 6),
        (0, (2**40, 2**40), (1, 1), 6),
        (2**61, (1,), (1,), 6),
        (-1, (2,), (1,), 6),
        (5, (2,), (-1,), 6),
        (0, (0, 2**50), (1, 1), 6),
        (0, (6,), (1,), 2**40),
        (0, (6,), (1, 1), 6),
        (0, (1,) * 9, (1,) * 9, 6),
        (0, (6,), (1,), 5),
    ],
    ids=str,
)
def test_a_tensor_outside_its_storage_is_an_error(tmp_path, shape_of_lie):
    content = in_dictionary(tensor(*shape_of_lie))
    refused(torch_zip(tmp_path / "a.pth", content, {"0": b"\0" * 24}))


def test_storage_keys_cannot_leave_the_archive(tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 24)
    content = in_dictionary(tensor(0, (6,), (1,), 6, key="../../secret"))
    assert "no entry data/../../secret" in refused(torch_zip(tmp_path / "a.pth", content))


def test_small_files_that_grow_are_refused(tmp_path, monkeypatch):
    laughs = b"\x80\x02]q\x00" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)
    )
    last = b"h\x3c"
    content = laughs + b"}" + text("w") + last + b"s."
    assert "too many or too deep" in refused(torch_zip(tmp_path / "laughs.pth", content))
    itself = b"\x80\x02}q\x00" + text("w") + b"h\x00s."
    assert "too deep" in refused(torch_zip(tmp_path / "itself.pth", itself))
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(h\x01K\x00M\xe8\x03\x85K\x01\x85\x89}tR"
    for count, allowed in ((20, True), (3000, False)):
        views = b"".join(text(str(i)) + view for i in range(count))
        content = b"\x80\x02" + storage + b"M\xe8\x03tQq\x01}(" + views + b"u."
        path = torch_zip(tmp_path / "views.pth", content, {"0": b"\0" * 4000})
        if allowed:
            assert len(read_weights(path).tensors) == count
        else:
            assert "far larger than the file" in refused(path)
    long_key = b"\x80\x02}" + text("k" * 2000) + b"}" + text("w") + b"]ss."
    assert "too many" in refused(torch_zip(tmp_path / "key.pth", long_key))
    monkeypatch.setattr(pickle_reader, "_MOST_INSTRUCTIONS", 1000)
    program = b"\x80\x02" + b"]" * 1001 + b"."
    assert "over 1000 instructions" in refused(torch_zip(tmp_path / "long.pth", program))


def test_archives_that_unfold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "_UNFOLDED_FLOOR", 2**20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        array = io.BytesIO()
        np.save(array, np.zeros(2**22, np.float32))
        archive.writestr("weight.npy", array.getvalue())
    assert "would unfold to" in refused(path)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", b"\0" * 2**20)
    assert "compressed" in refused(path)


def test_what_training_scripts_keep_beside_the_weights_is_skipped_not_built(tmp_path):
    beside = {"args": argparse.Namespace(lr=0.1), "loss": np.float64(2.5), "epoch": 3}
    content = pickle.dumps(beside, 2)[:-1] + text("w") + tensor(0, (1,), (1,), 1) + b"s."
    path = torch_zip(tmp_path / "a.pth", content, {"0": struct.pack("<f", 1.5)})
    assert {k: v.tolist() for k, v in read_weights(path).tensors.items()} == {"w": [1.5]}
    beside["args"].thing = Thing()
    content = pickle.dumps(beside, 2)
    assert "Thing" in refused(torch_zip(tmp_path / "b.pth", content))
