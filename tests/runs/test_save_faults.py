"""A run that can no longer save ends with 5, and leaves what it had saved as it was."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import run_command, write_images

from mindcv.checkpoint import CheckpointStore
from mindcv.engine import write_text
from mindcv.errors import RunFolderError

# A checkpoint has 160 KB. After the fifth step the fault of the environment comes.
USER = """
import os, resource, shutil
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindcv import register_model
from mindcv.engine import loop

class Wide(nn.Cell):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Dense(3, num_classes)
        self.many = Parameter(Tensor(np.ones(20_000, np.float32)), name="many")

    def construct(self, x):
        return self.fc(x.mean((2, 3))) * self.many.mean()

@register_model
def wide(num_classes=1000, in_channels=3):
    return Wide(num_classes)

def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

def lock():
    os.chmod("run", 0o555)
    if not os.getuid():
        os.setuid(65534)  # root may write anywhere

faults = {"limit": limit, "locked": lock, "removed": lambda: shutil.rmtree("run"), "full": int}
follow = loop.after_step
def failing(run, at, loss, applied):
    if (at.epoch, at.step) == (2, 1):
        run.checkpoints.wait()
        faults[os.environ["FAULT"]]()
    follow(run, at, loss, applied)
loop.after_step = failing
"""
OPTIONS = dict(
    import_module="user.py",
    model="wide",
    data_dir="images",
    image_resize=16,
    batch_size=4,
    epoch_size=4,
    warmup_epochs=0,
    opt="momentum",
    ckpt_save_dir="run",
    ckpt_save_steps=2,
    log_interval=1,
)


def train(place: Path, fault: str, **options) -> subprocess.CompletedProcess:
    write_images(place / "images/train", 16, 2)
    (place / "user.py").write_text(USER)
    words = [w for key, value in (OPTIONS | options).items() for w in (f"--{key}", value)]
    return run_command("train.py", *words, cwd=place, env={"FAULT": fault})


def assert_told(done: subprocess.CompletedProcess, reason: str) -> None:
    assert done.returncode == 5, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "run/" in last and reason in last
    assert "Make room" in last and "Traceback" not in done.stderr


@pytest.mark.parametrize("fault", ["limit", pytest.param("locked", marks=pytest.mark.slow)])
def test_a_run_that_may_not_write_ends_with_5_and_its_checkpoints_are_whole(tmp_path, fault):
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest's folders are the user's alone
        folder.chmod(0o755)
    done = train(tmp_path, fault)
    (tmp_path / "run").chmod(0o755)
    assert_told(done, {"limit": "File too large", "locked": "Permission denied"}[fault])
    newest, problems = CheckpointStore(tmp_path / "run").newest()
    assert newest.path.name == "wide-1_4.json" and not problems
    assert not list((tmp_path / "run").glob(".saving-*"))


@pytest.mark.slow
def test_a_run_whose_folder_is_removed_ends_with_5(tmp_path):
    assert_told(train(tmp_path, "removed"), "No such file or directory")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_fills_the_disk_ends_with_5_and_goes_on_when_there_is_room(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=720k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        done = train(tmp_path, "full")
        assert_told(done, "No space left on device")
        newest, problems = CheckpointStore(folder).newest()
        assert newest.path.name.startswith("wide-") and not problems
        room = ["mount", "-o", "remount,size=8m", str(folder)]
        subprocess.run(room, check=True)
        again = train(tmp_path, "full", resume="auto")
        assert again.returncode == 0, again.stderr
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_a_text_of_the_run_folder_is_there_whole_or_as_it_was(tmp_path, monkeypatch, step):
    path = tmp_path / "config.yaml"
    write_text(path, "lr: 0.1\n")

    def fails(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(RunFolderError, match="config.yaml.*No space"),
    ):
        patch.setattr(Path if step == "write_text" else os, step, fails)
        write_text(path, "lr: 0.2\n")
    assert path.read_text(encoding="utf-8") == "lr: 0.1\n"
    write_text(path, "lr: 0.2\n")
    assert path.read_text(encoding="utf-8") == "lr: 0.2\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
