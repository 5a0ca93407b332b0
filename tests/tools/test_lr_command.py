"""`python -m mindcv lr`: the rates that train.py would use, without mindspore."""

import csv
import json
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from packed_sets import quiet_pack
from PIL import Image

from mindcv.__main__ import main
from mindcv.config import Config, build_schedule, load_config
from mindcv.data import datasets
from mindcv.engine import Runtime, build
from mindcv.tools import lr

RECIPE = str(ROOT / "configs" / "regnet" / "regnet_x_800mf_ascend.yaml")


def printed(capsys, *words) -> str:
    main(["lr", *map(str, words)])
    return capsys.readouterr().out


def refused(capsys, *words) -> str:
    with pytest.raises(SystemExit) as error:
        main(["lr", *map(str, words)])
    assert error.value.code in (2, 4)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "absent", "shown"),
    [
        (False, "mindspore matplotlib numpy", "200 epochs of 2502 steps, 500400 steps"),
        (True, "mindspore matplotlib", "200 epochs of 12 steps, 2400 steps"),
    ],
)
def test_the_command_imports_no_mindspore(image_folder, counts, absent, shown):
    code = (
        "import sys; from mindcv.__main__ import main; main(sys.argv[1:]); "
        f"sys.exit(bool(set({absent!r}.split()) & set(sys.modules)))"
    )
    words = ["lr", "--config", RECIPE, "--batch_size", "4"]
    words += ["--data_dir", str(image_folder)] if counts else ["--steps_per_epoch", "2502"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_train_takes_its_rates_from_the_same_function():
    assert build.build_schedule is build_schedule is lr.build_schedule


def test_table_and_csv_hold_the_rates_of_the_run(capsys, tmp_path):
    words = ("--config", RECIPE, "--lr_epoch_stair", "False", "--epoch_size", 30)
    words += ("--decay_epochs", 25, "--steps_per_epoch", 7)
    out = printed(capsys, *words, "--csv", tmp_path / "rates.csv")
    config = load_config(
        RECIPE, dict(lr_epoch_stair=False, epoch_size=30, decay_epochs=25, distribute=False)
    )
    rates = build_schedule(config, 7)
    table = re.findall(r"^ +(\d+) +([\d.e-]+) +([\d.e-]+)$", out, re.M)
    assert [int(row[0]) for row in table] == list(range(1, 31))
    assert [float(row[1]) for row in table] == pytest.approx(rates[::7], rel=1e-5)
    assert [float(row[2]) for row in table] == pytest.approx(rates[6::7], rel=1e-5)
    with (tmp_path / "rates.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == rates
    assert [int(row["step"]) for row in rows] == list(range(1, 211))
    assert (rows[6]["epoch"], rows[7]["epoch"]) == ("1", "2")


def test_the_plot_shows_peak_drop_and_restart(capsys):
    words = ("--scheduler", "step_decay", "--decay_epochs", 5, "--decay_rate", 0.5)
    words += ("--epoch_size", 10, "--warmup_epochs", 0, "--lr", 0.2, "--steps_per_epoch", 100)
    plot = [line for line in printed(capsys, *words).splitlines() if " |" in line]
    assert plot[0] == "       0.2 |" + "*" * 32
    assert plot[5] == " " * 11 + "|" + " " * 32 + "*" * 32  # half of 11 lines, rounded to even
    assert plot[-1] == "         0 |"


def test_the_png_is_an_image_and_wants_the_extra(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    words = ("--warmup_epochs", 0, "--steps_per_epoch", 5, "--plot", tmp_path / "rates.png")
    printed(capsys, *words)
    with Image.open(tmp_path / "rates.png") as image:
        assert image.format == "PNG" and min(image.size) > 300
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert 'pip install ".[plots]"' in refused(capsys, *words)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(drop_remainder=False),
        dict(shuffle=False),
        dict(num_samples=21),
        dict(num_samples=21, shuffle=False),
        dict(num_samples=100, drop_remainder=False),
        dict(aug_repeats=3),
        dict(gradient_accumulation_steps=2),
    ],
)
@pytest.mark.parametrize("devices", [1, 3])
def test_steps_are_counted_as_the_loader_makes_them(image_folder, options, devices):
    config = Config(data_dir=str(image_folder), batch_size=5, num_parallel_workers=1, **options)
    runtime = Runtime("CPU", 1, "O1", 0, devices)
    train_set = build.open_train_set(config, runtime)
    batches = build.build_train_batches(config, runtime, train_set, num_classes=4)
    updates = build.count_updates(config, runtime, train_set)
    assert updates == batches.steps // config.gradient_accumulation_steps
    assert lr.count_steps(config, devices) == updates


def test_a_rate_meant_for_another_batch_is_scaled_as_in_training(capsys):
    words = ("--lr", 0.1, "--lr_base_size", 256, "--batch_size", 64, "--scheduler", "constant")
    words += ("--steps_per_epoch", 3, "--epoch_size", 2, "--warmup_epochs", 0)
    words += ("--gradient_accumulation_steps", 2)
    out = printed(capsys, *words, "--devices", 8)
    assert "lr 0.1 scaled to 0.4 by lr_base_size 256" in out
    assert re.findall(r"^ +[12] +(\S+) +(\S+)$", out, re.M) == [("0.4", "0.4")] * 2
    words = ("--lr", 0.1, "--lr_base_size", 2048, "--min_lr", 0.04, "--steps_per_epoch", 3)
    assert "min_lr 0.04 is above the scaled lr 0.00625" in refused(capsys, *words)


def test_steps_come_from_the_folder_or_the_option(capsys, image_folder, tmp_path):
    counted = printed(capsys, "--data_dir", image_folder, "--batch_size", 4, "--devices", 2)
    assert "90 epochs of 6 steps, 540 steps" in counted and "--devices 2" in counted
    assert "--steps_per_epoch N" in refused(capsys, "--data_dir", tmp_path)
    assert "--steps_per_epoch N" in refused(capsys, "--dataset", "cifar10")
    assert "do not fill 1 x batch_size 50" in refused(
        capsys, "--data_dir", image_folder, "--batch_size", 50
    )


OWN = """
import numpy as np

from mindcv import register_dataset

IMAGES = [(np.full((9, 9, 3), index, np.uint8), index % 2) for index in range(7)]
register_dataset("own", lambda root, split: IMAGES)
"""


def write_dataset(kind: str, root: Path, image_folder: Path, models: str = "") -> int:
    """Write a training set of a kind, and models beside a registered one; return its images."""
    if kind in ("csv", "json"):
        paths = sorted((image_folder / "train").rglob("*.jpg"))
        rows = [{"path": str(path), "label": path.parent.name} for path in paths]
        lines = ["path,label", *(",".join(row.values()) for row in rows)]
        text = json.dumps(rows) if kind == "json" else "\n".join(lines)
        (root / f"train.{kind}").write_text(text, encoding="utf-8")
    elif kind == "cifar10":
        for number in range(1, 6):
            with (root / f"data_batch_{number}.bin").open("wb") as file:
                file.truncate(10000 * (1 + 3072))
        return 50000
    elif kind == "mnist":
        images = struct.pack(">HBB3I", 0, 8, 3, 9, 28, 28) + bytes(9 * 28 * 28)
        (root / "train-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">HBBI", 0, 8, 1, 9) + bytes(range(9))
        (root / "train-labels-idx1-ubyte").write_bytes(labels)
        return 9
    elif kind == "mindrecord":
        quiet_pack(image_folder, root / "packed")
        for path in (root / "packed").iterdir():
            path.rename(root / path.name)
    elif kind == "own":
        (root / "mine.py").write_text(f"{OWN}{models}", encoding="utf-8")
        return 7
    else:
        folder = root / "mnist_demo" if kind == "mnist_demo" else root
        shutil.copytree(image_folder / "train", folder / "train")
        (folder / "train/class_0/more").symlink_to(image_folder / "val")
        return 48 + 11
    return 48


KINDS = ("imagenet", "mnist_demo", "csv", "json", "cifar10", "mnist", "mindrecord", "own")


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_of_every_kind_of_dataset_are_counted(kind, tmp_path, image_folder, monkeypatch):
    """Those behind links to folders, too; and nothing is written."""
    monkeypatch.setattr(datasets, "_registered", {})
    images = write_dataset(kind, tmp_path, image_folder)
    before = sorted(tmp_path.rglob("*"))
    own = {"import_module": str(tmp_path / "mine.py")} if kind == "own" else {}
    config = Config(dataset=kind, data_dir=str(tmp_path), batch_size=3)
    assert lr.count_steps(replace(config, **own), 2) == images // (2 * 3)
    assert lr.count_steps(replace(config, drop_remainder=False), 1) == -(-images // 3)
    assert [
        path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(path)
    ] == before


def test_digits_that_are_not_written_yet_are_not_written_to_be_counted(capsys, tmp_path):
    message = refused(capsys, "--dataset", "mnist_demo", "--data_dir", tmp_path)
    assert "--steps_per_epoch N" in message and not list(tmp_path.iterdir())


@pytest.mark.slow  # the counts are tested above; here is what train.py makes of them
def test_a_dry_run_of_train_says_the_same_for_every_kind(warm, tmp_path, image_folder, tiny_models):
    for kind in KINDS:
        root = tmp_path / kind
        root.mkdir()
        write_dataset(kind, root, image_folder, tiny_models.read_text(encoding="utf-8"))
        module = root / "mine.py" if kind == "own" else tiny_models
        words = ["--dataset", kind, "--data_dir", root, "--import_module", module]
        words += ["--batch_size", 4]
        network = ["--model", "tiny", "--image_resize", 32]
        done = warm.run(["train.py", *words, *network, "--dry_run", "True"], cwd=tmp_path)
        assert done.code == 0, done.err
        counted = warm.run(["mindcv", "lr", *words], cwd=tmp_path)
        assert counted.code == 0, counted.err
        (steps,) = re.findall(r"(\d+) steps? per epoch", done.out)
        assert f"epochs of {steps} step" in counted.out, kind


@pytest.mark.parametrize(
    "words, fragments",
    [
        (("--lr", "-1"), ["command line: lr: -1.0", "above 0"]),
        (("--learning_rat", "1"), ["unknown argument '--learning_rat'"]),
        (("--steps_per_epoch", "0"), ["--steps_per_epoch", "'0'"]),
        (("--steps_per_epoch", "ten"), ["--steps_per_epoch", "'ten'"]),
        (("--config", "no.yaml"), ["no.yaml", "cannot be read"]),
        (("--scheduler", "one_cycle"), ["warmup_epochs", "set warmup_epochs 0"]),
        (
            ("--scheduler", "cyclic", "--warmup_epochs", "0", "--num_cycles", "500")
            + ("--steps_per_epoch", "10"),
            ["500 cycles", "the run has 900"],
        ),
        (("--steps_per_epoch", "3", "--csv", "/no/x.csv"), ["--csv /no/x.csv cannot be written"]),
    ],
)
def test_a_mistake_is_answered_in_one_message(capsys, words, fragments):
    message = refused(capsys, *words)
    assert message.startswith("error: ") and "Traceback" not in message
    for fragment in fragments:
        assert fragment in message


def test_only_commands_that_take_options_pass_unknown_words_on(capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        main(["report", str(tmp_path), "--lr", "0.1"])
    assert error.value.code == 2
    assert "unrecognized arguments: --lr 0.1" in capsys.readouterr().err
