"""A fine-tune is evaluated unless it says otherwise; a run from random weights as MindCV's."""

import json

import pytest
from conftest import ROOT

from mindcv.config import load_config, training_remarks
from mindcv.data.datasets import has_split
from mindcv.engine.build_step import warn_of_random_weights

MODEL = {"model": "regnet_x_200mf"}


def evaluates(tmp_path, **options) -> bool:
    return load_config(None, {**MODEL, "data_dir": str(tmp_path), **options}).val_while_train


def test_mindcv_does_not_evaluate_and_neither_does_a_run_from_scratch(tmp_path):
    mindcv = json.loads((ROOT / "tests/golden/mindcv_options.json").read_text(encoding="utf-8"))
    assert '"val_while_train"' in json.dumps(mindcv)
    (tmp_path / "val").mkdir()
    assert not evaluates(tmp_path)


@pytest.mark.parametrize("start", [{"pretrained": True}, {"ckpt_path": "weights.ckpt"}])
def test_a_fine_tune_evaluates_where_there_is_a_split_for_it(tmp_path, start):
    assert not evaluates(tmp_path, **start)
    (tmp_path / "val").mkdir()
    assert evaluates(tmp_path, **start)
    assert evaluates(tmp_path, **start, early_stop_patience=3)
    assert not evaluates(tmp_path, **start, val_while_train=False)
    assert not evaluates(tmp_path, **start, val_split="test")


def test_a_run_that_continues_from_its_own_checkpoint_is_no_fine_tune(tmp_path):
    (tmp_path / "val").mkdir()
    assert not evaluates(tmp_path, ckpt_path="last.ckpt", resume_opt=True)


@pytest.mark.parametrize("rows, found", [("a.jpg,x,train\na.jpg,x,val", True), ("", False)])
def test_a_list_of_all_splits_is_looked_through(tmp_path, rows, found):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "all.csv").write_text(f"path,label,split\n{rows}")
    assert has_split("csv", str(tmp_path / "all.csv"), "val") is found


def test_a_fine_tune_that_finds_no_split_is_told_that_nothing_is_the_best(tmp_path):
    config = load_config(None, {**MODEL, "data_dir": str(tmp_path), "pretrained": True})
    ((key, remark),) = training_remarks(config)
    assert key == "val_while_train" and f"{tmp_path} has no split val; name it by" in remark
    (tmp_path / "val").mkdir()
    assert not [*training_remarks(config)]
    assert not [*training_remarks(load_config(None, {**MODEL, "data_dir": str(tmp_path / "no")}))]


def test_images_that_are_held_out_are_evaluated(tmp_path):
    assert evaluates(tmp_path, val_fraction=0.2)
    assert not evaluates(tmp_path, val_fraction=0.2, val_while_train=False)


@pytest.mark.parametrize(
    "dataset, file, found",
    [
        ("imagenet", "val", False),
        ("imagenet", "val/", True),
        ("csv", "val.csv", True),
        ("csv", "val.json", False),
        ("json", "val.json", True),
        ("json", "val.jsonl", True),
        ("multi_label", "val.csv", True),
        ("multi_label", "train.csv", False),
        ("mindrecord", "val_0.mindrecord", True),
        ("mindrecord", "train_0.mindrecord", False),
        ("cifar10", "nothing", True),
        ("own", "val/", False),
    ],
)
def test_a_split_is_found_where_its_dataset_keeps_it(tmp_path, dataset, file, found):
    root = tmp_path / "[images]"  # no pattern
    root.mkdir()
    path = root / file
    path.mkdir() if file.endswith("/") else path.touch()
    assert has_split(dataset, str(root), "val") is found


@pytest.mark.parametrize(
    "options, images, warns",
    [
        ({}, 99_999, True),
        ({"dataset": "csv"}, 500, True),
        ({"dataset": "own"}, 500, True),
        ({}, 100_000, False),
        ({"pretrained": True}, 500, False),
        ({"ckpt_path": "weights.ckpt"}, 500, False),
        ({"dataset": "cifar10"}, 50_000, False),
        ({"model": "regnet", "regnet": "w_a=8, w_0=8, w_m=2.5, d=3, group_w=8"}, 500, False),
    ],
)
def test_random_weights_on_few_images_are_warned_of_where_there_are_better(
    log_lines, options, images, warns
):
    warn_of_random_weights(load_config(None, {**MODEL, **options}), images)
    text = "\n".join(log_lines)
    assert ("TRAINING STARTS FROM RANDOM WEIGHTS" in text) is warns
    assert not warns or (f"{images:,} images" in text and "add --pretrained" in text)
