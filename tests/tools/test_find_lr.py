"""`python -m mindcv find-lr`: fastai's suggestions for the losses of a run's own training."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, short_run_in
from test_train_options import changed

from mindcv.__main__ import _parse
from mindcv.errors import ConfigError, DataError
from mindcv.tools import find_lr

GOLDEN = json.loads((ROOT / "tests/golden/lr_find.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("curve", GOLDEN["curves"], ids=lambda curve: f"{curve['valley']:.1e}")
def test_a_curve_is_smoothed_and_suggests_as_in_fastai(curve):
    smoothed, shown = find_lr.smooth(curve["losses"]), slice(10, -5)
    assert smoothed[-1] == pytest.approx(curve["last"], rel=1e-9)
    found = find_lr.suggestions(GOLDEN["rates"][shown], smoothed[shown])
    expected = [curve["valley"], curve["steep"], curve["minimum"]]
    assert list(found.values()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("growth", [0.0, 0.1])
def test_a_curve_that_never_falls_suggests_nothing(growth):
    losses = [2.0 + growth * step for step in range(30)]
    with pytest.raises(DataError, match="never falls between lr 1 and 30; lower --start_lr"):
        find_lr.suggestions(range(1, 31), losses)


def test_a_curve_that_hardly_falls_is_called_uncertain():
    flat, clear = [2.3, 2.31, 2.25, 2.28, 9.0], [2.3, 2.2, 1.9, 2.0, 9.0]
    assert find_lr.doubts(clear) == []
    (line,) = find_lr.doubts(flat)
    assert line.startswith("uncertain: the loss fell by only 2.2 %") and "more --steps" in line


def found(warm, place: Path, image_folder: Path, tiny_models: Path, *words, **options):
    words = [*changed(short_run_in(place / "run", image_folder, tiny_models), **options), *words]
    return warm.run(["mindcv", "find-lr", *words], place)


def test_a_sweep_is_the_runs_own_training_and_leaves_no_trace(
    warm, tmp_path, image_folder, tiny_models
):
    """A constant rate, in all but name, gives the losses of train.py with it, to the last bit."""
    options = dict(scheduler="constant", warmup_epochs=0, lr=0.01, epoch_size=4, log_interval=1)
    options |= dict(model="tiny_regnet", freeze_stages=0, unfreeze_epoch=3, ema=True)
    words = ["--start_lr", 0.01, "--end_lr", 0.0100000001, "--steps", 20, "--csv", "sweep.csv"]
    before = sorted(tmp_path.rglob("*"))
    done = found(warm, tmp_path, image_folder, tiny_models, *words, **options)
    assert done.code == 0, done.err
    written = [path.name for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert written == ["sweep.csv"]
    with (tmp_path / "sweep.csv").open(encoding="utf-8") as file:
        losses = [f"{float(row['loss']):.4f}" for row in csv.DictReader(file)]

    words = changed(short_run_in(tmp_path / "run", image_folder, tiny_models), **options)
    trained = warm.run(["train.py", *words], tmp_path)
    assert trained.code == 0, trained.err
    expected = re.findall(r"loss ([\d.]+) lr 0.01", trained.out)
    assert losses[:18] == expected[:18] and len(losses) == 20  # until its layers unfreeze


def test_by_default_the_sweep_goes_round_the_images_and_finds_a_rate_that_trains(
    warm, tmp_path, image_folder, tiny_models
):
    """A run with it ends with a lower loss than runs with a tenth and ten times of it."""
    done = found(warm, tmp_path, image_folder, tiny_models, "--csv", "sweep.csv")
    assert done.code == 0 and "uncertain" not in done.out, done.err
    with (tmp_path / "sweep.csv").open(encoding="utf-8") as file:
        assert len([*csv.DictReader(file)]) > 60  # an epoch has 6
    suggested = float(re.search(r"--lr ([\d.e-]+)$", done.out.strip())[1])
    losses = {}
    for lr in (suggested / 10, suggested, suggested * 10):
        folder = tmp_path / f"lr {lr:.1g}"
        words = changed(short_run_in(folder, image_folder, tiny_models), lr=lr)
        assert warm.run(["train.py", *words], tmp_path).code == 0
        with (folder / "metrics.csv").open(encoding="utf-8") as file:
            losses[lr] = float([*csv.DictReader(file)][-1]["train_loss"])
    assert min(losses, key=losses.get) == suggested, losses


def test_a_growing_rate_diverges_and_suggests_one_that_trains(
    warm, tmp_path, image_folder, tiny_models
):
    words = ["--start_lr", 1e-4, "--end_lr", 1000, "--plot", "sweep.png"]
    options = dict(batch_size=16, lr_base_size=64, gradient_accumulation_steps=2)
    done = found(warm, tmp_path, image_folder, tiny_models, *words, **options)
    assert done.code == 0, done.err
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    lines = done.out.splitlines()
    assert sum(" |" in line for line in lines) == 12
    rates = dict(re.findall(r"(valley|steep|minimum/10) ([\d.e-]+)", lines[-3]))
    assert len(rates) == 3 and all(1e-4 < float(rate) < 100 for rate in rates.values())
    told = float(re.search(r"train with the same options and --lr ([\d.e-]+)$", lines[-1])[1])
    assert told == pytest.approx(2 * float(rates["valley"]), rel=0.1)  # 32 images an update


@pytest.mark.parametrize(
    "words, message",
    [
        (["--start_lr", 1, "--end_lr", 0.1], "--start_lr 1 is not below --end_lr 0.1"),
        (["--steps", 5], "--steps"),
        (["--resume", "auto"], "resume: find-lr starts from the weights"),
        (["--model", "regnet_x_201mf"], "regnet_x_200mf"),
        (["--dry_run", True], "dry_run: find-lr has none"),
        (["--show_batch", "batch.png"], "show_batch: find-lr has none"),
        (["--profile", 3], "profile: find-lr has none"),
        (["--summary_dir", "summary"], "summary_dir: find-lr has none"),
        (["--plot", "nowhere/a.png"], "plot 'nowhere/a.png': there is no folder 'nowhere'"),
        (["--csv", "."], "csv '.' is a folder"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_built(words, message):
    with pytest.raises(ConfigError, match=message):
        base = ["find-lr", "--model", "regnet_x_200mf"]
        _, arguments = _parse(list(map(str, [*base, *words])))
        find_lr.run(arguments)


def test_a_missing_matplotlib_is_told_before_the_sweep(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(find_lr, "sweep", None)
    words = ["find-lr", "--model", "regnet_x_200mf", "--plot", "rates.png"]
    with pytest.raises(ConfigError, match="needs the package matplotlib"):
        find_lr.run(_parse(words)[1])


def test_a_first_rate_that_diverges_is_told(warm, tmp_path, image_folder, tiny_models):
    words = ["--start_lr", 1e5, "--end_lr", 1e9]
    done = found(warm, tmp_path, image_folder, tiny_models, *words)
    assert done.code == 4 and "lower --start_lr" in done.err
