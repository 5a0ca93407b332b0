"""`python -m mindcv lr`: the rates that train.py would use, without mindspore."""

import csv
import importlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

import mindcv
from mindcv.__main__ import main
from mindcv.config import Config, build_schedule, load_config
from mindcv.data import open_samples
from mindcv.data.samples import arrays
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


def test_the_command_imports_no_mindspore():
    code = (
        "import sys; from mindcv.__main__ import main; main(sys.argv[1:]); "
        "sys.exit(bool({'mindspore', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    words = ("lr", "--config", RECIPE, "--steps_per_epoch", "2502")
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "200 epochs of 2502 steps, 500400 steps" in done.stdout


def test_train_takes_its_rates_from_the_same_function():
    train = importlib.import_module("train")
    assert train.build_schedule is build_schedule is lr.build_schedule


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
    dataset = mindcv.create_dataset(
        config.dataset,
        config.data_dir,
        config.train_split,
        config.shuffle,
        num_samples=config.num_samples,
        num_shards=devices if devices > 1 else None,
        shard_id=0 if devices > 1 else None,
        num_aug_repeats=config.aug_repeats,
    )
    loader = mindcv.create_loader(dataset, 5, config.drop_remainder, is_training=True)
    updates = importlib.import_module("train").count_updates(
        config, dataset, loader.get_dataset_size()
    )
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


def test_steps_come_from_the_folder_or_are_asked_for(capsys, image_folder, tmp_path):
    counted = printed(capsys, "--data_dir", image_folder, "--batch_size", 4, "--devices", 2)
    assert "90 epochs of 6 steps, 540 steps" in counted and "--devices 2" in counted
    assert "--steps_per_epoch N" in refused(capsys, "--data_dir", tmp_path)
    assert "--steps_per_epoch N" in refused(capsys, "--dataset", "cifar10")
    assert "do not fill 1 x batch_size 50" in refused(
        capsys, "--data_dir", image_folder, "--batch_size", 50
    )


def test_images_are_counted_as_they_are_read_through_links_too(capsys, tmp_path, image_folder):
    shutil.copytree(image_folder / "train", tmp_path / "train")
    (tmp_path / "train/class_0/more").symlink_to(image_folder / "val")  # 11 images
    samples = open_samples("imagenet", str(tmp_path), "train")
    assert len(samples) == 48 + 11
    counted = printed(capsys, "--data_dir", tmp_path, "--batch_size", 1)
    assert f"90 epochs of {len(samples)} steps" in counted
    assert lr.DEMO_FOLDER == arrays.DEMO_FOLDER


@pytest.mark.parametrize(
    "words, fragments",
    [
        (("--lr", "-1"), ["command line: lr: -1.0", "above 0"]),
        (("--learning_rat", "1"), ["unknown argument '--learning_rat'"]),
        (("--steps_per_epoch", "0"), ["--steps_per_epoch", "'0'"]),
        (("--steps_per_epoch", "ten"), ["--steps_per_epoch", "'ten'"]),
        (("--config", "no.yaml"), ["no.yaml", "cannot be read"]),
        (("--scheduler", "one_cycle"), ["warmup_epochs", "set warmup_epochs 0"]),
        (("--warmup_steps", "900", "--steps_per_epoch", "10"), ["warmup_steps 900", "nothing"]),
        (("--steps_per_epoch", "3", "--csv", "/no/x.csv"), ["/no/x.csv", "cannot be written"]),
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
