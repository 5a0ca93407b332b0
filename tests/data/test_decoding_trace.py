"""If a decoder crashes the process, the names of the images it was decoding remain."""

import io
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindcv.data.failure import DecodingTrace, read_trace

COUNT, BAD = 24, 17
# Two epochs; between them a file is damaged where the check of its ends does not look.
PROGRAM = """
import sys
from pathlib import Path
from mindcv import create_dataset
from mindcv.data import EpochBatches, create_loader, create_transforms

root, decoder = Path(sys.argv[1]), sys.argv[2]
dataset = create_dataset("", str(root), shuffle=False, max_bad_fraction=1.0)

def loader(rows):
    transform = create_transforms("", 16, True, normalize_on_device=True, decoder=decoder)
    return create_loader(rows, 4, is_training=True, transform=transform, num_parallel_workers=2)

batches = EpochBatches(dataset, loader, 4)
batches.trace_decoding(root / ".decoding-0")
list(batches.epoch(0))
(root / "damaged").replace(root / "train/a/17.jpg")
list(batches.epoch(1))
batches.close()
print(len(dataset.source.bad.reasons))
"""


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "train/a"
    folder.mkdir(parents=True)
    for number in range(COUNT):
        file = io.BytesIO()
        pixels = np.full((40, 40, 3), number * 9, np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", comment=bytes(2000))
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
    content = bytearray((folder / f"{BAD}.jpg").read_bytes())
    tables = content.index(b"\xff\xdb")  # behind the first kilobyte
    content[tables:-64] = bytes(len(content) - 64 - tables)  # as a lost sector reads
    (tmp_path / "damaged").write_bytes(content)
    return tmp_path


def test_a_crash_of_the_decoder_leaves_the_names_and_pillow_replaces_the_image(
    warm, root, log_lines
):
    program = root / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    crash = warm.run([program, root, "mindspore"], root)
    assert -crash.code in (signal.SIGFPE, signal.SIGSEGV, signal.SIGABRT), crash.err
    trace = root / ".decoding-0"
    names = read_trace(trace)
    assert str(root / f"train/a/{BAD}.jpg") in names and len(names) <= 2 * COUNT
    DecodingTrace(trace).close()
    told = (root / "decoding-0.txt").read_text(encoding="utf-8")
    assert told.splitlines() == names
    assert any("decoding-0.txt" in line and "--decoder pillow" in line for line in log_lines)
    assert not trace.exists()

    (root / "damaged").write_bytes((root / f"train/a/{BAD}.jpg").read_bytes())
    done = warm.run([program, root, "pillow"], root)
    assert (done.code, done.out) == (0, "1\n"), done.err
    assert not trace.exists()


def test_the_newest_names_are_kept_in_order_and_long_ones_by_their_end(tmp_path):
    trace = DecodingTrace(tmp_path / ".decoding-0")
    names = [f"{'folder/' * 100}{number}\udcff\n.jpg" for number in range(1300)]
    for name in names:
        trace.note(name)
    found = read_trace(trace.path)
    assert len(found) == 512
    assert all(name.endswith(kept) and len(kept) > 200 for name, kept in zip(names[-512:], found))
    trace.close()
    trace.note("a thread at its last image")
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_place_of_a_trace_does_no_harm(tmp_path, log_lines):
    (tmp_path / "victim").write_text("kept", encoding="utf-8")
    path = tmp_path / ".decoding-0"
    path.symlink_to("victim")
    trace = DecodingTrace(path)
    trace.note("image")
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "kept"
    assert any("symbolic link" in line for line in log_lines)
    path.unlink()
    draw = random.Random(0)
    for _ in range(200):
        path.write_bytes(draw.randbytes(draw.randrange(2000)))
        read_trace(path)
    path.write_bytes(b"7 =\x1b[2J" + bytes(250) + b"x y")
    assert read_trace(path) == ["=\x1b[2J"]
    DecodingTrace(path)
    assert (tmp_path / "decoding-0.txt").read_text(encoding="utf-8") == "=\\x1b[2J\n"
