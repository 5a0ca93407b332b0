"""Early stopping: a run ends where Keras would end it, wherever it was interrupted before."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, short_run_in
from test_train_options import changed
from warm_commands import WarmCommands

from mindcv.checkpoint import read_manifest
from mindcv.config import load_config
from mindcv.engine import EarlyStop
from mindcv.errors import ConfigError
from mindcv.weights import read_weights

CASES = json.loads((ROOT / "tests/golden/early_stop.json").read_text(encoding="utf-8"))["cases"]
# No score is better by so much: the first evaluation stays the best one. No checkpoint of the third
# epoch is due.
STOPS = dict(epoch_size=9, early_stop_patience=2, early_stop_min_delta=100, ckpt_save_interval=4)


def test_a_run_ends_after_the_evaluation_that_keras_ends_it_after():
    assert len({ends for *_, ends in CASES}) > 8
    for scores, patience, min_delta, ends in CASES:
        stop, pairs = EarlyStop(patience, min_delta), list(enumerate(scores, 1))
        over = [n for n in range(1, len(pairs) + 1) if stop.ending(pairs[:n])]
        assert (over[0] if over else None) == ends, (scores, patience, min_delta)
    assert not EarlyStop().ending([(epoch, 50.0) for epoch in range(1, 99)])


def test_frozen_epochs_raise_the_best_score_and_are_not_counted():
    scores = [(1, 60.0), (2, 50.0), (3, 50.0), (4, 55.0), (5, 59.0)]
    assert "in epoch 3: no better" in EarlyStop(2).ending(scores)
    assert "in epoch 5: no better" in EarlyStop(2, after=3).ending(scores)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(early_stop_patience=2),
            "early_stop_patience: counts evaluations, and there are none; add",
        ),
        (dict(early_stop_min_delta=1), "early_stop_min_delta: nothing stops early; add"),
    ],
)
def test_nothing_to_wait_for_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"model": "regnet_x_200mf", **options})


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory, image_folder, tiny_models) -> Path:
    """The folder of a run that stopped early."""
    return trained(warm, tmp_path_factory.mktemp("whole"), image_folder, tiny_models)


def trained(warm, place: Path, image_folder: Path, tiny_models: Path, **options) -> Path:
    words = changed(short_run_in(place / "run", image_folder, tiny_models), **{**STOPS, **options})
    place.mkdir(exist_ok=True)
    done = warm.run(["train.py", *words], place)
    assert done.code == 0, done.err
    return place / "run"


def assert_same_weights(folder: Path, expected: Path) -> None:
    found, expected = (read_weights(one / "tiny-3_6.ckpt").tensors for one in (folder, expected))
    assert expected and all(np.array_equal(found[name], expected[name]) for name in expected)


def epochs(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def test_log_summary_and_last_checkpoint_say_why_a_run_ended(whole):
    assert epochs(whole) == ["1", "2", "3"]
    log = (whole / "train.log").read_text(encoding="utf-8")
    assert log.count("stopped early in epoch 3: no better top-1 in 2 evaluations") == 2
    assert re.search(r"best top-1 .* in epoch [123]\n", log)
    record = read_manifest(whole / "tiny-3_6.json").record
    assert record["ending"].startswith("stopped early in epoch 3") and not record["is_midway"]


def test_a_run_whose_patience_ends_in_its_last_epoch_is_whole(
    warm, tmp_path, image_folder, tiny_models
):
    folder = trained(warm, tmp_path / "three", image_folder, tiny_models, epoch_size=3)
    assert "stopped early" not in (folder / "train.log").read_text(encoding="utf-8")
    assert not read_manifest(folder / "tiny-3_6.json").record["ending"]


def test_a_run_that_goes_on_from_an_interruption_ends_in_the_same_epoch(
    warm, whole, tmp_path, image_folder, tiny_models
):
    """And one that has ended stays so, until it is given more patience."""
    set_up = dict(image_folder=image_folder, tiny_models=tiny_models, scheduler="constant")
    before = dict(epoch_size=2, early_stop_patience=0, early_stop_min_delta=0)
    trained(warm, tmp_path / "parts", **set_up, **before)
    folder = trained(warm, tmp_path / "parts", **set_up, resume="auto")
    assert epochs(folder) == ["1", "2", "3"]
    assert_same_weights(folder, trained(warm, tmp_path / "whole", **set_up))
    trained(warm, tmp_path / "parts", **set_up, resume="auto")
    assert epochs(folder) == ["1", "2", "3"]
    trained(warm, tmp_path / "parts", **set_up, resume="auto", early_stop_patience=4)
    assert epochs(folder) == ["1", "2", "3", "4", "5"]


def test_the_data_sink_ends_as_a_run_without_it(whole, tmp_path, image_folder, tiny_models):
    with WarmCommands("mindspore", "sink_stand_in") as commands:
        folder = trained(commands, tmp_path, image_folder, tiny_models, dataset_sink_mode=True)
    assert (folder / "train.log").read_text(encoding="utf-8").count("stand-in: stop_send") == 1
    assert epochs(folder) == ["1", "2", "3"]
    assert_same_weights(folder, whole)
