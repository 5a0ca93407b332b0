"""`design-space sample` writes a study, and the real train.py trains its models."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import call
from conftest import ROOT

from mindcv.config import Config, dump_config, load_config
from mindcv.errors import RunFolderError
from mindcv.tools.design_space.study import (
    append_record,
    read_population,
    read_records,
    read_study,
)
from mindcv.tools.design_space.training import Training, result_of, shares

SPACE = {"name": "mine", "base": "regnet_x", "parameters": {"d": [4, 8], "group_w": 8}}
STUDY = {
    "seed": 3,
    "count": 2,
    "image_size": 32,
    "num_classes": 6,
    "limits": {"macs": ["5e5", 3e6]},
    "spaces": [SPACE],
    "train": {
        "batch_size": 8,
        "lr": "1e-3",
        "warmup_epochs": 0,
        "data_dir": ".",
        "scale": [0.5, 1.0],
    },
}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def sample(capsys, tmp_path, name="study", **changes) -> tuple[int, str, str]:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    return call(capsys, "design-space", "sample", path, "--output", tmp_path / name)


def test_a_sampled_study_says_everything_that_its_trainings_need(capsys, tmp_path):
    code, out, err = sample(capsys, tmp_path)
    assert (code, err) == (0, "") and "2 models; train" in out
    assert "mine: 2 models of 1.7e+09 settings" in out  # 5 x 31 x 2480 x 1501 x 3
    study = read_study(tmp_path / "study/study.yaml")
    assert study == read_study(tmp_path / "mine.yaml")
    assert (study.limits, study.workers, study.devices) == ({"macs": (5e5, 3e6)}, 1, 1)
    config = load_config(str(tmp_path / "study/recipe.yaml"), rules=lambda config: ())
    assert (config.lr, config.scale, config.batch_size) == (1e-3, (0.5, 1.0), 8)
    assert (config.image_resize, config.num_classes, config.distribute) == (32, 6, False)
    assert config.val_while_train and config.data_dir == str(tmp_path)
    models = read_population(tmp_path / "study")
    assert [model["index"] for model in models] == [0, 1]
    assert all(5e5 <= model["macs"] <= 3e6 for model in models)


def test_a_recipe_lies_below_the_options_of_the_study(capsys, tmp_path):
    train = {"config": str(ROOT / "configs/demo.yaml"), "epoch_size": 2}
    assert sample(capsys, tmp_path, train=train, devices=2)[0] == 0
    recipe = load_config(str(ROOT / "configs/demo.yaml"))
    config = load_config(str(tmp_path / "study/recipe.yaml"), rules=lambda config: ())
    assert (config.dataset, config.opt, config.lr) == (recipe.dataset, recipe.opt, recipe.lr)
    assert (config.epoch_size, config.distribute, config.model) == (2, True, "")


def test_options_are_read_as_in_a_recipe(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    train = "train: {compile_cache: off, shuffle: no, dataset_sink_mode: true, epoch_size: 4}"
    path.write_text(f"spaces: [regnet_x]\ncount: 1\n{train}\n")
    assert call(capsys, "design-space", "sample", path, "--output", "study")[0] == 0
    config = load_config(str(tmp_path / "study/recipe.yaml"), rules=lambda config: ())
    assert (config.compile_cache, config.shuffle, config.epoch_size) == ("off", False, 4)
    assert config.dataset_sink_mode is True


def test_a_folder_with_a_population_is_left_alone(capsys, tmp_path):
    assert sample(capsys, tmp_path)[0] == 0
    before = (tmp_path / "study/population.jsonl").read_text()
    code, _, err = sample(capsys, tmp_path, seed=4)
    assert code == 2 and "holds a population already" in err
    assert (tmp_path / "study/population.jsonl").read_text() == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 3}, "unknown key 'epochs'; known: spaces, limits, train, seed"),
        ({"spaces": []}, "spaces: expected a list of names"),
        ({"spaces": [3]}, "spaces: 3 is unknown; known: anynet_x_a"),
        ({"train": ["lr"]}, "train: expected a mapping, got ['lr']"),
        ({"spaces": ["anynet_x_z"]}, "'anynet_x_z' is unknown"),
        ({"limits": [1, 2]}, "limits: expected a mapping, got [1, 2]"),
        ({"limits": {"macs": [None, 5]}}, "limits: macs: expected [low, high], got [None, 5]"),
        ({"spaces": [SPACE | {"parameters": {"w_0": 12}}]}, "w_0=12, "),
        ({"count": 0}, "count: 0 is out of range, expected at least 1"),
        ({"workers": "two"}, "workers: expected an integer, got 'two'"),
        ({"budget": math.inf}, "budget: expected a finite number, got 'inf'"),
        ({"limits": {"macs": [3, 2]}}, "limits: macs: expected [low, high], got [3, 2]"),
        ({"train": {"model": "regnet_x_200mf"}}, "train: model: spaces set it; leave it out"),
        ({"train": {"early_stop_patience": 3}}, "train: early_stop_patience: all models"),
        ({"train": {"early_stop_min_delta": 3}}, "train: early_stop_min_delta: all models"),
        (
            {"train": {"batchsize": 8}},
            "mine.yaml: train: unknown key 'batchsize'; did you mean batch_size",
        ),
        ({"train": {"batch_size": -8}}, "batch_size: -8 is out of range"),
        ({"train": {"aug_splits": 3}}, "mine.yaml: train: aug_splits: "),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_written(capsys, tmp_path, changes, message):
    code, _, err = sample(capsys, tmp_path, **changes)
    assert code == 2 and message in err
    assert not (tmp_path / "study").exists()


def test_a_key_that_is_set_twice_is_refused(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("spaces: [regnet_x]\nseed: 1\ncount: 3\nseed: 2\n")
    code, _, err = call(capsys, "design-space", "sample", path)
    assert code == 2 and f"error: {path}:4: seed is set twice; keep one" in err


def test_a_record_is_added_after_a_line_that_was_cut(tmp_path):
    (tmp_path / "records.jsonl").write_text('{"id": "x", "error": 1}\n{"id": "y", "err')
    append_record(tmp_path, {"id": "z"})
    assert read_records(tmp_path) == ({"x": {"id": "x", "error": 1}, "z": {"id": "z"}}, [])


def test_a_recipe_that_cannot_be_written_tells_that_the_command_goes_on(tmp_path):
    config = Config(ckpt_save_dir=str(tmp_path))
    (tmp_path / f".recipe.yaml.{os.getpid()}").mkdir()
    with pytest.raises(RunFolderError, match="recipe.yaml cannot be .*; the same command goes on"):
        Training(config, 1, {}, shares(1, 1)[0])


def test_the_error_of_several_labels_is_of_the_mean_average_precision(tmp_path):
    (tmp_path / "config.yaml").write_text(dump_config(Config(dataset="multi_label", loss="BCE")))
    head = "epoch,step,train_loss,lr,val_loss,val_map"
    (tmp_path / "metrics.csv").write_text(f"{head}\n1,4,0.5,0.1,0.7,60.5\n")
    assert result_of(tmp_path) == {"errors": [39.5], "loss": 0.5, "epochs": 1, "seconds": 0}


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize("devices", [1, 2])
def test_train_py_trains_the_population(capsys, tmp_path, image_folder, devices):
    train = STUDY["train"] | {"data_dir": str(image_folder), "epoch_size": 2}
    sample(capsys, tmp_path, train=train, devices=devices, count=3 - devices)
    words = [sys.executable, "-m", "mindcv", "design-space", "run", str(tmp_path / "study")]

    def run(*options: str) -> dict[str, dict]:
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*words, *options], env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{3 - devices} trained, 0 failed" in done.stdout
        return read_records(tmp_path / "study")[0]

    first = run("--keep")
    tables = {path: path.read_text() for path in tmp_path.glob("study/runs/*/metrics.csv")}
    (tmp_path / "study/records.jsonl").unlink()  # a kill before it was written
    found = run()
    assert tables == {path: path.read_text() for path in tables} and len(tables) == len(first)
    for name, record in found.items():
        assert first[name] | {"seconds": 0} == record | {"seconds": 0}
        folder = Path(tmp_path, "study/runs", name)
        lines = (folder / "metrics.csv").read_text().splitlines()
        rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
        assert record["errors"] == [pytest.approx(100 - float(row["val_top1"])) for row in rows]
        assert (record["error"], record["epochs"]) == (record["errors"][-1], 2)
        assert record["loss"] == float(rows[-1]["train_loss"]) and not list(folder.glob("*.ckpt"))
        assert (folder / "ranks/1.json").exists() == (devices == 2)
