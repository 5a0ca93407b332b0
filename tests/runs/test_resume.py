"""Runs that are killed and go on from their checkpoints end as if nothing had happened."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import WARM, write_images

from mindcv.weights import read_weights

# A network with everything that a run can lose, registered as a user would. KILL tells where the
# process ends itself: step:N before the N-th step is looked at, evaluation:N before its N-th batch,
# commit:N amid the N-th save's moving into place; with a signal's name in front of it. With COPIES
# set, the run folder is copied to after_N where step:N would end the process.
MODEL = """
import os, shutil, signal, sys, threading, time
from mindspore import nn, ops
from mindcv import register_model
from mindcv.checkpoint import store
from mindcv.engine import evaluation, loop
from mindcv.models.layers import DropPath

class Small(nn.Cell):
    def __init__(self, num_classes, in_channels, drop_rate, drop_path_rate):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3, stride=4, pad_mode="same")
        self.bn = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, pad_mode="same")
        self.drop_path = DropPath(drop_path_rate)
        self.dropout = nn.Dropout(p=drop_rate)
        self.fc = nn.Dense(8, num_classes)

    def construct(self, x):
        x = ops.relu(self.bn(self.stem(x)))
        x = x + self.drop_path(self.branch(x))
        return self.fc(self.dropout(x.mean((2, 3))))

@register_model
def small(num_classes=1000, in_channels=3, drop_rate=0.2, drop_path_rate=0.2):
    return Small(num_classes, in_channels, drop_rate, drop_path_rate)

def kill_before(owner, name, count, number):
    call, calls = getattr(owner, name), []
    def counting(*args, **named):
        calls.append(1)
        if len(calls) == count:
            time.sleep(0.7)  # what was being saved is done
            os.kill(os.getpid(), number)
            time.sleep(0.2)  # a thread takes SIGINT
        return call(*args, **named)
    setattr(owner, name, counting)

def copy_before_each(owner, name):
    call, calls = getattr(owner, name), []
    def copying(*args, **named):
        calls.append(1)
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        folder = sys.argv[sys.argv.index("--ckpt_save_dir") + 1]
        shutil.copytree(folder, f"after_{len(calls)}")
        return call(*args, **named)
    setattr(owner, name, copying)

def kill_within_commit(count, number):
    move, calls = store.CheckpointStore._move, []
    def moving(self, saving, name, files):
        calls.append(1)
        if len(calls) == count:
            first = next(iter(files))
            os.replace(saving / first, self.folder / first)
            os.kill(os.getpid(), number)
        move(self, saving, name, files)
    store.CheckpointStore._move = moving

if "COPIES" in os.environ:
    copy_before_each(loop, "after_step")
for word in filter(None, os.environ.get("KILL", "").split()):
    name, place, count = word.split(":")
    number, count = getattr(signal, name), int(count)
    if place == "step":
        kill_before(loop, "after_step", count, number)
    elif place == "evaluation":
        kill_before(evaluation, "_evaluate_batch", count, number)
    else:
        kill_within_commit(count, number)
"""
# Everything on that keeps a state or draws random numbers. 4 epochs of 8 steps, 4 updates.
OPTIONS = dict(
    model="small",
    image_resize=32,
    batch_size=4,
    epoch_size=4,
    opt="adamw",
    lr=0.01,
    scheduler="exponential_decay",
    warmup_epochs=1,
    val_while_train=True,
    log_interval=3,
    mixup=0.3,
    cutmix=1.0,
    ema=True,
    val_weights="both",
    gradient_accumulation_steps=2,
    loss_scale_type="dynamic",
    auto_augment="randaug-m9-mstd0.5-inc1",
    re_prob=0.3,
    ckpt_save_steps=3,
    ckpt_save_interval=2,
    keep_checkpoint_max=4,
    clip_grad=True,
    sampler="balanced",
    class_weights="1,2,1.5,0.5",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with 32 training and 7 validation images, the network, and a whole run."""
    root = tmp_path_factory.mktemp("resume")
    write_images(root / "images/train", 36, 4)
    for path in sorted((root / "images/train/class_1").iterdir())[5:]:
        path.unlink()
    write_images(root / "images/val", 7, 4, seed=1)
    (root / "small.py").write_text(MODEL)
    return root


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """The folder of the run that nothing interrupted; copies of it lie beside it."""
    done = train(place, "whole", COPIES="yes")
    assert done.returncode == 0, done.stderr
    return place / "whole"


def train(
    place: Path, folder: str, kill: str = "", COPIES: str | None = None, **options
) -> subprocess.CompletedProcess:
    options = OPTIONS | {"import_module": "small.py", "data_dir": "images"} | options
    options["ckpt_save_dir"] = folder
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    variables = {"KILL": kill} | ({} if COPIES is None else {"COPIES": COPIES})
    done = WARM.run(["train.py", *words], place, **variables)
    return subprocess.CompletedProcess(words, done.code, done.out, done.err)


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return every tensor of every checkpoint in a run folder."""
    paths = [*folder.glob("*.ckpt"), *folder.glob("*.state.npz")]
    return {
        f"{path.name}: {name}": value
        for path in paths
        for name, value in read_weights(path).tensors.items()
    }


def assert_equal_runs(folder: Path, whole: Path) -> None:
    """Compare all tensors and the table to the last bit."""
    found, expected = tensors(folder), tensors(whole)
    assert set(found) == set(expected) and len(expected) > 100
    assert [name for name in expected if found[name].tobytes() != expected[name].tobytes()] == []
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_run_ended_five_ways_in_turn_comes_to_the_same_bits(place, whole):
    """Killed amid an update, an evaluation and a save; stopped amid an epoch and an evaluation."""
    folder = place / "ended"
    killed = train(place, "ended", kill="SIGKILL:step:5")
    assert killed.returncode == -9
    assert "small-1_3.json" in {path.name for path in folder.glob("*.json")}

    killed = train(place, "ended", kill="SIGKILL:evaluation:3", resume="auto")
    assert killed.returncode == -9
    assert "small-1_3.json: epoch 1, step 3" in killed.stdout

    stopped = train(place, "ended", kill="SIGTERM:step:6", resume="auto")
    assert stopped.returncode == 143, stopped.stderr
    last = stopped.stderr.strip().splitlines()[-1]
    assert last == "stopped by SIGTERM after step 4 of epoch 2; continue with --resume auto"

    stopped = train(place, "ended", kill="SIGINT:evaluation:2", resume="auto")
    assert stopped.returncode == 130, stopped.stderr
    assert "after step 8 of epoch 2, before its evaluation" in stopped.stderr
    assert (folder / "small-2_8_unevaluated.json").exists()
    assert "small-2_4.json: epoch 2, step 4" in stopped.stdout

    killed = train(place, "ended", kill="SIGKILL:commit:4", resume="auto")
    assert killed.returncode == -9
    assert list(folder.glob(".saving-*"))

    done = train(place, "ended", resume="auto")
    assert done.returncode == 0, done.stderr
    assert "was being saved when a run was killed; it is whole" in done.stdout
    assert_equal_runs(folder, whole)
    log = (folder / "train.log").read_text()
    assert log.count("resumed from") == 5 and "epoch 1/4 step 3/8" in log  # nothing was cut off


def test_a_finished_run_made_longer_comes_to_the_bits_of_one_that_was_as_long(place, whole):
    assert train(place, "longer", epoch_size=2).returncode == 0
    done = train(place, "longer", resume="auto")
    assert done.returncode == 0, done.stderr
    assert "epoch_size: 2 -> 4; the learning rates of 2 epochs so far stay" in done.stdout
    assert_equal_runs(place / "longer", whole)


@pytest.mark.slow
def test_a_run_killed_after_any_of_its_32_steps_comes_to_the_same_bits(place, whole):
    """A kill -9 leaves the folder as it is: copies that a run left of it go on.

    Those that differ only in what the run told are the same to the one that goes on.
    """
    states = {}
    for step in range(1, 33):
        folder = place / f"after_{step}"
        told = ("train.log", ".lock", ".decoding-0")
        files = {one.name: one.read_bytes() for one in folder.iterdir() if one.name not in told}
        states.setdefault(tuple(sorted(files.items())), folder.name)
    print(f"{len(states)} states: {', '.join(states.values())}")
    assert len(states) > 10
    for folder in states.values():
        done = train(place, folder, resume="auto")
        assert done.returncode == 0, done.stderr
        assert_equal_runs(place / folder, whole)
