"""Every command and every program of the README is run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest
from conftest import ROOT, free_port

from mindcv import create_model
from mindcv.weights import write_weights

README = (ROOT / "README.md").read_text(encoding="utf-8")
# On two CPU cores the published recipes run on small images, for two epochs.
# In float32: the recipes' float16 gradients overflow with so few and small images.
SMALL = (
    "--image_resize 32 --batch_size 4 --epoch_size 2 --warmup_epochs 1 --decay_epochs 1 "
    "--amp_level O0"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def command_lines() -> list[str]:
    return [line for block in blocks("bash") for line in block.strip().splitlines()]


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        shlex.split(line),
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "regnet_x_800mf.ckpt"
    ms.save_checkpoint(create_model("regnet_x_800mf", num_classes=6), str(path))
    return path


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A working copy: the commands are meant for the repository's folder."""
    for name in ("train.py", "validate.py", "configs", "mindcv"):
        (tmp_path / name).symlink_to(ROOT / name)
    program = next(text for text in blocks("python") if text.startswith("# my_models.py"))
    (tmp_path / "my_models.py").write_text(program, encoding="utf-8")
    return tmp_path


# The lines of one block follow each other: each takes what the one before left.
WALK = next(text for text in blocks("bash") if "mindcv convert" in text).strip().splitlines()
TRAINING = [
    line
    for line in command_lines()
    if line not in WALK and ("/path/to/" in line or "--help" in line or "-m mindcv" in line)
]


@pytest.mark.parametrize("line", TRAINING)
def test_a_command_runs_as_printed(line, checkout, image_folder, weights):
    line = line.replace("/path/to/regnet_x_800mf.ckpt", str(weights))
    line = line.replace("/path/to/imagenet", str(image_folder))
    if line.startswith("msrun"):
        line = line.replace("--worker_num 8", "--worker_num 2 --local_worker_num 2 --join True")
        line = line.replace("msrun ", f"msrun --master_port {free_port()} ", 1)
    if "train.py" in line and "--help" not in line:
        asked = set(re.findall(r"--\w+", line))
        pairs = zip(SMALL.split()[::2], SMALL.split()[1::2])
        line += "".join(f" {key} {value}" for key, value in pairs if key not in asked)
    done = shell(line, checkout)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    if "validate.py" in line:
        assert "{'Top_1_Accuracy': " in done.stdout


def test_the_way_from_foreign_weights_to_a_delivered_classifier(checkout, image_folder):
    network = create_model("regnet_y_400mf")
    theirs = checkout / "regnet_y_400mf.safetensors"
    write_weights(theirs, {p.name: p.asnumpy() for p in network.get_parameters()}, names="timm")
    theirs.rename(checkout / "regnet_y_400mf.pth")  # a name tells nothing
    for line in WALK:
        line = line.replace("/path/to/images", str(image_folder)).replace("/path/to/", "")
        line = line.replace("-19_*", "-1_12").replace("-20_*", "-2_12")
        if "train.py" in line:
            line += " --image_resize 32 --batch_size 4 --epoch_size 2 --warmup_epochs 1"
        done = shell(line, checkout)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    written = {path.name for path in checkout.iterdir() if path.stat().st_size > 1000}
    assert written >= {"first_batch.png", "predictions.png", "average.ckpt", "regnet_y_400mf.onnx"}
    assert (checkout / "finetuned/report.html").stat().st_size > 1000
    assert len((checkout / "predictions.csv").read_text().splitlines()) > 11


def test_no_command_is_left_untested():
    others = [line for line in command_lines() if line not in (*TRAINING, *WALK)]
    assert [line.split()[0] for line in others] == ["python3", "pip", "python"]
    assert others[2] == "python -m pytest"  # this very run; .ci/run executes the install line


def test_the_programs_run(image_folder, tmp_path):
    shortest, whole = (text for text in blocks("python") if not text.startswith("# my_models"))
    whole = whole.replace("/path/to/imagenet", str(image_folder))
    # Ten epochs of 224-pixel images are the reader's; the test takes one of small images.
    whole = whole.replace("image_resize=224", "image_resize=32").replace("train(10", "train(2")
    for program in (shortest, whole):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{program}\n{done.stderr}"


@pytest.mark.slow
def test_the_demo_reaches_96_percent_and_validates_to_the_same(checkout):
    pip_line = next(line for line in command_lines() if line.startswith("pip"))
    _, train, validate = pip_line.split(" && ")
    trained = shell(train, checkout)
    assert trained.returncode == 0, trained.stderr
    best = float(re.findall(r"best so far: top-1 ([\d.]+) %", trained.stdout)[-1])
    assert best >= 96.0
    checked = shell(validate, checkout)
    assert checked.returncode == 0, checked.stderr
    assert float(re.search(r"'Top_1_Accuracy': ([\d.]+)", checked.stdout)[1]) == pytest.approx(best)
