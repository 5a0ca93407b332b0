"""Ascend's data sink: MindSpore calls back once an epoch, and a run tells and saves all the same.

The commands take MindSpore's path for the sink, by `sink_stand_in`. What they come to is compared
with the same runs without it.
"""

import csv
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_finite import OPTIONS, assert_same_bits, place_with_a_white_image
from warm_commands import Done, WarmCommands

from mindcv import engine
from mindcv.checkpoint import CheckpointStore
from mindcv.config import Config
from mindcv.engine import build as recipe
from mindcv.errors import ConfigError

# A white image spoils the third of 4 steps: its update, of two batches, is skipped in each epoch.
RICH = OPTIONS | dict(
    epoch_size=3,
    gradient_accumulation_steps=2,
    loss_scale_type="dynamic",
    ckpt_save_steps=0,
    log_interval=2,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return place_with_a_white_image(tmp_path_factory.mktemp("sink"))


@pytest.fixture(scope="module")
def commands(place) -> Iterator[WarmCommands]:
    with WarmCommands("mindspore", "sink_stand_in") as commands:
        yield commands


def train(commands, place: Path, folder: str, stop: str = "", **options) -> Done:
    options = RICH | {"ckpt_save_dir": folder, "log_samples": f"{folder}.csv"} | options
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    return commands.run(["train.py", *words], cwd=place, STOP=stop)


@pytest.fixture(scope="module")
def plain(commands, place) -> Path:
    """The folder of a run without the sink."""
    done = train(commands, place, "plain", dataset_sink_mode=False)
    assert done.code == 0, done.err
    assert "stand-in" not in done.out
    return place / "plain"


def test_the_sink_gives_the_rows_checkpoints_and_bits_of_a_run_without_it(commands, place, plain):
    done = train(commands, place, "sink")
    assert done.code == 0, done.err
    assert done.out.count("stand-in: an epoch in one call") == 3
    assert done.out.count("stand-in: stop_send") == 1
    assert_same_bits(place / "sink", plain)
    assert CheckpointStore(place / "sink").names() == CheckpointStore(plain).names()
    assert (place / "sink.csv").read_bytes() == (place / "plain.csv").read_bytes()
    with (place / "sink/metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["skipped"] for row in rows] == ["1", "2", "3"]
    assert len({row["train_loss"] for row in rows}) == len({row["lr"] for row in rows}) == 3
    # The pipeline shows how far an epoch is; the step that was skipped is told behind it.
    assert "after each epoch of 4 steps" in done.out
    assert "epoch 2/3: 2 of 4 batches handed to the device" in done.out
    assert "loss is nan at step 7 (epoch 2, step 3 of 4, update 4)" in done.out
    assert done.out.count("class_1/0003.jpg") == 3
    assert "epoch 3/3 step 4/4 loss" in done.out
    assert "  compile, first 4 steps  " in done.out and "  steps and data wait  " in done.out


def test_a_run_that_is_stopped_with_and_without_the_sink_goes_on_to_the_same_bits(
    commands, place, plain
):
    """First within an epoch; the second signal takes effect at the end of one."""
    begun = train(commands, place, "ended", stop="SIGTERM:2", dataset_sink_mode=False)
    assert begun.code == 128 + signal.SIGTERM, begun.err
    assert "after step 2 of epoch 1" in begun.err
    ended = train(commands, place, "ended", stop="SIGTERM:4", resume="auto")
    assert ended.code == 128 + signal.SIGTERM, ended.err
    assert "stopped by SIGTERM after step 4 of epoch 2" in ended.err
    # A graph for the rest of the epoch, and one for the sink.
    assert ended.out.count("with graph compilation: ") == 2
    assert "  compile, first 4 steps  " in ended.out
    assert ended.out.count("stand-in: stop_send") == ended.out.count("stand-in: release") == 1
    done = train(commands, place, "ended", resume="auto")
    assert done.code == 0, done.err
    assert [one.out.count(" in one call") for one in (begun, ended, done)] == [0, 1, 1]
    assert_same_bits(place / "ended", plain)
    assert (place / "ended.csv").read_bytes() == (place / "plain.csv").read_bytes()


def test_a_loss_that_is_not_finite_ends_the_run_after_its_epoch_by_step_and_images(commands, place):
    done = train(commands, place, "spoilt", loss_scale_type="fixed")
    assert done.code == 3, done.err
    words = done.err.strip().splitlines()[-1]
    assert "loss is nan at step 3 (epoch 1, step 3 of 4, update 2), learning rate 0.00" in words
    assert "images/train/class_1/0003.jpg" in words
    assert not CheckpointStore(place / "spoilt").names()
    assert done.out.count("stand-in: stop_send") == done.out.count("stand-in: release") == 1


def test_what_the_sink_cannot_do_is_refused_when_the_device_shows(commands, place):
    done = train(commands, place, "refused", drop_remainder=False)
    assert done.code == 2 and "drop_remainder: False leaves a smaller last batch" in done.err
    assert not (place / "refused/metrics.csv").exists()
    ascend = engine.Runtime("Ascend", 0, "O2", 0, 1)
    with pytest.raises(ConfigError, match="ckpt_save_steps: 3: .* or dataset_sink_mode False"):
        recipe.check_sink(Config(ckpt_save_steps=3), ascend)
    recipe.check_sink(Config(ckpt_save_steps=3, dataset_sink_mode=False), ascend)


@pytest.mark.parametrize(
    ("device", "mode", "asked", "sinks"),
    [("Ascend", 0, True, True), ("Ascend", 0, False, False), ("Ascend", 1, True, False)]
    + [("CPU", 0, True, False)],
)
def test_the_sink_is_used_where_mindspore_documents_it(device, mode, asked, sinks):
    runtime = engine.Runtime(device, mode, "O1", 0, 1)
    assert engine.uses_sink(asked, runtime) is sinks
