"""Images that vanish, change, or are never read to the end: named in bounded time, no run hangs."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from conftest import write_images
from mindspore import nn

from mindcv import create_dataset, engine
from mindcv.data import (
    EpochBatches,
    Preprocessing,
    create_evaluation_loader,
    create_loader,
    create_transforms,
    datasets,
    open_samples,
    read_ahead,
    register_dataset,
)
from mindcv.data.failure import pipeline_failures_as_data_errors
from mindcv.data.samples import ImageError
from mindcv.data.samples.files import MOST_BYTES, read_file
from mindcv.errors import DataError

RUNTIME = engine.Runtime("CPU", 0, "O1", 0, 1)
WITHIN = 30.0  # seconds; most take a tenth of one


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """More images than any pipeline reads ahead."""
    root = tmp_path_factory.mktemp("source")
    write_images(root / "train", 600, 2)
    write_images(root / "val", 600, 2, seed=1)
    return root


@pytest.fixture
def root(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "images"))


class Pool(nn.Cell):
    def __init__(self):
        super().__init__()
        self.fc = nn.Dense(3, 2)

    def construct(self, x):
        return self.fc(x.mean((2, 3)))


def training(root, name="", transform=None, max_bad_fraction=0.0) -> ds.Dataset:
    """Return the batches of a run, as `Model.train` reads them."""
    dataset = create_dataset(name, str(root), max_bad_fraction=max_bad_fraction)
    transform = transform or create_transforms(image_resize=16, normalize_on_device=True)

    def loader_of_epoch(rows):
        return create_loader(rows, 2, transform=transform, num_parallel_workers=1)

    return EpochBatches(dataset, loader_of_epoch, 2).as_dataset()


def read_all(loader, after_two=lambda: None) -> None:
    with pipeline_failures_as_data_errors(loader):
        for number, _ in enumerate(loader.create_tuple_iterator(num_epochs=2, output_numpy=True)):
            if number == 2:
                after_two()


def evaluate(root, name="", after_two=lambda: None) -> None:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    samples = open_samples(name, str(root), "val")
    loader = create_evaluation_loader(samples, Preprocessing(16), 1)
    step = engine.EvaluationStep(
        Pool(), samples.num_classes, lambda x: x.transpose((0, 3, 1, 2)) / 255.0
    )
    call, calls = step.construct, []

    def counting(*batch):
        calls.append(1)
        if len(calls) == 2:
            after_two()
        return call(*batch)

    step.construct = counting
    engine.evaluate(step, loader, 1, RUNTIME)


def expect_failure(kind: str, root, words: str, name="", after_two=lambda: None, **options) -> None:
    begin = time.monotonic()
    with pytest.raises(DataError, match=words):
        if kind == "training":
            read_all(training(root, name, **options), after_two)
        else:
            evaluate(root, name, after_two)
    assert time.monotonic() - begin < WITHIN


@pytest.mark.parametrize("kind", ["training", "evaluation"])
@pytest.mark.parametrize("lost", ["moved", "emptied"])
def test_a_folder_that_vanishes_is_named(root, kind, lost):
    """A network disk that is unmounted leaves an empty folder."""
    folder = root / ("train" if kind == "training" else "val")

    folder.rename(root / "mounted")
    folder.symlink_to("mounted")
    (root / "empty").mkdir()
    (root / "unmounted").symlink_to("empty" if lost == "emptied" else "nowhere")

    def lose():
        os.replace(root / "unmounted", folder)  # at once

    reason = {"moved": "No such file or directory", "emptied": "it is empty"}[lost]
    # More bad images than there are may be bad: it is not the images that are told.
    options = {"max_bad_fraction": 1.0} if kind == "training" else {}
    words = f"the folder {folder} is gone while it is read: {reason} .*--resume auto"
    expect_failure(kind, root, words, after_two=lose, **options)


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_file_that_vanishes_is_named(root, kind):
    folder = root / ("train" if kind == "training" else "val")

    def lose():
        for path in folder.glob("*/*.jpg"):
            if int(path.stem) % 3:
                path.unlink()

    expect_failure(kind, root, r"bad .*\d\d\d\d.jpg \(No such file or directory\)", after_two=lose)


def test_a_file_that_vanishes_from_a_run_is_replaced_and_listed(root, log_lines):
    """A third of them, where half may be bad."""

    def lose():
        for path in root.glob("train/*/*[048].jpg"):
            path.unlink()

    read_all(training(root, max_bad_fraction=0.5), lose)
    told = [line for line in log_lines if line.startswith(f"bad image {root}/train/class_")]
    assert told and told[0].endswith("No such file or directory")


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder"])
def test_what_is_no_file_is_refused_without_waiting(root, kind):
    place = root / "train/class_0/0000.jpg"
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
        (root / "train.csv").write_text("path,label\ntrain/class_0/0000.jpg,0\n")
        samples = open_samples("csv", str(root), "train")
    else:
        os.mkfifo(root / "pipe")
        (root / "folder").mkdir()
        target = {"link to a pipe": root / "pipe", "device": "/dev/zero", "folder": root / "folder"}
        place.symlink_to(target[kind])
        samples = open_samples("", str(root), "train")
    what = {"link to a pipe": "a pipe", "pipe": "a pipe", "folder": "a folder"}.get(
        kind, "a device"
    )
    with pytest.raises(ImageError, match=f"no file, but {what}"):
        samples.read(0)


def test_a_file_larger_than_any_image_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    os.truncate(path, MOST_BYTES + 1)  # takes no space
    with pytest.raises(ImageError, match="too large: a file of 1073741825 bytes"):
        read_file(os.fsencode(path))


class Faulty:
    """A user's dataset whose sample 9 fails, in the split that it is told."""

    classes = ("ant", "bee")

    def __init__(self, split: str, faulty: str, fail):
        self.labels, self.fail = [0, 1] * 10, fail if split == faulty else lambda: None

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 9:
            self.fail()
        return np.full((20, 20, 3), index, np.uint8), index % 2


def registered(monkeypatch, kind: str, fail) -> str:
    monkeypatch.setattr(datasets, "_registered", {})
    faulty = "train" if kind == "training" else "val"
    register_dataset("faulty", lambda root, split: Faulty(split, faulty, fail))
    return "faulty"


def raising(error: BaseException):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize("kind", ["training", "evaluation"])
@pytest.mark.parametrize("error", [KeyError("no such row"), SystemExit(3), MemoryError()], ids=repr)
def test_whatever_a_users_dataset_raises_names_the_sample(root, kind, error, monkeypatch):
    name = registered(monkeypatch, kind, raising(error))
    words = f"faulty {'train' if kind == 'training' else 'val'}, sample 9: reading it raised "
    expect_failure(kind, root, words + type(error).__name__, name)


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_read_that_does_not_return_is_told_and_then_ends_the_run(
    root, kind, monkeypatch, log_lines
):
    monkeypatch.setattr(read_ahead, "WARNED_AFTER", 0.5)
    monkeypatch.setattr(read_ahead, "GIVEN_UP_AFTER", 1.5)
    returning = threading.Event()
    name = registered(monkeypatch, kind, returning.wait)
    try:
        words = "sample 9 could not be read within 1.5 s: the read does not return"
        expect_failure(kind, root, words, name)
        assert any("sample 9 is being read for 0.5 s already" in line for line in log_lines)
    finally:
        returning.set()


def test_a_slow_read_is_told_and_the_run_goes_on(root, monkeypatch, log_lines):
    monkeypatch.setattr(read_ahead, "WARNED_AFTER", 0.2)
    name = registered(monkeypatch, "training", lambda: time.sleep(0.6))
    read_all(training(root, name))
    assert any("sample 9 is being read for 0.2 s already" in line for line in log_lines)


def test_time_in_which_no_read_could_end_does_not_count(root, monkeypatch):
    """The compiler keeps Python's lock for minutes; a stopped process comes to the same."""
    monkeypatch.setattr(read_ahead, "WARNED_AFTER", 0.2)
    monkeypatch.setattr(read_ahead, "GIVEN_UP_AFTER", 0.6)
    keep_the_lock = ctypes.PyDLL(None).usleep

    def fail():
        keep_the_lock(900_000)
        time.sleep(0.1)  # the waiting thread looks now

    read_all(training(root, registered(monkeypatch, "training", fail)))


def test_an_operation_that_raises_is_told_by_its_reason(root):
    def fail(image):
        raise RuntimeError("my own table has no such colour")

    expect_failure("training", root, "my own table has no such colour", transform=[fail])


WORKER = """
import os, signal, subprocess, sys, threading, time
from mindspore.dataset import vision
from mindcv.data import create_dataset, create_loader

def slow(image):
    time.sleep(0.02)
    return image

def kill():
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], text=True,
                            capture_output=True).stdout
    workers = [int(line.split()[0]) for line in listed.splitlines() if "ps" not in line.split()[1]]
    os.kill(workers[0], signal.SIGKILL)
    print(time.time(), flush=True)

transform = [vision.Decode(), vision.Resize((8, 8)), slow]
loader = create_loader(create_dataset("", sys.argv[1]), 2, transform=transform,
                       num_parallel_workers=2, python_multiprocessing=True)
for number, _ in enumerate(loader.create_tuple_iterator(num_epochs=100, output_numpy=True)):
    if number == 3:
        kill()
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_worker_process_ends_the_process_at_once(source):
    if not shutil.which("ps"):
        pytest.skip("no ps")
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(source)], capture_output=True, text=True, timeout=120
    )
    assert time.time() - float(done.stdout) < WITHIN
    assert done.returncode in (-15, 143), done.stderr
    assert "worker process" in done.stderr and "killed by signal" in done.stderr


# Between two runs


def described(root) -> dict:
    return engine.describe_run(RUNTIME, create_dataset("", str(root)), 1)


CHANGES = {
    "added": (
        lambda f: (f / "class_1/new.jpg").write_bytes(b"x"),
        "class class_1 had 300 .* has 301",
    ),
    "removed": (lambda f: (f / "class_0/0000.jpg").unlink(), "class class_0 had 300 .* has 299"),
    "renamed": (
        lambda f: (f / "class_1/0001.jpg").rename(f / "class_1/0001b.jpg"),
        "class class_1 has as many training images as before, but under other names",
    ),
    "moved to another class": (
        lambda f: (f / "class_1/0001.jpg").rename(f / "class_0/0001.jpg"),
        "class class_0 had 300 training images and has 301",
    ),
    "other content": (
        lambda f: (f / "class_1/0003.jpg").write_bytes(b"another picture"),
        "files of class class_1 have other sizes than before, under the same names",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_dataset_is_refused_by_its_first_difference(root, change):
    before = types.SimpleNamespace(path="run/net-3_4.json", record=described(root))
    engine.check_same_run(before, described(root))
    make, words = CHANGES[change]
    make(root / "train")
    with pytest.raises(DataError, match=words):
        engine.check_same_run(before, described(root))


def test_files_that_were_written_anew_in_the_same_size_are_warned_of(root, log_lines):
    before = types.SimpleNamespace(path="run/net-3_4.json", record=described(root))
    path = root / "train/class_1/0003.jpg"
    os.utime(path, ns=(0, 0))
    engine.check_same_run(before, described(root))
    assert "written since run/net-3_4.json was saved, the first of class class_1" in log_lines[-1]


# In a run of the command

USER = """
import os
from pathlib import Path
from mindspore import nn
from mindcv import register_model
from mindcv.engine import loop

class Pool(nn.Cell):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Dense(3, num_classes)

    def construct(self, x):
        return self.fc(x.mean((2, 3)))

@register_model
def pool(num_classes=1000, in_channels=3):
    return Pool(num_classes)

follow = loop.after_step
def losing(run, at, loss, applied):
    follow(run, at, loss, applied)
    if at.count(run.batches.steps) == 3:
        Path("images").rename("unmounted")
loop.after_step = losing
"""


def test_a_run_whose_images_vanish_ends_with_4_and_goes_on_when_they_are_back(warm, root, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    options = dict(import_module="user.py", model="pool", data_dir="images", image_resize=16)
    options |= dict(batch_size=8, epoch_size=2, warmup_epochs=0, ckpt_save_dir="run", resume="auto")
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    ended = warm.run(["train.py", *words], tmp_path)
    assert ended.code == 4, ended.err
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("error: the folder images/train is gone while it is read: No such file")
    assert "Traceback" not in ended.err
    Path(tmp_path / "unmounted").rename(tmp_path / "images")
    (tmp_path / "user.py").write_text(USER.replace("== 3", "== -1"))
    done = warm.run(["train.py", *words], tmp_path)
    assert done.code == 0, done.err
