"""A run whose frozen layers train later is two runs in one, wherever it is interrupted."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import launcher, run_command, short_run_in
from test_train_options import changed
from warm_commands import WarmCommands

from mindcv.weights import read_weights

PHASES = dict(freeze_stages=1, unfreeze_epoch=2, epoch_size=4)
# The rates depend on nothing but the options, so that a second run begins with the same.
PLAIN = dict(model="tiny_regnet", scheduler="constant", warmup_epochs=0, opt="adamw", lr=0.003)
RICH = PHASES | dict(
    model="tiny_regnet",
    opt="adamw",
    lr=0.003,
    weight_decay=0.05,
    layer_decay=0.8,
    layer_lr="stem=0.5,head=2",
    ema=True,
    ema_decay=0.9,
    loss_scale_type="dynamic",
    gradient_accumulation_steps=2,
    precise_bn_samples=16,
    ckpt_save_policy="null",
)


def trained(
    commands, place: Path, image_folder: Path, tiny_models: Path, stop: str = "", **options
) -> Path:
    words = changed(short_run_in(place / "run", image_folder, tiny_models), **options)
    place.mkdir(exist_ok=True)
    done = commands.run(["train.py", *words], place, STOP=stop)
    assert done.code == (143 if stop else 0), done.err
    return place / "run"


def tensors(path: Path) -> dict[str, np.ndarray]:
    return read_weights(path).tensors


def assert_same(path: Path, expected: Path) -> None:
    found, expected = tensors(path), tensors(expected)
    assert found.keys() == expected.keys()
    assert [n for n in found if found[n].tobytes() != expected[n].tobytes()] == []


def test_the_phases_are_a_run_that_freezes_and_one_that_starts_from_its_weights(
    warm, tmp_path, image_folder, tiny_models
):
    data = dict(image_folder=image_folder, tiny_models=tiny_models, **PLAIN)
    both = trained(warm, tmp_path / "both", **data, **PHASES)
    log = (both / "train.log").read_text(encoding="utf-8")
    assert "frozen until epoch 2: stem and 1 stage" in log
    assert log.count("all layers train from epoch 3 on, with a new optimizer") == 1
    assert log.count("with graph compilation") == 2
    first = trained(warm, tmp_path / "first", **data, epoch_size=2, freeze_stages=1)
    middle = first / "tiny_regnet-2_6.ckpt"
    assert_same(both / middle.name, middle)
    second = trained(warm, tmp_path / "second", **data, epoch_size=2, ckpt_path=middle)
    assert_same(both / "tiny_regnet-4_6.ckpt", second / middle.name)


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory, image_folder, tiny_models) -> Path:
    """The folder of a run with much state, with all its checkpoints."""
    place = tmp_path_factory.mktemp("whole")
    return trained(warm, place, image_folder, tiny_models, **RICH)


@pytest.fixture(scope="module")
def stoppable():
    """Commands that a signal can stop within a step, or that take the path of the data sink."""
    with WarmCommands("mindspore", "sink_stand_in") as commands:
        yield commands


@pytest.mark.parametrize("step", [3, 12, 15])  # in either phase, of 12 steps each, and between them
def test_a_run_stopped_in_either_phase_and_between_them_comes_to_the_same_bits(
    step, stoppable, whole, tmp_path, image_folder, tiny_models
):
    options = dict(image_folder=image_folder, tiny_models=tiny_models, dataset_sink_mode=False)
    trained(stoppable, tmp_path, stop=f"SIGTERM:{step}", **options, **RICH)
    folder = trained(stoppable, tmp_path, resume="auto", **options, **RICH)
    for name in ("tiny_regnet-4_6.ckpt", "tiny_regnet-4_6.state.npz"):
        assert_same(folder / name, whole / name)
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_frozen_layers_and_their_averages_keep_every_bit_until_they_train(whole):
    one, two, last = (tensors(whole / f"tiny_regnet-{at}.ckpt") for at in ("1_6", "2_6", "4_6"))
    frozen = [n for n in one if n.removeprefix("ema.").startswith(("stem.", "stages.0."))]
    assert len(frozen) > 20
    for name in frozen:
        assert np.array_equal(one[name], two[name]), name
        assert not np.array_equal(last[name], two[name]), name


def test_an_epoch_evaluates_the_averaged_weights_alone_unless_both_are_asked_for(whole):
    log = (whole / "train.log").read_text(encoding="utf-8")
    assert "every epoch evaluates val and keeps the best weights" in log
    assert len(re.findall(r"epoch \d: averaged weights: top-1", log)) == 4
    assert not re.search(r"epoch \d: top-1", log)


def test_the_data_sink_gives_the_same_bits(stoppable, whole, tmp_path, image_folder, tiny_models):
    options = RICH | dict(dataset_sink_mode=True)
    folder = trained(stoppable, tmp_path, image_folder, tiny_models, **options)
    assert (folder / "train.log").read_text(encoding="utf-8").count("stand-in: stop_send") == 2
    assert_same(folder / "tiny_regnet-4_6.ckpt", whole / "tiny_regnet-4_6.ckpt")


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_two_ranks_unfreeze_and_stop_early_together(short_run, tmp_path):
    stops = dict(early_stop_patience=1, early_stop_min_delta=100, batch_size=4)
    options = PLAIN | PHASES | stops | dict(distribute=True, device_target="CPU", epoch_size=9)
    done = run_command(
        "train.py", *changed(short_run, **options), cwd=tmp_path, launcher=launcher(2)
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    last, frozen = (tensors(tmp_path / f"run/tiny_regnet-{at}_6.ckpt") for at in (3, 2))
    assert not np.array_equal(last["stem.conv.weight"], frozen["stem.conv.weight"])
