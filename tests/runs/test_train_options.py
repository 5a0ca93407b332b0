"""train.py with the options of the training step: each changes what it should, and only that."""

import ast
import csv
import re
import shutil

import mindspore as ms
import numpy as np
import pytest
from commands import tiny_regnet
from conftest import ROOT, launcher, run_command

from mindcv.__main__ import main as tools

OFF = {"scale": "0.5,1.0", "hflip": "0.5", "shuffle": "True"}


def changed(arguments, **options) -> list[str]:
    arguments = list(arguments)
    for key, value in options.items():
        if f"--{key}" in arguments:
            arguments[arguments.index(f"--{key}") + 1] = str(value)
        else:
            arguments += [f"--{key}", str(value)]
    return arguments


def run(arguments, tmp_path, name, **options):
    """Run train.py into the folder `name`; return (rows of metrics.csv, what it printed)."""
    arguments = changed(arguments, **{"ckpt_save_dir": tmp_path / name, **options})
    done = run_command("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / name / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file)), done.stdout


def validated(tmp_path, checkpoint, *words) -> dict:
    done = run_command("validate.py", *words, "--ckpt_path", checkpoint, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def column(rows, name):
    return [row[name] for row in rows]


def test_averages_and_precise_statistics_are_seen_and_leave_the_training_alone(short_run, tmp_path):
    plain, _ = run(short_run, tmp_path, "plain", model="tiny_regnet", **OFF)
    options = {"ema": True, "ema_decay": 0.9, "precise_bn_samples": 16, "epoch_size": 3}
    options["val_weights"] = "both"
    rows, printed = run(short_run, tmp_path, "both", model="tiny_regnet", **OFF, **options)
    assert column(rows, "train_loss") == column(plain, "train_loss")
    assert column(rows, "val_loss") != column(plain, "val_loss")  # precise statistics
    assert column(rows, "ema_val_loss") != column(rows, "val_loss")
    assert printed.count("averaged weights: top-1") == 3

    # validate.py finds either figure in the one file; the averages are its first choice.
    whole, spoilt = tmp_path / "both/tiny_regnet-3_6.ckpt", tmp_path / "spoilt.ckpt"
    data = ("--data_dir", short_run[5])
    for key, words in (("val_loss", (*data, "--ema", "False")), ("ema_val_loss", data)):
        figures = validated(tmp_path, whole, *short_run[:2], *words)
        assert figures["loss"] == pytest.approx(float(rows[-1][key]), abs=1e-5)
    # It measures the statistics of a file as the run did, on the same training images.
    entries = ms.load_checkpoint(str(whole))
    for name, entry in entries.items():
        if "moving_" in name:
            entry.set_data(entry + 1)
    ms.save_checkpoint(list(entries.values()), str(spoilt))
    figures = validated(tmp_path, spoilt, "--config", tmp_path / "both/config.yaml")
    assert figures["loss"] == pytest.approx(float(rows[-1]["ema_val_loss"]), abs=1e-6)
    averages = [row["ema_val_top1"] for row in rows]
    best = re.findall(r"best so far: top-1 ([\d.]+) %", printed)[-1]
    assert float(best) == pytest.approx(max(map(float, averages)), abs=1e-3)


def test_accumulation_is_the_larger_batch_and_leaves_no_half_update(short_run, tmp_path):
    large, _ = run(short_run, tmp_path, "large", batch_size=16)
    small, printed = run(short_run, tmp_path, "small", batch_size=8, gradient_accumulation_steps=2)
    assert column(small, "lr") == column(large, "lr")
    for one, other in zip(large, small):
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), rel=1e-5)
    assert "3 steps per epoch" in printed and "are skipped" not in printed
    _, printed = run(
        short_run, tmp_path, "four", batch_size=8, gradient_accumulation_steps=4, epoch_size=2
    )
    assert "the last 2 batches of each epoch are skipped" in printed
    assert "1 step per epoch, 2 epochs, 2 steps" in printed


def test_an_epoch_that_cannot_be_trained_is_refused_with_what_helps(short_run, tmp_path):
    """48 images: of two batches of 47 the last has one, and that no variance on a 1x1 map."""

    def refusal(**options) -> str:
        words = changed(short_run, **options)
        done = run_command("train.py", *words, "--dry_run", cwd=tmp_path)
        assert done.returncode == 4, done.stderr
        return done.stderr

    told = refusal(model="tiny_regnet", image_resize=8, batch_size=47, drop_remainder=False)
    assert "a batch of one image" in told and "drop_remainder True" in told and "lr" not in told
    told = refusal(batch_size=30, gradient_accumulation_steps=2)
    assert "lower batch_size or gradient_accumulation_steps, or set drop_remainder False" in told
    told = refusal(batch_size=20, gradient_accumulation_steps=4)
    assert "do not fill 4 batches of 20" in told and "drop_remainder" not in told


def test_clipping_scaled_rates_and_precision_change_the_run_as_they_say(short_run, tmp_path):
    plain, _ = run(short_run, tmp_path, "plain", warmup_epochs=0)
    for name, options in {
        "norm": {"clip_grad": True, "clip_value": 0.01},
        "value": {"clip_grad": True, "clip_value": 0.01, "clip_mode": "value"},
        "half": {"amp_level": "O1", "amp_cast_list": "nn.Dense"},
    }.items():
        rows, _ = run(short_run, tmp_path, name, warmup_epochs=0, **options)
        assert column(rows, "train_loss") != column(plain, "train_loss"), name
    scaled, printed = run(short_run, tmp_path, "scaled", warmup_epochs=0, lr_base_size=4)
    assert float(scaled[0]["lr"]) == pytest.approx(2 * float(plain[0]["lr"]), rel=1e-3)
    assert "lr 0.01 scaled to 0.02: 8 images an update, lr_base_size 4" in printed


def test_frozen_stages_keep_every_bit_through_a_run(short_run, tmp_path):
    _, free = run(short_run, tmp_path, "one", model="tiny_regnet", epoch_size=2)
    start = tmp_path / "one/tiny_regnet-2_6.ckpt"
    options = {"model": "tiny_regnet", "ckpt_path": start, "freeze_stages": 1, "epoch_size": 2}
    _, printed = run(short_run, tmp_path, "frozen", layer_lr="stem=0.1, head=0.5", **options)
    assert "parameters are frozen: stem and 1 stage\n" in printed
    assert re.findall("layer_lr: the factor of (.+) changes nothing", printed) == ["stem"]
    (size,) = re.findall("model tiny_regnet: .+", free)
    assert size in printed  # of the whole network
    before = ms.load_checkpoint(str(start))
    after = ms.load_checkpoint(str(tmp_path / "frozen/tiny_regnet-2_6.ckpt"))
    for name, value in before.items():
        same = np.array_equal(value.asnumpy(), after[name].asnumpy())
        assert same == name.startswith(("stem.", "stages.0.", "mindcv.")), name


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_batch_norm_over_two_ranks_is_that_of_the_doubled_batch(short_run, tmp_path):
    alone, _ = run(short_run, tmp_path, "alone", model="tiny_regnet", batch_size=8)
    arguments = list(short_run)
    for key, value in {"model": "tiny_regnet", "batch_size": 4}.items():
        arguments[arguments.index(f"--{key}") + 1] = str(value)
    done = run_command(
        "train.py",
        *(*arguments, "--distribute", "True", "--device_target", "CPU", "--sync_bn", "True"),
        cwd=tmp_path,
        launcher=launcher(2),
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run/metrics.csv").open(encoding="utf-8") as file:
        both = list(csv.DictReader(file))
    for one, other in zip(alone, both):
        for key in ("train_loss", "val_loss"):
            assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-4)
    first = ms.load_checkpoint(str(tmp_path / "alone/tiny_regnet-3_6.ckpt"))
    second = ms.load_checkpoint(str(tmp_path / "run/tiny_regnet-3_6.ckpt"))
    for name in first:
        np.testing.assert_allclose(
            first[name].asnumpy(), second[name].asnumpy(), 1e-3, 1e-5, err_msg=name
        )


def test_the_finetuning_recipe_goes_from_a_converted_file_to_a_classifier(
    tiny_models, image_folder, tmp_path
):
    """Weights of another library's naming in, a classifier of the folder's classes out."""
    network = tiny_regnet(9, se_r=0.0)
    ours, theirs = str(tmp_path / "start.ckpt"), str(tmp_path / "start.safetensors")
    ms.save_checkpoint(network, ours)
    tools(["convert", ours, theirs, "--names", "timm"])
    shutil.copytree(image_folder, tmp_path / "images")
    done = run_command(
        "train.py",
        *("--config", ROOT / "configs/finetune_folder.yaml", "--import_module", tiny_models),
        *("--model", "tiny_regnet", "--ckpt_path", theirs, "--image_resize", 32),
        *("--batch_size", 8, "--epoch_size", 3, "--warmup_epochs", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "classifier re-initialised: 9 classes in the file, 6 here" in done.stdout
    best = tmp_path / "finetuned/tiny_regnet_best.ckpt"
    checked = run_command(
        "validate.py",
        *("--data_dir", "images", "--ckpt_path", best, "--ema", "--import_module", tiny_models),
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stderr
    assert "{'Top_1_Accuracy': " in checked.stdout
