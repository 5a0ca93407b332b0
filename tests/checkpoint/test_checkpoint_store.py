"""Checkpoints are complete and verified, in order, and pruned. No mindspore."""

import io
import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from checkpoints import ARRAYS, save
from conftest import ROOT

from mindcv.checkpoint import (
    STATE,
    BackgroundWriter,
    CheckpointStore,
    FolderLock,
    Kept,
    Position,
    read_manifest,
    superfluous,
)
from mindcv.errors import ConfigError, WeightsError
from mindcv.weights import ckpt, read_weights
from mindcv.weights.array_files import write_npz


def test_a_checkpoint_is_what_mindspore_reads_and_writes(tmp_path):
    ms = pytest.importorskip("mindspore")
    rng = np.random.default_rng(0)
    kinds = "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 bool"
    arrays = {f"x.{kind}": (50 * rng.random((3, 4))).astype(kind) for kind in kinds.split()}
    arrays |= {"scalar": np.array(3.5, np.float32), "turned": ARRAYS["a.weight"].T}
    arrays |= {"bytes": np.frombuffer("Straße".encode(), np.uint8)}
    with (tmp_path / "a.ckpt").open("wb") as file:
        ckpt.write(file, arrays)
    found = ms.load_checkpoint(str(tmp_path / "a.ckpt"))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        value = found[name].asnumpy()
        assert value.dtype == array.dtype and value.shape == array.shape, name
        np.testing.assert_array_equal(value, array, err_msg=name)


def test_a_tensor_above_the_size_of_a_record_is_read_whole_by_mindspore(tmp_path, monkeypatch):
    ms = pytest.importorskip("mindspore")
    monkeypatch.setattr("mindcv.weights.ckpt._PIECE", 500)
    with (tmp_path / "a.ckpt").open("wb") as file:
        ckpt.write(file, ARRAYS)
    found = ms.load_checkpoint(str(tmp_path / "a.ckpt"))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name].asnumpy(), array)


def test_npz_files_are_numpys_and_equal_for_equal_arrays(tmp_path):
    arrays = ARRAYS | {"scalar": np.array(7, np.int32), "none": np.zeros(0, np.float32)}
    first, second = io.BytesIO(), io.BytesIO()
    write_npz(first, arrays), write_npz(second, arrays)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    with np.load(first, allow_pickle=False) as found:
        assert found.files == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].shape == array.shape


def test_the_store_needs_no_mindspore():
    code = "import sys, mindcv.checkpoint; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_newest_is_found_by_its_place_in_the_run(store):
    for epoch, steps in [(2, 4), (10, 1), (9, 4), (10, 3), (1, 4)]:
        save(store, epoch, steps)
    manifest, problems = store.newest()
    assert manifest.path.name == "net-10_3.json" and not problems
    assert manifest.record["epoch"] == 10
    weights = read_weights(manifest.file(".ckpt")).tensors
    np.testing.assert_array_equal(weights["a.weight"], ARRAYS["a.weight"])
    assert CheckpointStore(store.folder.parent).newest() == (None, [])


def test_an_unevaluated_epoch_comes_before_the_evaluated_one(store):
    names = [Position(3, 4, False), Position(3, 4), Position(3, 3), Position(4, 1)]
    assert sorted(names) == [Position(3, 3), Position(3, 4, False), Position(3, 4), Position(4, 1)]


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_every_flipped_byte_is_found_its_file_named_and_the_previous_one_used(store, count):
    save(store, 1), save(store, 2)
    rng = random.Random(count)
    newest = sorted(store.folder.glob("net-2_*"))
    for turn in range(count):
        path = newest[turn % len(newest)]
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path, intact = path, path.read_bytes()
        path.write_bytes(content)
        manifest, problems = store.newest()
        assert manifest.path.name == "net-1_4.json"
        assert len(problems) == 1 and str(path) in problems[0] and "damaged" in problems[0]
        path.write_bytes(intact)
    assert store.newest()[0].path.name == "net-2_4.json"


def record_boundaries(content: bytes) -> list[int]:
    """Return where the records of a MindSpore checkpoint begin, as `load_checkpoint` reads them."""
    places, at = [], 0
    while at < len(content):
        places.append(at)
        size = shift = 0
        at += 1
        while True:
            size |= (content[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if content[at - 1] < 0x80:
                break
        at += size
    return places


def test_files_cut_at_every_record_boundary_are_found(store):
    save(store, 1)
    manifest = save(store, 2, arrays={f"layer{i}.weight": np.ones(i + 1) for i in range(20)})
    for path in (manifest.file(".ckpt"), manifest.file(STATE), manifest.path):
        content = path.read_bytes()
        is_checkpoint = path.suffix == ".ckpt"
        cuts = record_boundaries(content) if is_checkpoint else range(0, len(content), 7)
        assert len(cuts) >= (20 if is_checkpoint else 5)
        for cut in cuts:
            path.write_bytes(content[:cut])
            chosen, problems = store.newest()
            assert chosen.path.name == "net-1_4.json" and str(path) in problems[0], cut
        path.unlink()
        assert str(path) in store.newest()[1][0]
        path.write_bytes(content)
    assert store.newest()[0] == manifest


def places(kept):
    return [(one.at.epoch, one.at.step) for one in kept]


def test_latest_k_counts_whole_epochs_and_two_within_an_epoch_stay_until_it_is_done():
    whole = [Kept(Position(epoch, 4), False) for epoch in (1, 2, 3)]
    assert places(superfluous(whole, "latest_k", 2)) == [(1, 4)]
    assert not superfluous(whole, None, 2)
    within = [Kept(Position(4, step), True) for step in (1, 2, 3)]
    assert places(superfluous(within + whole, "latest_k", 3)) == [(4, 1)]
    done = Kept(Position(4, 4), False)
    stale = superfluous([*within, done], "latest_k", 3)
    assert sorted(places(stale)) == [(4, 1), (4, 2), (4, 3)]


def test_top_k_keeps_the_best_and_the_newest():
    scores = {1: 10.0, 2: 40.0, 3: 30.0, 4: 20.0}
    kept = [Kept(Position(epoch, 4), False, score) for epoch, score in scores.items()]
    assert places(superfluous(kept, "top_k", 2)) == [(1, 4)]  # the fourth is the worse, but newest
    kept.append(Kept(Position(5, 4), False, 30.0))
    # Of equals the later one stays.
    assert sorted(places(superfluous(kept, "top_k", 2))) == [(1, 4), (3, 4), (4, 4)]


def test_two_runs_in_one_folder_the_second_is_refused_and_told_of_the_first(store):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from mindcv.checkpoint import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); print('locked', flush=True); input()\n"
    )
    words = [sys.executable, "-c", code, str(store.folder), str(ROOT)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first = subprocess.Popen(words, **pipes)
    assert first.stdout.readline() == "locked\n"
    with pytest.raises(ConfigError, match=f"is in use by process {first.pid} on .*, since"):
        FolderLock(store.folder)
    first.kill()
    first.wait()
    FolderLock(store.folder).release()  # a killed process holds nothing


def test_what_goes_wrong_in_the_background_is_raised_at_the_next_call():
    writer = BackgroundWriter()
    done = []
    writer.start(lambda: (time.sleep(0.05), done.append(1)))
    writer.start(lambda: done.append(2))  # waits for the first
    assert done[0] == 1
    writer.wait()
    assert done == [1, 2]

    def fail():
        raise WeightsError("the disk is full")

    writer.start(fail)
    with pytest.raises(WeightsError, match="the disk is full"):
        writer.start(lambda: done.append(3))
    writer.wait()
    assert done == [1, 2]
    writer.check()  # nothing went wrong since
    writer.start(fail)
    with pytest.raises(WeightsError, match="the disk is full"):
        while True:
            writer.check()  # does not wait, but tells as soon as it is known


def test_a_manifest_of_a_later_version_is_not_called_damaged(store):
    manifest = save(store, 1)
    from mindcv.checkpoint import manifest as module

    before = module.FORMAT
    try:
        module.FORMAT = 2
        save(store, 2)
    finally:
        module.FORMAT = before
    with pytest.raises(WeightsError, match="has the format 2; .* update mindcv"):
        read_manifest(store.folder / "net-2_4.json")
    assert json.loads(manifest.path.read_text())["format"] == 1
