"""Weight files made by hand to deceive: archives, arrays and pickles whose figures lie.

Each is refused by name, in little memory; nothing is run, and nothing is written anywhere.
"""

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_weight_safety import Calls, in_dictionary, tensor, text, torch_legacy, torch_zip

from mindcv.errors import WeightsError
from mindcv.weights import read_weights

NUMBERS = np.arange(6, dtype=np.float32)


def refused(path: Path) -> str:
    """Check that the file is refused and the folder stays as it is; return the message."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


# ---- zip archives


def npz(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(header: str | None = None, numbers: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Return an array with a header of one's own choice."""
    if header is None:
        stream = io.BytesIO()
        np.save(stream, NUMBERS)
        return stream.getvalue()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode() + numbers


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Write into each record of an archive that begins with the signature."""
    data, at = bytearray(content), content.find(signature)
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = content.find(signature, at + 4)
    return bytes(data)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ARCHIVE_LIES = {
    "size in the directory": lambda c: patched(c, CENTRAL, 24, b"\xfe\xff\xff\x7f"),
    "size of nothing": lambda c: patched(c, CENTRAL, 24, b"\0\0\0\0"),
    "checksum": lambda c: patched(c, CENTRAL, 16, b"abcd"),
    "encrypted": lambda c: patched(c, CENTRAL, 8, b"\x01\x00"),
    "unknown packing": lambda c: patched(c, CENTRAL, 10, b"\x63\x00"),
    "packed by another method": lambda c: patched(c, CENTRAL, 10, b"\x0c\x00"),
    "place beyond the end": lambda c: patched(c, CENTRAL, 42, b"\xff\xff\xff\x7f"),
    "zip64 without its record": lambda c: patched(c, CENTRAL, 24, b"\xff\xff\xff\xff"),
    "other name in the entry": lambda c: patched(c, LOCAL, 30, b"x"),
    "directory beyond the end": lambda c: patched(c, END, 16, b"\xff\xff\xff\x7f"),
    "directory of 2 GB": lambda c: patched(c, END, 12, b"\xff\xff\xff\x7f"),
    "no directory": lambda c: c[: c.index(CENTRAL)],
}


@pytest.mark.parametrize("lie", ARCHIVE_LIES)
@pytest.mark.parametrize("kind", ["npz", "pth"])
def test_archives_that_lie_about_their_entries_are_refused(tmp_path, kind, lie):
    path = tmp_path / f"weights.{kind}"
    if kind == "npz":
        npz(path, w=npy())
    else:
        torch_zip(path, in_dictionary(tensor(0, (6,), (1,), 6)), {"0": NUMBERS.tobytes()})
    assert read_weights(path).tensors["w"].tolist() == NUMBERS.tolist()
    path.write_bytes(ARCHIVE_LIES[lie](path.read_bytes()))
    refused(path)


def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "twice.npz"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("w.npy", npy())
        archive.writestr("w.npy", npy())
    assert "holds 'w' twice" in refused(path)


def test_entries_that_share_their_bytes_do_not_grow(tmp_path):
    """A hundred entries that all point to one packed megabyte, as in Fifield's zip bomb."""
    path = tmp_path / "bomb.npz"
    big = npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2500000,), }\n", bytes(10_000_000)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", big)
        for number in range(100):
            info = zipfile.ZipInfo(f"b{number}.npy")
            archive.filelist.append(_twin(info, archive.filelist[0]))
            archive.NameToInfo[info.filename] = info
    assert path.stat().st_size < 50_000
    assert "would unfold to" in refused(path)


def _twin(info: zipfile.ZipInfo, first: zipfile.ZipInfo) -> zipfile.ZipInfo:
    info.compress_type, info.CRC = first.compress_type, first.CRC
    info.compress_size, info.file_size = first.compress_size, first.file_size
    info.header_offset = first.header_offset
    return info


@pytest.mark.parametrize(
    "name", ["../canary", "/tmp/canary", "..\\canary", "a/../../canary", "C:x"]
)
def test_names_and_links_of_entries_lead_nowhere(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    link = zipfile.ZipInfo(f"{name}.npy")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    path = inside / "weights.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    refused(path)
    npz(path, **{name: npy()})
    assert list(read_weights(path).tensors) == [name]  # a name, and no more than that
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "weights.npz"]


# ---- arrays of numpy

ARRAY_LIES = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"\x80\x04N."),
    "objects in fields": npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}\n"),
    "fields": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}\n", bytes(4)),
    "subarray": npy("{'descr': ('<f4', (9999999,)), 'fortran_order': False, 'shape': (1,)}\n"),
    "text": npy("{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}\n", bytes(36)),
    "elements of 2 GB": npy("{'descr': '|V2147483647', 'fortran_order': False, 'shape': (1,)}\n"),
    "complex": npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "times": npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
    "type of no kind": npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}\n", bytes(3)),
    "larger": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (7,)}\n", bytes(24)),
    "smaller": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}\n", bytes(24)),
    "terabytes": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,)}\n", bytes(24)),
    "4 TB": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}\n", bytes(24)),
    "overflow to 0": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}\n"
    ),
    "overflow to 24": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4611686018427387905)}\n", bytes(24)
    ),
    "negative": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}\n", bytes(24)),
    "twice negative": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}\n", bytes(24)
    ),
    "fractions": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6.0,)}\n", bytes(24)),
    "hundred axes": npy(
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 100}}}\n", bytes(4)
    ),
    "huge number": npy(
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000},)}}\n", bytes(24)
    ),
    "header that calls": npy("__import__('os').system('touch canary')\n"),
    "header that calls within": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (open('canary', 'w'),)}\n"
    ),
    "header of another kind": npy("[1, 2]\n"),
    "header without a key": npy("{'descr': '<f4', 'shape': (6,)}\n", bytes(24)),
    "deep header": npy("(" * 9000),
    "deep minus": npy("-" * 9000 + "1"),
    "long header": npy(" " * 20_000 + "\n", version=b"\x02\x00"),
    "header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "pickle for a header": npy(pickle.dumps("x", 0).decode()),
    "version of the future": npy("{}\n", version=b"\x09\x00"),
    "no array": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", ARRAY_LIES)
def test_arrays_that_lie_about_themselves_are_refused(tmp_path, monkeypatch, lie):
    monkeypatch.chdir(tmp_path)
    refused(npz(tmp_path / "weights.npz", w=ARRAY_LIES[lie]))
    assert os.listdir(tmp_path) == ["weights.npz"]


# ---- pickles


def test_a_pickle_in_a_storage_is_numbers(tmp_path):
    canary = tmp_path / "canary"
    attack = pickle.dumps(Calls(os.system, f"touch {canary}"), 4)
    attack += bytes(-len(attack) % 4)
    size = len(attack) // 4
    content = in_dictionary(tensor(0, (size,), (1,), size))
    found = read_weights(torch_zip(tmp_path / "a.pth", content, {"0": attack})).tensors["w"]
    assert found.tobytes() == attack and not canary.exists()


PICKLE_LIES = {
    "far places of the memo": (b"\x80\x02" + b"]r\xff\xff\xff\xff" * 1000 + b"}.", "no tensors"),
    "memo never filled": (b"\x80\x02j\xff\xff\xff\xff.", "damaged"),
    "memo by text": (b"\x80\x02}p99999999999\n.", "instruction PUT"),
    "marks without end": (b"\x80\x02" + b"(" * 30_000 + b".", "damaged"),
    "tuples within each other": (b"\x80\x02)" + b"\x85" * 30_000 + b".", "holds a tuple"),
    "text of 4 GB": (b"\x80\x02X\xff\xff\xff\xffabc.", "damaged"),
    "text of 2**63 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"abc.", "damaged"),
    "bytes of 2**62 bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.", "damaged"),
    "number of 2 GB": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "damaged"),
    "number of 5000 digits": (b"\x80\x02I" + b"9" * 5000 + b"\n.", "damaged"),
    "frame of 2**63 bytes": (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"}.", "no tensors"),
    "no end": (b"\x80\x02}", "damaged"),
    "end at once": (b".", "damaged"),
    "protocol of the future": (b"\x80\xff}.", ""),
    "extension": (b"\x80\x02\x83\x01\x00.", "instruction EXT2"),
    "text that is no text": (b"\x80\x02X\x02\x00\x00\x00\xff\xff.", "damaged"),
    "pop of nothing": (b"\x80\x020.", "instruction POP"),
    "twice the top": (b"\x80\x02}2.", "instruction DUP"),
    "reduce of nothing": (b"\x80\x02R.", "damaged"),
    "state of a list": (b"\x80\x02]}b.", "sets the state of a list"),
    "key that is a list": (b"\x80\x02}]Ns.", "has a list as a key"),
    "storage by index": (b"\x80\x02K\x01Q.", "no storage"),
    "name with a line": (b"\x80\x04" + text("os\nsystem") + text("x") + b"\x93.", "names"),
    "name of a part": (b"\x80\x04" + text("torch") + text("Tensor.__init__") + b"\x93.", "names"),
    "builtin getattr": (b"\x80\x04" + text("builtins") + text("getattr") + b"\x93.", "getattr"),
}


@pytest.mark.parametrize("lie", PICKLE_LIES)
def test_pickles_that_lie_are_refused(tmp_path, lie):
    content, told = PICKLE_LIES[lie]
    assert told in refused(torch_zip(tmp_path / "a.pth", content))
    refused(torch_legacy(tmp_path / "b.pth", content))


def record(tensor: bytes, name: bytes = b"a") -> bytes:
    """Return a record of a MindSpore checkpoint."""
    entry = b"\x0a" + bytes([len(name)]) + name + b"\x12" + varint(len(tensor)) + tensor
    return b"\x0a" + varint(len(entry)) + entry


def varint(value: int) -> bytes:
    groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


EMPTY = b"\x08\x00\x12\x04Int8\x1a\x00"
MANY = 51_000  # somewhat more than a file may hold


def crowded_zip() -> bytes:
    """Return an archive whose list names one array over and over."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", npy())
    content = stream.getvalue()
    start, end = content.index(CENTRAL), content.index(END)
    entries = content[start:end] * (7 * MANY)
    last = bytearray(content[end:])
    last[12:16] = len(entries).to_bytes(4, "little")
    return content[:start] + entries + bytes(last)


def crowded_header(count: int) -> bytes:
    entry = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = f"{{{','.join(entry.format(number) for number in range(count))}}}".encode()
    return len(header).to_bytes(8, "little") + header


def header_of(shape: list, **metadata: str) -> bytes:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": metadata, "w": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def crowded_record() -> bytes:
    fields = b"".join(
        bytes([0x80 | a, 0x80 | b, c, 1])
        for c in range(1, 5)
        for b in range(128)
        for a in range(128)
    )
    return b"\x0a" + varint(len(fields)) + fields


# Files of a few megabytes whose every few bytes want an object of their own.
CROWDS = {
    "tensors.ckpt": lambda: b"".join(record(EMPTY, b"%d" % number) for number in range(MANY)),
    "pieces.ckpt": lambda: record(EMPTY) * MANY,
    "axes.ckpt": lambda: record(b"\x0a" + varint(20 * MANY) + b"\x01" * 20 * MANY),
    "fields.ckpt": crowded_record,
    "header.safetensors": lambda: crowded_header(2 * MANY),
    "entries.npz": crowded_zip,
}


def copies_over_and_over() -> bytes:
    """Return a pickle that keeps a thousand copies of a dictionary of 10,000 entries."""
    names = b"".join(text(str(number)) + b"N" for number in range(10_000))
    copy = b"ccollections\nOrderedDict\nh\x01\x85R"
    return b"\x80\x02}(" + names + b"uq\x01](" + copy * 1000 + b"e."


@pytest.mark.parametrize(
    "content",
    [
        header_of([1] * 200),
        header_of([1], **{"mindcv.metadata": "[" * 60_000}),
        header_of([1], **{"mindcv.metadata": '{"a":' * 60_000}),
        (60_000).to_bytes(8, "little") + b'{"a":' * 12_000,
        record(b"\x08\x01" * 200 + b"\x12\x04Int8\x1a\x01x"),
        record(varint(8) + varint(60_000) + b"\x12\x05UInt8\x1a" + varint(60_000) + b"[" * 60_000,
               b"mindcv.metadata"),
    ],
    ids=["axes", "deep list", "deep mapping", "deep header", "axes of a record", "deep entry"],
)  # fmt: skip
def test_depth_and_axes_beyond_all_reason_are_refused(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(content)
    refused(path)


MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from mindcv.errors import WeightsError
from mindcv.weights import read_weights
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        read_weights(path)
    except WeightsError as error:
        print(str(error).replace(path, ""), file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, "MiB more")
"""


def test_lies_do_not_fill_the_memory(tmp_path):
    paths = []
    for number, content in enumerate(ARRAY_LIES.values()):
        paths.append(npz(tmp_path / f"{number}.npz", w=content))
    for number, (content, _) in enumerate(PICKLE_LIES.values()):
        paths.append(torch_zip(tmp_path / f"{number}.pth", content))
    paths.append(torch_zip(tmp_path / "copies.pth", copies_over_and_over()))
    for name, content in CROWDS.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content())
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(ROOT), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 100, done.stdout
    for reason, count in (
        ("copies its dictionaries over and over", 1),
        ("holds more than 50000 tensors", 2),
        ("of more than 32 axes", 1),
        ("field 2048 in a record", 1),
        ("has a header of", 1),
        ("its list of entries has", 1),
    ):
        assert done.stderr.count(reason) == count, reason
