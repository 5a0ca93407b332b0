"""Checkpoints are complete and verified, or not there: kills, damage, full disks. No mindspore."""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from mindcv.checkpoint import (
    STATE,
    BackgroundWriter,
    CheckpointStore,
    FolderLock,
    Kept,
    Place,
    read_manifest,
    superfluous,
    write_checkpoint,
    write_npz,
)
from mindcv.errors import ConfigError, WeightsError
from mindcv.weights import read_weights

ARRAYS = {
    "a.weight": np.arange(600, dtype=np.float32).reshape(20, 30),
    "a.bias": np.arange(3, dtype=np.float32),
}


def save(store: CheckpointStore, epoch: int, steps: int = 4, arrays=ARRAYS, **record):
    """Save a checkpoint as a run does, with less in it."""
    name = Place(epoch, steps).name("net")
    writers = {
        f"{name}.ckpt": partial(write_checkpoint, tensors=arrays),
        f"{name}{STATE}": partial(write_npz, arrays={"step": np.int32(epoch)}),
    }
    record = {"epoch": epoch, "is_midway": False, "score": None} | record
    return store.save(name, writers, record)


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    folder = tmp_path / "run"
    folder.mkdir()
    return CheckpointStore(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_checkpoint_is_what_mindspore_reads_and_writes(tmp_path):
    ms = pytest.importorskip("mindspore")
    rng = np.random.default_rng(0)
    kinds = "int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 bool"
    arrays = {f"x.{kind}": (50 * rng.random((3, 4))).astype(kind) for kind in kinds.split()}
    arrays |= {"scalar": np.array(3.5, np.float32), "turned": ARRAYS["a.weight"].T}
    arrays |= {"bytes": np.frombuffer("Straße".encode(), np.uint8)}
    with (tmp_path / "a.ckpt").open("wb") as file:
        write_checkpoint(file, arrays)
    found = ms.load_checkpoint(str(tmp_path / "a.ckpt"))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        value = found[name].asnumpy()
        assert value.dtype == array.dtype and value.shape == array.shape, name
        np.testing.assert_array_equal(value, array, err_msg=name)


def test_a_tensor_above_the_size_of_a_record_is_read_whole_by_mindspore(tmp_path, monkeypatch):
    ms = pytest.importorskip("mindspore")
    monkeypatch.setattr("mindcv.checkpoint.tensor_files._PIECE", 500)
    with (tmp_path / "a.ckpt").open("wb") as file:
        write_checkpoint(file, ARRAYS)
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
    names = [Place(3, 4, False), Place(3, 4), Place(3, 3), Place(4, 1)]
    assert sorted(names) == [Place(3, 3), Place(3, 4, False), Place(3, 4), Place(4, 1)]


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
    return [(one.place.epoch, one.place.steps) for one in kept]


def test_latest_k_counts_whole_epochs_and_two_within_an_epoch_stay_until_it_is_done():
    whole = [Kept(Place(epoch, 4), False) for epoch in (1, 2, 3)]
    assert places(superfluous(whole, "latest_k", 2)) == [(1, 4)]
    within = [Kept(Place(4, step), True) for step in (1, 2, 3)]
    assert places(superfluous(within + whole, "latest_k", 3)) == [(4, 1)]
    done = Kept(Place(4, 4), False)
    stale = superfluous([*within, done], "latest_k", 3)
    assert sorted(places(stale)) == [(4, 1), (4, 2), (4, 3)]


def test_top_k_keeps_the_best_and_the_newest():
    scores = {1: 10.0, 2: 40.0, 3: 30.0, 4: 20.0}
    kept = [Kept(Place(epoch, 4), False, score) for epoch, score in scores.items()]
    assert places(superfluous(kept, "top_k", 2)) == [(1, 4)]  # the fourth is the worse, but newest
    kept.append(Kept(Place(5, 4), False, 30.0))
    # Of equals the later one stays.
    assert sorted(places(superfluous(kept, "top_k", 2))) == [(1, 4), (3, 4), (4, 4)]


def test_pruning_removes_the_seal_first_and_can_be_killed_anywhere(store, monkeypatch):
    save(store, 1), save(store, 2)
    whole = files(store.folder)
    steps = 0
    while True:
        shutil.rmtree(store.folder)
        store.folder.mkdir()
        for name, content in whole.items():
            (store.folder / name).write_bytes(content)
        with killed_after(steps, monkeypatch):
            store.remove("net-1_4")
            break
        # No checkpoint is half there, and the next start clears up.
        manifest, problems = store.newest()
        assert manifest.path.name == "net-2_4.json" and not problems
        assert [name for name in store.names() if name != "net-2_4"] in ([], ["net-1_4"])
        store.recover()
        left = {name for name in files(store.folder) if "-1_4" in name}
        assert left in (set(), {name for name in whole if "-1_4" in name}), steps
        steps += 1
    assert steps >= 4 and {name for name in files(store.folder)} == {
        n for n in whole if "-2_4" in n
    }


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is cleared up after it."""


@contextlib.contextmanager
def killed_after(steps: int, monkeypatch):
    """End the body with `Killed` at the system call that follows so many of them."""
    left = [steps]

    def counted(call):
        def counting(*args, **named):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return call(*args, **named)

        return counting

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        for owner, name in [(Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (os, "replace")]:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        patch.setattr(os, "fsync", counted(os.fsync))
        # A killed process removes nothing.
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        yield


def test_a_save_that_dies_at_any_system_call_is_completed_or_cleared_away(store, monkeypatch):
    save(store, 1)
    whole = files(store.folder)
    outcomes, steps = [], 0
    while True:
        shutil.rmtree(store.folder)
        store.folder.mkdir()
        for name, content in whole.items():
            (store.folder / name).write_bytes(content)
        with killed_after(steps, monkeypatch):
            save(store, 2)
            break
        manifest, problems = store.newest()
        assert not problems or store.recover()  # a state without manifest is a damage until then
        lines = store.recover()
        manifest, problems = store.newest()
        assert not problems
        outcomes.append(manifest.path.stem)
        left = {name for name in files(store.folder)} - set(whole)
        assert bool(left) == (manifest.path.stem == "net-2_4"), (steps, left, lines)
        assert not list(store.folder.glob(".saving-*"))
        steps += 1
    # First it is dropped, and from the manifest on completed.
    assert outcomes == sorted(outcomes) and set(outcomes) == {"net-1_4", "net-2_4"} and steps > 8


def test_a_best_file_replaced_half_is_completed(store, monkeypatch):
    def write(value):
        tensors = {"w": np.full(4, value, np.float32)}
        writers = {"net_best.ckpt": partial(write_checkpoint, tensors=tensors)}
        store.save("net_best", writers, {"score": float(value)})

    write(1.0)
    for steps in range(30):
        with killed_after(steps, monkeypatch):
            write(steps + 2.0)
        store.recover()
        manifest = store.verify("net_best")
        value = read_weights(manifest.file(".ckpt")).tensors["w"][0]
        assert value == manifest.record["score"]
    assert value == 31.0


SAVING_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from functools import partial
import numpy as np
from mindcv.checkpoint import (
    CheckpointStore, FolderLock, Kept, Place, superfluous, write_checkpoint, write_npz
)

folder = Path(sys.argv[1])
lock, store = FolderLock(folder), CheckpointStore(folder)
store.recover()
manifest, problems = store.newest()
assert not problems, problems
epoch = manifest.record["epoch"] if manifest else 0
rng = np.random.default_rng(epoch)
while True:
    epoch += 1
    name = f"net-{epoch}_4"
    arrays = {f"w{i}": rng.random((100, 100)) for i in range(10)}
    writers = {
        f"{name}.ckpt": partial(write_checkpoint, tensors=arrays),
        f"{name}.state.npz": partial(write_npz, arrays={"step": np.int32(epoch)}),
    }
    store.save(name, writers, {"epoch": epoch})
    print(epoch, flush=True)
    kept = [Kept(Place(e, 4), False) for e in range(max(1, epoch - 5), epoch + 1)]
    for stale in superfluous(kept, "latest_k", 2):
        if (folder / (stale.place.name("net") + ".json")).exists():
            store.remove(stale.place.name("net"))
"""


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_while_saving_leaves_a_valid_newest_checkpoint(store, tmp_path, kills):
    """The process saves and prunes without pause, and is killed at a random moment.

    What it said was saved is there afterwards, every time.
    """
    script = tmp_path / "saving.py"
    script.write_text(SAVING_FOREVER)
    rng, caught, said = random.Random(kills), 0, 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, script, store.folder, ROOT],
            stdout=subprocess.PIPE,
            text=True,
        )
        said = max(said, int(process.stdout.readline()))
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        said = max([said, *map(int, rest)])
        caught += any(store.folder.glob(".saving-*")) or any(store.folder.glob("*.pruned"))
        manifest = store.newest()[0]
        assert manifest is not None and manifest.record["epoch"] >= said
    assert caught >= kills // 4  # the kills did come while something was being written
    print(f"{kills} kills, {caught} while a save or a removal was under way, {said} saves")


def test_a_full_disk_leaves_older_checkpoints_intact(store):
    """Writing ends at each 64 KiB of a limited file size, with the errno of a full disk's kind."""
    big = {"w": np.random.default_rng(0).random((300, 400)).astype(np.float32)}
    save(store, 1, arrays=big)
    before = files(store.folder)
    size = len(before["net-1_4.ckpt"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in range(0, size, 65536):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            with pytest.raises(
                WeightsError, match="net-2_4.ckpt cannot be written: File too large"
            ):
                save(store, 2, arrays=big)
            assert files(store.folder) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(store.folder.glob(".saving-*"))


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EIO"])
def test_disk_and_quota_errors_are_told_by_name(store, error, monkeypatch):
    import errno

    save(store, 1)
    before = files(store.folder)
    number = getattr(errno, error)
    calls = []

    def fsync(handle):
        calls.append(handle)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(WeightsError, match=f"{os.strerror(number)}; older ones are untouched"):
        save(store, 2)
    assert calls and files(store.folder) == before


def test_a_really_full_disk(tmp_path):
    """On a file system of 512 KiB, where the machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        store = CheckpointStore(folder)
        big = {"w": np.ones((200, 300), np.float32)}  # 240 KB: the second one does not fit
        save(store, 1, arrays=big)
        before = files(folder)
        for filled in range(0, 260 * 1024, 65536):
            (folder / "filler").write_bytes(b"x" * filled)
            with pytest.raises(WeightsError, match="No space left on device"):
                save(store, 2, arrays=big | {"more": np.ones(5000)})
            (folder / "filler").unlink()
            assert files(folder) == before and store.newest()[0].record["epoch"] == 1
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_folder(store, tmp_path):
    save(store, 1)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from mindcv.checkpoint import CheckpointStore\n"
        "from mindcv.errors import WeightsError\n"
        "os.getuid() or os.setuid(65534)  # root may write anywhere\n"
        "writers = {'net-2_4.ckpt': lambda stream: stream.write(b'weights')}\n"
        "try: CheckpointStore(Path(sys.argv[1])).save('net-2_4', writers, {})\n"
        "except WeightsError as error: sys.exit(str(error))\n"
    )
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest's folders are the user's alone
        folder.chmod(0o755)
    store.folder.chmod(0o555)
    words = [sys.executable, "-c", code, str(store.folder), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True)
    store.folder.chmod(0o755)
    assert done.returncode == 1 and "cannot be written: Permission denied" in done.stderr
    assert store.newest()[0].record["epoch"] == 1


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
