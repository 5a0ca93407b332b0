"""A run of two ranks that is killed goes on on one, is killed, and ends on two: the same run."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import launcher, run_command, short_run_in, write_images

from mindcv.checkpoint import CheckpointStore
from mindcv.checkpoint.manifest import seal
from mindcv.data.order import sample_order
from mindcv.engine.update import STATISTICS
from mindcv.weights import read_weights

# KILL_AT "2 7": each process ends itself, by kill -9, after step 7 of epoch 2.
KILL = """
import os, signal, threading
from mindcv.engine import loop

def killing(run, at, *outputs, call=loop.after_step):
    if os.environ.get("KILL_AT") == f"{at.epoch} {at.step}":
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        os.kill(os.getpid(), signal.SIGKILL)
    call(run, at, *outputs)

loop.after_step = killing
"""
# Everything that draws by itself; MindSpore's own random operations draw by rank and thread.
OPTIONS = dict(
    model="tiny_regnet",
    batch_size=4,
    opt="adamw",
    shuffle=True,
    sampler="balanced",
    drop_rate=0.2,
    drop_path_rate=0.2,
    mixup=0.3,
    cutmix=1.0,
    re_prob=0.3,
    auto_augment="autoaug-mstd0.5",
    ema=True,
    clip_grad=True,
    loss_scale_type="dynamic",
    ckpt_save_steps=2,
    resume="auto",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_models) -> Path:
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "models.py").write_text(tiny_models.read_text() + KILL)
    write_images(folder / "images/train", 54, 6)
    for path in sorted((folder / "images/train/class_1").iterdir())[3:]:
        path.unlink()
    write_images(folder / "images/val", 11, 6, seed=1)
    return folder


def train(place: Path, folder: str, ranks: int, kill_at: str = "", **options):
    words = short_run_in(place / folder, place / "images", place / "models.py")
    options = OPTIONS | {"log_samples": f"{folder}.csv", "distribute": ranks > 1} | options
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    started = launcher(ranks) if ranks > 1 else None
    env = {"KILL_AT": kill_at}
    done = run_command("train.py", *words, cwd=place, env=env, launcher=started)
    killed = 1 if ranks > 1 else -9  # msrun returns 1
    assert done.returncode == (killed if kill_at else 0), done.stderr
    return done


def read(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images_of_epochs(place: Path, folder: str) -> list[list[int]]:
    """Return the images of each epoch, sorted, from the tables of all ranks.

    The tables of the ranks before lie beside the last ones, under numbers.
    """
    rows = [row for path in place.glob(f"{folder}*.csv") for row in read(path)]
    epochs = [[row for row in rows if row["epoch"] == epoch] for epoch in "123"]
    return [sorted(int(i) for row in epoch for i in row["indices"].split()) for epoch in epochs]


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_two_ranks_become_one_and_two_again_and_end_with_the_weights_of_two(place):
    """To the last bit: of two ranks, the sum of two gradients has one order only.

    Running statistics of normalisation differ, since one rank moves them twice in an update.
    """
    train(place, "whole", 2)
    train(place, "cut", 2, kill_at="1 4")
    train(place, "cut", 1, kill_at="2 7")
    train(place, "cut", 2)
    log = (place / "cut/train.log").read_text()
    for words in (
        "continuing a run of 2 ranks on 1: each update takes the same 8 images",
        "this is step 4 of epoch 1 now",
        "continuing a run of 1 rank on 2: each update takes the same 8 images",
        "this is step 3 of epoch 2 now",
    ):
        assert words in log

    labels = np.repeat(range(6), [9, 3, 9, 9, 9, 9])
    assert images_of_epochs(place, "cut") == [
        sorted(sample_order(48, 42, epoch, True, balance=labels).tolist()) for epoch in range(3)
    ]
    compared = 0
    for suffix in (".ckpt", ".state.npz"):
        whole, cut = (
            read_weights(place / run / f"tiny_regnet-3_6{suffix}").tensors
            for run in ("whole", "cut")
        )
        assert set(whole) == set(cut)
        for name in whole:
            if not name.endswith(STATISTICS):
                np.testing.assert_array_equal(cut[name], whole[name], err_msg=name)
                compared += 1
    assert compared > 150
    for one, other in zip(read(place / "whole/metrics.csv"), read(place / "cut/metrics.csv")):
        for column in ("epoch", "step", "train_loss", "lr", "skipped"):
            assert one[column] == other[column], column
        assert abs(float(one["ema_val_loss"]) - float(other["ema_val_loss"])) < 0.05


def test_a_number_of_ranks_that_cannot_keep_the_update_is_refused(place):
    """On one process, of a run that says that it had three."""
    run = place / "three"
    train(place, "three", 1, epoch_size=1, batch_size=4, resume="null")
    manifest = CheckpointStore(run).newest()[0]
    record = {**manifest.record, "runtime": {**manifest.record["runtime"], "world_size": 3}}
    record["update"] = {"images": 9, "batches": 1, "images_of_epoch": 45}
    manifest.path.write_bytes(seal(manifest.files, record))
    words = short_run_in(run, place / "images", place / "models.py")
    options = OPTIONS | {"epoch_size": 1}
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = run_command("train.py", *words, cwd=place)
    assert done.returncode == 2
    assert "is of a run of 3 ranks with 9 images an update, which 1 rank" in done.stderr
    assert "possible (ranks x batch_size x gradient_accumulation_steps): 1 x 3 x 3" in done.stderr
