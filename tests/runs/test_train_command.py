"""train.py and validate.py as a user runs them."""

import ast
import contextlib
import csv
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import mindspore as ms
import pytest
import yaml
from conftest import ROOT, run_command
from deprecations import SHOW_DEPRECATIONS, check_deprecations

from mindcv.config import load_config
from mindcv.errors import ConfigError
from mindcv.process.entry_point import check_environment
from mindcv.weights import read_weights, write_weights
from mindcv.weights.guards import ENTRY


def rows(folder: Path) -> list[dict]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_config_log_metrics_and_checkpoints(short_run, tmp_path):
    done = run_command("train.py", *short_run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    beside = (".ckpt", ".json", ".state.npz")
    assert names == {
        ".lock",
        "classes.json",
        "config.yaml",
        "metrics.csv",
        "train.log",
        *(f"tiny-{epoch}_6{suffix}" for epoch in (1, 2, 3) for suffix in beside),
        "tiny_best.ckpt",
        "tiny_best.json",
    }
    # Another test may have left the graph in the cache: then a line says so.
    lines = [one for one in done.stdout.splitlines() if not one.startswith("compile cache: ")]
    compiling = lines.index("compiling the training step ...")
    assert lines[compiling + 1].startswith("first step with graph compilation: ")
    assert re.search(r"^done in 0:00:\d\d, \d+ images/s in training$", done.stdout, re.MULTILINE)
    taken = re.findall(r"^  ([a-z, ]+[a-z]) +(\d+\.\d) +\d+\.\d$", done.stdout, re.MULTILINE)
    assert ["start", "compile, first step", "data wait", "steps", "evaluation"] == [
        name for name, _ in taken[:5]
    ]
    *parts, total = (float(seconds) for _, seconds in taken)
    assert sum(parts) == pytest.approx(total, abs=0.05 * len(taken))
    assert lines[-1].startswith("next: ") and lines[-1].endswith(f"python -m mindcv report {run}")
    command = lines[-1].removeprefix("next: ").replace("python", sys.executable, 1)
    reported = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert reported.returncode == 0, reported.stderr
    assert re.search(r"epoch 3/3 step 6/6 loss [\d.]+ lr [\d.e-]+ \d+ images/s, ", done.stdout)
    table = rows(run)
    assert [row["step"] for row in table] == ["6", "12", "18"]
    assert float(table[2]["train_loss"]) < float(table[0]["train_loss"])
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "epoch 2/3 step 4/6" in log and "\r" not in log
    entries = ms.load_checkpoint(str(run / "tiny-3_6.ckpt"))
    assert set(entries) == {"fc.weight", "fc.bias", ENTRY}

    # The resolved config reproduces the run; an earlier run's metrics are kept.
    (tmp_path / "again").mkdir()
    (tmp_path / "again/metrics.csv").write_text("old", encoding="utf-8")
    again = run_command(
        "train.py",
        *("--config", run / "config.yaml", "--ckpt_save_dir", tmp_path / "again"),
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
    assert (tmp_path / "again/metrics-1.csv").read_text(encoding="utf-8") == "old"

    # validate.py finds the accuracy that the run reported.
    checked = run_command(
        "validate.py",
        *("--config", run / "config.yaml", "--ckpt_path", run / "tiny-2_6.ckpt"),
        cwd=tmp_path,
    )
    assert checked.returncode == 0, checked.stderr
    figures = ast.literal_eval(checked.stdout.strip().splitlines()[-1])
    assert list(figures) == ["Top_1_Accuracy", "Top_5_Accuracy", "loss"]
    for key, column in (("Top_1_Accuracy", "val_top1"), ("Top_5_Accuracy", "val_top5")):
        assert 100 * figures[key] == pytest.approx(float(table[1][column]), abs=1e-4)
    assert f"top-1 {100 * figures['Top_1_Accuracy']:.3f} %" in checked.stdout
    assert figures["loss"] == pytest.approx(float(table[1]["val_loss"]), abs=1e-5)


def test_every_mode_gives_the_same_metrics_and_no_new_deprecation_warning(short_run, tmp_path):
    tables, log = {}, ""
    for name, options in {
        "sink": ("--dataset_sink_mode", "True"),
        "plain": ("--dataset_sink_mode", "False"),
        "pynative": ("--mode", "1"),
    }.items():
        folder = tmp_path / name
        # The last value of an option wins.
        arguments = [*short_run, *options, "--model", "tiny_regnet", "--ckpt_save_dir", folder]
        done = run_command("train.py", *arguments, cwd=tmp_path, env=SHOW_DEPRECATIONS)
        assert done.returncode == 0, done.stderr
        tables[name] = rows(folder)
        log += (folder / "train.log").read_text(encoding="utf-8")
    check_deprecations(log, ms.__version__)
    assert tables["sink"] == tables["plain"]
    for one, other in zip(tables["plain"], tables["pynative"]):
        assert one["val_top1"] == other["val_top1"]
        assert float(one["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-5)


def test_dry_run_builds_everything_and_tells_it(image_folder, tmp_path):
    done = run_command(
        "train.py",
        *("--model", "regnet_x_200mf", "--data_dir", image_folder, "--batch_size", 16),
        *("--dry_run", "--val_while_train", "--distribute", "True"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # 1000 classes less 994 of them, 369 parameters each
    assert "2,318,006 parameters" in done.stdout
    assert "MACs for an image of 224 x 224" in done.stdout
    assert "3 steps per epoch, 90 epochs, 270 steps" in done.stdout
    assert done.stdout.count("lr ") >= 8
    text = done.stdout.split("resolved config:\n")[1].rsplit("dry run", 1)[0]
    assert yaml.safe_load(text)["batch_size"] == 16
    assert not (tmp_path / "ckpt").exists()


MINDCV_X_800MF = """
# system
mode: 0
distribute: True
val_while_train: True
# dataset
dataset: 'imagenet'
data_dir: '/path/to/imagenet'
shuffle: True
num_parallel_workers: 8
batch_size: 64
# augmentation
image_resize: 224
scale: [0.08, 1.0]
interpolation: 'bilinear'
re_prob: 0.1
# model
model: 'regnet_x_800mf'
num_classes: 1000
epoch_size: 200
dataset_sink_mode: True
amp_level: 'O3'
# loss
loss: 'CE'
label_smoothing: 0.1
# lr scheduler
scheduler: 'cosine_decay'
min_lr: 0.0
lr: 0.1
warmup_epochs: 5
warmup_factor: 0.01
decay_epochs: 195
lr_epoch_stair: True
# optimizer
opt: 'momentum'
momentum: 0.9
weight_decay: 0.0001
loss_scale: 128
use_nesterov: False
"""


def test_a_mindcv_recipe_passes_the_dry_run(image_folder, tmp_path):
    recipe = tmp_path / "regnet_x_800mf_ascend.yaml"
    recipe.write_text(MINDCV_X_800MF, encoding="utf-8")
    done = run_command(
        "train.py",
        *("--config", recipe, "--data_dir", image_folder, "--dry_run", "--batch_size", 24),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "7,259,656 parameters (7.26 M)" in done.stdout


def test_the_richest_recipe_trains_a_step(image_folder, tiny_models, tmp_path):
    """RandAugment, mixup, cutmix, erasing, repeats, float16 and a dynamic scale together."""
    recipe = ROOT / "configs/regnet/regnet_y_16gf_ascend.yaml"
    done = run_command(
        "train.py",
        *("--config", recipe, "--data_dir", image_folder, "--distribute", "False"),
        *("--import_module", tiny_models, "--model", "tiny_regnet"),
        *("--image_resize", 32, "--batch_size", 24, "--epoch_size", 2),
        *("--warmup_epochs", 1, "--decay_epochs", 1, "--num_classes", 6),
        *("--ckpt_save_dir", tmp_path / "run", "--log_interval", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "run")) == 2


def test_fine_tuning_takes_any_file_name_and_a_new_head(short_run, image_folder, tmp_path):
    arguments = [*short_run, "--num_classes", "9"]
    arguments[arguments.index("--model") + 1] = "tiny_regnet"
    assert run_command("train.py", *arguments, cwd=tmp_path).returncode == 0
    weights = tmp_path / "my weights.final"
    (tmp_path / "run/tiny_regnet-3_6.ckpt").rename(weights)
    arguments = arguments[:-2] + ["--ckpt_path", str(weights)]
    arguments[arguments.index("--ckpt_save_dir") + 1] = str(tmp_path / "tuned")
    done = run_command("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "classifier re-initialised: 9 classes in the file, 6 here" in done.stdout

    arguments[arguments.index("--ckpt_save_dir") + 1] = str(tmp_path / "none")
    missing = run_command("train.py", *arguments[:-1], tmp_path / "no.ckpt", cwd=tmp_path)
    assert missing.returncode == 5
    assert "no.ckpt" in missing.stderr and "Traceback" not in missing.stderr

    # For an accuracy a new head would be nonsense.
    plain = strip(weights, tmp_path / "plain.ckpt")
    checked = run_command(
        "validate.py",
        *("--import_module", arguments[1], "--model", "tiny_regnet", "--image_resize", 32),
        *("--data_dir", image_folder, "--ckpt_path", plain),
        cwd=tmp_path,
    )
    assert checked.returncode != 0 and "9" in checked.stderr and "6" in checked.stderr


def strip(checkpoint: Path, path: Path) -> Path:
    """Write the weights alone, as MindCV does, without what tells their model and classes."""
    write_weights(path, read_weights(checkpoint).tensors)
    return path


def test_validation_needs_no_more_than_the_file_and_the_images(
    short_run, image_folder, tmp_path, warm
):
    """Model, classes, sizes and normalisation come from the checkpoint; no train folder there."""
    arguments = [*short_run, "--crop_pct", "0.7", "--mean", "9,20,30", "--interpolation", "bicubic"]
    arguments += ["--crop_mode", "squash", "--image_resize", "16", "64"]

    def validate(*words):
        return warm.run(["validate.py", *words], tmp_path)

    assert warm.run(["train.py", *arguments], tmp_path).code == 0
    copy = tmp_path / "images"
    shutil.copytree(image_folder / "val", copy / "val")
    last = rows(tmp_path / "run")[-1]
    best = tmp_path / "run/tiny-3_6.ckpt"
    asked = ("--import_module", arguments[1], "--data_dir", copy, "--ckpt_path", best)
    # Also with a recipe for several devices, whose distribute needs no launcher here.
    done = validate(*asked, "--distribute", "True")
    assert done.code == 0, done.err
    figures = ast.literal_eval(done.out.strip().splitlines()[-1])
    assert figures["loss"] == pytest.approx(float(last["val_loss"]), abs=1e-5)
    # What the user says wins.
    for option in (("--crop_pct", "1.0"), ("--crop_pct", "1.15"), ("--image_resize", "32")):
        figures = ast.literal_eval(validate(*asked, *option).out.strip().splitlines()[-1])
        assert figures["loss"] != pytest.approx(float(last["val_loss"]), abs=1e-5)
    # The folder lacks a class: the names keep the numbers, and an unknown name is an error.
    shutil.rmtree(copy / "val/class_0")
    assert validate(*asked).code == 0
    (copy / "val/class_1").rename(copy / "val/wolf")
    unknown = validate(*asked)
    assert unknown.code == 4 and "wolf" in unknown.err
    # Weights that tell nothing need the model's name.
    plain = strip(best, tmp_path / "plain.ckpt")
    unnamed = validate(*asked[:-1], plain)
    assert unnamed.code == 5 and "name the model" in unnamed.err


def test_validation_keeps_the_training_numbers_of_the_classes(short_run, image_folder, tmp_path):
    """Without class_0 the other classes must not move up by one."""
    copy = tmp_path / "images"
    shutil.copytree(image_folder, copy)
    shutil.rmtree(copy / "val/class_0")
    arguments = list(short_run)
    arguments[arguments.index("--data_dir") + 1] = str(copy)
    done = run_command("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = (
        "--config",
        tmp_path / "run/config.yaml",
        "--ckpt_path",
        tmp_path / "run/tiny-3_6.ckpt",
    )
    checked = run_command("validate.py", *asked, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    figures = ast.literal_eval(checked.stdout.strip().splitlines()[-1])
    assert figures["loss"] == pytest.approx(float(rows(tmp_path / "run")[-1]["val_loss"]), abs=1e-5)
    # Without the training folder and the names in the file, the 5 classes of val have no numbers.
    shutil.rmtree(copy / "train")
    plain = strip(tmp_path / "run/tiny-3_6.ckpt", tmp_path / "plain.ckpt")
    alone = run_command("validate.py", *asked[:-1], plain, "--num_classes", "null", cwd=tmp_path)
    assert alone.returncode == 5 and "check model and num_classes" in alone.stderr


def test_a_terminal_of_60_columns_sees_a_bar_that_agrees_with_the_log(short_run, tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    words = [sys.executable, str(ROOT / "train.py"), *short_run]
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": ""}
    process = subprocess.Popen(words, cwd=tmp_path, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's end, once the process is gone
        while part := os.read(master, 4096):
            seen += part
    os.close(master)
    assert process.wait() == 0
    text = seen.decode()
    assert "\x1b[32m" in text  # the bar is green
    drawn = re.split(r"[\r\n]+", re.sub(r"\x1b\[\d*m", "", text))
    assert any(re.match(r"compiling the training step, \d+ s *$", line) for line in drawn)
    state = re.compile(
        r"(epoch \d/3) (?:step \d/6 )?(loss [\d.]+)(?: lr \S+)?( \d+ images/s, .* left)?"
    )
    logged = [found.groups() for line in drawn if " step " in line and (found := state.match(line))]
    bars = [line.rstrip() for line in drawn if "|" in line]
    assert logged and set(logged) <= {state.match(line).groups() for line in bars}
    assert max(map(len, bars)) <= 60
    log = (tmp_path / "run/train.log").read_text(encoding="utf-8")
    assert "|" not in log and "step 6/6" in log and "\x1b" not in log


@pytest.mark.parametrize(
    "words, shown", [(("--debug",), True), (("--debug", "False"), False), ((), True)]
)
def test_debug_shows_the_traceback_wherever_it_is_set(tmp_path, words, shown):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: regnet_x_200mf\ndata_dir: /nowhere\ndebug: yes\n", encoding="utf-8")
    done = run_command("train.py", "--config", recipe, *words, cwd=tmp_path)
    assert done.returncode == 4 and "error: no image folder /nowhere/train" in done.stderr
    assert ("Traceback" in done.stderr) == shown


def test_numpy_2_is_refused_in_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr("mindcv.process.entry_point.metadata.version", lambda name: "2.1.3")
    with pytest.raises(ConfigError, match=r'numpy 2.1.3 .* pip install "numpy>=1.26,<2"') as found:
        check_environment()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("version", ["2.3.0", "2.3.0rc2", "2.11.0", "3.0.0"])
def test_a_mindspore_it_is_not_written_for_is_refused_with_the_remedy(monkeypatch, version):
    versions = {"numpy": "1.26.4", "mindspore": version}
    monkeypatch.setattr("mindcv.process.entry_point.metadata.version", versions.get)
    with pytest.raises(ConfigError, match=f'{version} .* pip install "mindspore>=2.3.1,<2.11"'):
        check_environment()
    for versions["mindspore"] in ("2.3.1", "2.7.0rc1", "2.10.0"):
        check_environment()


def test_the_demo_recipe_is_an_unmodified_zoo_model():
    config = load_config(str(ROOT / "configs/demo.yaml"))
    assert config.model in ("regnet_x_200mf", "regnet_y_200mf")
    assert config.dataset == "mnist_demo"
