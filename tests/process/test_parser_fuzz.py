"""Tables and JSON files with random damage: read, or one of our own errors. No mindspore.

The other parsers of foreign bytes have such tests beside them: weight files in test_weight_fuzz.py
and test_checkpoint_file.py, metadata in test_described_networks.py, manifests and records of ranks
in test_foreign_folders.py, recipes in test_recipe_mutations.py.
"""

import csv
import json
import random
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_foreign_folders import mutated

from mindcv.data.bad_images import BadImages
from mindcv.data.samples.lists import ListSamples
from mindcv.data.samples.packed_set import (
    PackedSet,
    PackedSplit,
    ShardFile,
    read_packed_set,
    write_packed_set,
)
from mindcv.errors import DataError, MindCVError
from mindcv.tools.pack.shard import finished_shard
from mindcv.tools.report.run_folder import read_run_folder


@pytest.fixture(autouse=True)
def pythons_own_limit():
    """A longer field is an error of Python's reader; some packages raise the limit."""
    before = csv.field_size_limit(2**17)
    yield
    csv.field_size_limit(before)


SHARD = ShardFile("train-00000.mindrecord", 3, 5, "0" * 64, 7, "1" * 64)
PACKED = PackedSet(
    ("a", "b"), {"train": PackedSplit(3, 0, "f", (SHARD,))}, {"cap": 0}, "s", {"numpy": "1"}
)
LIST = "path,label,split\na.jpg,cat,train\nb.jpg,dog,train\n"
ROWS = [{"path": "a.jpg", "label": "cat"}, {"path": "b.jpg", "label": 1}]
METRICS = "epoch,lr,loss,val_top1\n1,0.1,2.5,10.0\n2,0.2,2.25,12.5\n"


def pack(folder: Path):
    found = read_packed_set(folder)
    return found and found.problems(folder)


def run_folder(folder: Path):
    run = read_run_folder(str(folder))
    return run.best, run.charts, run.best_checkpoint()


def bad_images(folder: Path):
    BadImages(100, 0.5, folder / "bad_images.csv").add(1, "x.jpg", "torn")


def finished(folder: Path):
    finished_shard(SimpleNamespace(record=folder / "r.json", split="train", number=0, skip_bad=1))


# The file, its content, whether it is JSON, and what reads its folder.
PARSERS = {
    "dataset.json": (None, pack),
    "r.json": ({"shard": asdict(SHARD), "bad": [["a.jpg", "torn"]]}, finished),
    "train.json": (ROWS, lambda folder: ListSamples("json", str(folder), "train")),
    "train.jsonl": (
        "\n".join(map(json.dumps, ROWS)),
        lambda folder: ListSamples("json", str(folder), "train"),
    ),
    "train.csv": (LIST, lambda folder: ListSamples("csv", str(folder), "train")),
    "metrics.csv": (METRICS, run_folder),
    "bad_images.csv": ("index,path,error,count\n0,a.jpg,torn,1\n", bad_images),
}
PARTS = ['"', ",", "\n", "\r", "\0", "9" * 5000, "-", "1e999", "x" * 140_000, "\ud800", "[", "٣"]


@pytest.mark.parametrize("rounds", [100, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_table_or_json_file_is_read_or_refused(tmp_path, caplog, name, rounds):
    write_packed_set(tmp_path, PACKED)
    (tmp_path / "config.yaml").write_text("model: regnet_x_200mf\n")
    for image in ("a.jpg", "b.jpg"):
        (tmp_path / image).touch()
    path, (content, read) = tmp_path / name, PARSERS[name]
    content = content or json.loads(path.read_text())
    others = {each: each.read_bytes() for each in tmp_path.iterdir() if each != path}
    outcomes = set()
    for seed in range(-1, rounds):
        rng = random.Random(seed)
        is_json = not isinstance(content, str)
        changed = mutated(content, rng) if is_json and seed >= 0 else content
        text = json.dumps(changed) if is_json else content
        for _ in range(rng.randrange(not is_json, 3) if seed >= 0 else 0):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(PARTS) + text[at + rng.randrange(5) :]
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            read(tmp_path)
            outcomes.add("read")
        except MindCVError as error:
            assert str(tmp_path) in str(error)
            outcomes.add("refused")
    assert "read" in outcomes
    assert {each: each.read_bytes() for each in tmp_path.iterdir() if each != path} == others


@pytest.mark.parametrize("name", [name for name in PARSERS if "json" in name and name[0] != "r"])
def test_json_of_much_depth_is_refused(tmp_path, name):
    (tmp_path / name).write_text("[" * 60_000)
    with pytest.raises(DataError, match=name):
        PARSERS[name][1](tmp_path)


@pytest.mark.parametrize("file", ["../victim", "/etc/hostname", "a/../../victim", "a\0b", 7, None])
def test_a_packed_dataset_names_shards_of_its_own_folder_only(tmp_path, file):
    (tmp_path / "victim").write_text("outside")
    folder = tmp_path / "packed"
    folder.mkdir()
    write_packed_set(folder, PACKED)
    contents = json.loads((folder / "dataset.json").read_text())
    contents["splits"]["train"]["shards"][0]["file"] = file
    (folder / "dataset.json").write_text(json.dumps(contents))
    with pytest.raises(DataError, match=r"dataset.json is damaged"):
        read_packed_set(folder)


def test_a_row_of_much_text_is_told_and_the_others_count(tmp_path):
    (tmp_path / "config.yaml").write_text("model: regnet_x_200mf\n")
    (tmp_path / "metrics.csv").write_text(METRICS + '3,"' + "x" * 140_000 + '"\n')
    run = read_run_folder(str(tmp_path))
    assert [row.epoch for row in run.rows] == [1, 2]
    assert any(note.startswith("line 4 of metrics.csv, ") for note in run.notes)
    assert np.isfinite(run.best.values["val_top1"])
