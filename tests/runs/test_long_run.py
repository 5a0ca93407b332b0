"""A long run takes no more memory, files or threads at its end than at its beginning."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command
from PIL import Image

# Every 250 steps: resident memory in KB, open files, threads.
USER = """
import csv, gc, os
from mindspore import nn
from mindcv import register_model
from mindcv.engine import loop

class Small(nn.Cell):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
        self.dropout, self.fc = nn.Dropout(p=0.1), nn.Dense(4, num_classes)

    def construct(self, x):
        return self.fc(self.dropout(self.bn(self.conv(x)).mean((2, 3))))

@register_model
def small(num_classes=1000, in_channels=3):
    return Small(num_classes)

def measure():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmRSS"].split()[0]), len(os.listdir("/proc/self/fd")), int(status["Threads"])

follow = loop.after_step
def measuring(run, at, loss, applied):
    follow(run, at, loss, applied)
    step = at.count(run.batches.steps)
    if step % 250 == 125:
        if run.checkpoints:
            run.checkpoints.wait()
        with open("measured.csv", "a", newline="") as file:
            csv.writer(file).writerow([step, *measure()])
loop.after_step = measuring
"""
OPTIONS = dict(
    import_module="user.py",
    model="small",
    data_dir="images",
    image_resize=8,
    batch_size=1,
    warmup_epochs=0,
    val_while_train=True,
    val_interval=10,
    log_interval=100,
    ema=True,
    drop_overflow_update=True,
    log_samples="samples.csv",
    ckpt_save_dir="run",
    ckpt_save_interval=10,
    ckpt_save_steps=600,
    keep_checkpoint_max=3,
    num_parallel_workers=1,
)


@pytest.mark.slow
def test_20000_steps_leave_memory_files_and_threads_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 250), ("val", 10)):
        for number in range(count):
            path = tmp_path / "images" / split / f"class_{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (10, 10, 3), np.uint8)).save(path)
    (tmp_path / "user.py").write_text(USER)
    memory, files, threads = run(tmp_path, epochs=80)
    # The first fifth is warm-up: allocators, caches, and tables of MindSpore.
    assert memory[-16:].mean() < 1.02 * memory[16:32].mean(), memory
    assert files[16:].max() == files[16:].min(), files
    # Two pipelines overlap where one epoch ends and the next one begins.
    assert np.median(threads[-16:]) == np.median(threads[16:32]) >= threads[16:].max() - 3, threads


def run(place: Path, epochs: int) -> np.ndarray:
    words = [w for key, value in OPTIONS.items() for w in (f"--{key}", value)]
    done = run_command("train.py", *words, "--epoch_size", epochs, cwd=place)
    assert done.returncode == 0, done.stderr
    with (place / "measured.csv").open(newline="") as file:
        rows = np.array(list(csv.reader(file)), np.int64)
    assert rows[-1, 0] == epochs * 250 - 125
    return rows.T[1:]
