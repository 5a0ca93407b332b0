"""A save or a removal that is killed, or that the disk refuses, leaves the others. No mindspore."""

import contextlib
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
from checkpoints import files, save
from conftest import ROOT

from mindcv.checkpoint import CheckpointStore
from mindcv.errors import WeightsError
from mindcv.weights import ckpt, read_weights


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
        writers = {"net_best.ckpt": partial(ckpt.write, tensors=tensors)}
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
from mindcv.checkpoint import CheckpointStore, FolderLock, Kept, Position, superfluous
from mindcv.weights import ckpt
from mindcv.weights.array_files import write_npz

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
        f"{name}.ckpt": partial(ckpt.write, tensors=arrays),
        f"{name}.state.npz": partial(write_npz, tensors={"step": np.int32(epoch)}),
    }
    store.save(name, writers, {"epoch": epoch})
    print(epoch, flush=True)
    kept = [Kept(Position(e, 4), False) for e in range(max(1, epoch - 5), epoch + 1)]
    for stale in superfluous(kept, "latest_k", 2):
        if (folder / (stale.at.name("net") + ".json")).exists():
            store.remove(stale.at.name("net"))
"""


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
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
