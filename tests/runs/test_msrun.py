"""Two processes under msrun on CPU: the code path that eight Ascends take."""

import ast
import csv
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import ROOT, launcher, run_command, short_run_in, write_images

from mindcv.process.cpu import limit_instructions


def train_on_two(arguments, tmp_path, **env):
    done = run_command(
        "train.py",
        *arguments,
        *("--distribute", "True", "--device_target", "CPU"),
        cwd=tmp_path,
        env={key: str(value) for key, value in env.items()},
        launcher=launcher(2),
    )
    logs = "\n".join(path.read_text(errors="replace") for path in tmp_path.glob("worker_*.log"))
    assert done.returncode == 0, done.stderr + logs
    return logs


def replace(arguments, **options):
    arguments = list(arguments)
    for key, value in options.items():
        arguments[arguments.index(f"--{key}") + 1] = str(value)
    return arguments


def images(place, image_folder, count):
    """Return a dataset with so many validation images, of up to 4 of the 6 classes."""
    place.mkdir()
    (place / "train").symlink_to(image_folder / "train")
    write_images(place / "val", count, min(count, 4), seed=2)
    return place


@pytest.fixture(scope="module")
def alone(warm, tmp_path_factory, image_folder, tiny_models):
    """The folder of a run of one process, evaluated on 5 images."""
    place = tmp_path_factory.mktemp("alone")
    arguments = short_run_in(place / "run", images(place / "images", image_folder, 5), tiny_models)
    done = warm.run(["train.py", *arguments], place)
    assert done.code == 0, done.err
    return place


def rows(folder):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_ranks_learn_like_one_process_with_the_doubled_batch(short_run, alone, tmp_path):
    """And each validation image counts once, 5 on two ranks."""
    dumped = tmp_path / "weights"
    dumped.mkdir()
    arguments = replace(short_run, batch_size=4, data_dir=alone / "images")
    if find_spec("tensorboardX"):
        arguments += ["--summary_dir", str(tmp_path / "events")]
    logs = train_on_two(arguments, tmp_path, DUMP_WEIGHTS=dumped)
    if find_spec("tensorboardX"):
        assert len(list((tmp_path / "events").iterdir())) == 1  # rank 0's
    first, second = (np.load(dumped / f"{rank}.npz") for rank in range(2))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for one, both in zip(rows(alone / "run"), rows(tmp_path / "run")):
        assert float(one["train_loss"]) == pytest.approx(float(both["train_loss"]), rel=1e-5)
        assert one["val_top1"] == both["val_top1"]
        assert float(one["val_loss"]) == pytest.approx(float(both["val_loss"]), rel=1e-5)
    assert logs.count("epoch 3/3 step 6/6") == 1  # rank 0 alone speaks
    assert "on 5 images" in (tmp_path / "run/train.log").read_text()
    # Who came to the scheduler, and who did not, stands in warnings of MindSpore only.
    assert "[WARNING] DISTRIBUTED" in (tmp_path / "scheduler.log").read_text()
    if limit_instructions("CPU"):
        assert logs.count("oneDNN limited to ") == 1


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_ranks_with_batch_statistics_agree_and_are_evaluated_once(
    warm, short_run, image_folder, tmp_path
):
    """Random augmentation and shuffling on; the file that rank 0 writes is what both have.

    There are fewer validation images than ranks.
    """
    arguments = replace(short_run, model="tiny_regnet", batch_size=4, shuffle="True", hflip=0.5)
    arguments = replace(arguments, data_dir=images(tmp_path / "images", image_folder, 1))
    dumped = tmp_path / "weights"
    dumped.mkdir()
    train_on_two(arguments, tmp_path, DUMP_WEIGHTS=dumped)
    first, second = (np.load(dumped / f"{rank}.npz") for rank in range(2))
    assert any(name.endswith("moving_variance") for name in first.files)
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert "on 1 image" in (tmp_path / "run/train.log").read_text()
    last = rows(tmp_path / "run")[-1]
    run = tmp_path / "run"
    words = ["--config", run / "config.yaml", "--ckpt_path", run / "tiny_regnet-3_6.ckpt"]
    figures = figures_of(warm.run(["validate.py", *words, "--distribute", "False"], tmp_path))
    assert 100 * figures["Top_1_Accuracy"] == pytest.approx(float(last["val_top1"]), abs=1e-4)
    assert figures["loss"] == pytest.approx(float(last["val_loss"]), rel=1e-4)


def figures_of(done):
    assert done.code == 0, done.err
    return ast.literal_eval(done.out.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.xdist_group("ranks")
def test_validate_on_two_ranks_prints_once_what_one_process_prints(warm, alone, tmp_path):
    run = alone / "run"
    words = ["--config", run / "config.yaml", "--ckpt_path", run / "tiny_best.ckpt"]
    expected = figures_of(warm.run(["validate.py", *words], tmp_path))
    both = run_command(
        "validate.py", *words, "--distribute", "True", cwd=tmp_path, launcher=launcher(2)
    )
    assert both.returncode == 0, both.stderr
    first, second = ((tmp_path / f"worker_{rank}.log").read_text() for rank in range(2))
    printed = [line for line in first.splitlines() if line.startswith("{'Top_1")]
    assert ast.literal_eval(printed[0]) == pytest.approx(expected, rel=1e-6)
    assert "Top_1" not in second


def test_a_wrong_config_is_answered_before_mindspore_is_imported(tmp_path):
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['train.py', '--modle', 'x']; sys.path.insert(0, {str(ROOT)!r})\n"
        "try: runpy.run_path(sys.path[0] + '/train.py', run_name='__main__')\n"
        "finally: print('mindspore' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout.strip() == "False"
    assert "did you mean mode or model?" in done.stderr
