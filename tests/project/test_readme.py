"""Every command and every program of the README and of the guides it opens with is run."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest
from commands import write_checkpoint
from conftest import ROOT, free_port

from mindcv import create_model
from mindcv.data.preprocessing import Preprocessing
from mindcv.weights import Metadata, write_weights

PAGES = ["README.md", *(f"docs/{name}.md" for name in ("train", "finetune", "evaluate", "predict"))]
README, *GUIDES = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
# On two CPU cores the published recipes run on small images, for two epochs.
# In float32: the recipes' float16 gradients overflow with so few and small images.
SMALL = (
    "--image_resize 32 --batch_size 4 --epoch_size 2 --warmup_epochs 1 --decay_epochs 1 "
    "--amp_level O0"
)


def blocks(language: str, *pages: str) -> list[str]:
    return [
        block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page, re.S)
    ]


def command_lines(*pages: str) -> list[str]:
    lines = [line for block in blocks("bash", *pages) for line in block.strip().splitlines()]
    return list(dict.fromkeys(lines))


def shell(line: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The installed command imports this repository, not the working copy; test_package runs it.
    line = re.sub("^mindcv ", "python -m mindcv ", line)
    return subprocess.run(
        shlex.split(line),
        cwd=cwd,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "regnet_x_800mf.ckpt"
    network = create_model("regnet_x_800mf", num_classes=6)
    values = {p.name: p.asnumpy() for p in network.get_parameters()}
    metadata = Metadata("regnet_x_800mf", 6, preprocessing=Preprocessing(64))
    return write_checkpoint(path, values, metadata)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A working copy: the commands are meant for the repository's folder."""
    shutil.copytree(ROOT / "mindcv", tmp_path / "mindcv", ignore=shutil.ignore_patterns("__py*"))
    for name in ("train.py", "validate.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    program = next(text for text in blocks("python", README) if text.startswith("# my_models.py"))
    (tmp_path / "my_models.py").write_text(program, encoding="utf-8")
    return tmp_path


@pytest.fixture
def published(checkout) -> str:
    """A cache with the published file of regnet_y_400mf, whose hash the table of `checkout` has."""
    table = checkout / "mindcv/hub/published.yaml"
    text = table.read_text(encoding="utf-8")
    name = re.search(r"regnet_y_400mf-\w{8}\.ckpt", text)[0]
    place = checkout / "cache/regnet_y_400mf/mindcv"
    place.mkdir(parents=True)
    ms.save_checkpoint(create_model("regnet_y_400mf"), str(place / "written.ckpt"))
    digest = hashlib.sha256((place / "written.ckpt").read_bytes()).hexdigest()
    renamed = f"regnet_y_400mf-{digest[:8]}.ckpt"
    (place / "written.ckpt").rename(place / renamed)
    table.write_text(text.replace(name, renamed), encoding="utf-8")
    return str(checkout / "cache")


# The lines of one block follow each other: each takes what the one before left.
WALK = next(b for b in blocks("bash", *GUIDES) if "mindcv convert" in b).strip().splitlines()
PRETRAINED = [
    line
    for line in command_lines(README, *GUIDES)
    if line.endswith(("--pretrained", "predict photo.jpg"))
]
SETUP = [line for line in command_lines(README) if line.split()[0] in ("python3", "pip")]
SINGLE = [
    line
    for line in command_lines(README, *GUIDES)
    if line not in (*WALK, *PRETRAINED, *SETUP, "python -m pytest") and "finetuned" not in line
]


# The README's commands of one process in each run of the tests, the others with the slow ones.
QUICK = [line for line in command_lines(README) if not line.startswith("msrun")]


@pytest.mark.parametrize(
    "line",
    [line if line in QUICK else pytest.param(line, marks=pytest.mark.slow) for line in SINGLE],
)
def test_a_command_runs_as_printed(line, checkout, image_folder, weights):
    line = line.replace("/path/to/regnet_x_800mf.ckpt", str(weights))
    line = line.replace("/path/to/classifier.ckpt", str(weights))
    line = line.replace("/path/to/imagenet", str(image_folder))
    line = line.replace("/path/to/photos", str(image_folder / "val/class_0"))
    if "mindcv report" in line:
        assert shell(f"{train_line()} --data_dir {image_folder}", checkout).returncode == 0
        line = line.replace("/path/to/run", "run")
    if "mindcv search" in line:
        words = f"{image_folder / 'val'} --ckpt_path {weights} --output features.npz"
        assert shell(f"python -m mindcv embed {words}", checkout).returncode == 0
    if line.startswith("msrun"):
        line = line.replace("--worker_num 8", "--worker_num 2 --local_worker_num 2 --join True")
        line = line.replace("msrun ", f"msrun --master_port {free_port()} ", 1)
    if is_training(line):
        line = made_small(line)
    done = shell(line, checkout)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    if "validate" in line:
        assert "{'Top_1_Accuracy': " in done.stdout


def is_training(line: str) -> bool:
    return "train.py" in line or line.startswith("mindcv train")


def made_small(line: str) -> str:
    asked = set(re.findall(r"--\w+", line))
    pairs = zip(SMALL.split()[::2], SMALL.split()[1::2])
    return line + "".join(f" {key} {value}" for key, value in pairs if key not in asked)


def train_line() -> str:
    recipe = "configs/regnet/regnet_x_200mf_ascend.yaml"
    line = f"python train.py --config {recipe} --distribute False --ckpt_save_dir run"
    return made_small(f"{line} --val_while_train True")


@pytest.mark.slow
def test_published_weights_classify_and_are_fine_tuned(checkout, image_folder, published):
    photo = next(image_folder.glob("val/class_0/*"))
    for line in PRETRAINED:
        line = line.replace("/path/to/photos", str(image_folder / "val/class_0"))
        line = line.replace("/path/to/images", str(image_folder))
        line = line.replace("photo.jpg", str(photo))
        line = made_small(line) if is_training(line) else line
        done = shell(line, checkout, MINDCV_CACHE=published, MINDCV_OFFLINE="1")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    (after,) = [line for line in command_lines(README) if "finetuned" in line]
    done = shell(after.replace("/path/to/images", str(image_folder)), checkout)
    assert done.returncode == 0 and "class_" in done.stdout, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
def test_the_way_from_foreign_weights_to_a_deployed_classifier(checkout, image_folder):
    network = create_model("regnet_y_400mf")
    theirs = checkout / "regnet_y_400mf.safetensors"
    write_weights(theirs, {p.name: p.asnumpy() for p in network.get_parameters()}, names="timm")
    theirs.rename(checkout / "regnet_y_400mf.pth")  # the content decides, not the name
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
    tested = {*SINGLE, *WALK, *PRETRAINED, *SETUP, "python -m pytest"}  # SETUP is .ci/run's
    others = [line for line in command_lines(README, *GUIDES) if line not in tested]
    assert len(others) == 1 and "finetuned" in others[0]
    assert [line.split()[0] for line in SETUP] == ["python3", "pip"]


def test_the_programs_run(image_folder, checkout, published):
    first, whole = (t for t in blocks("python", README) if not t.startswith("# my_models"))
    photos = image_folder / "val/class_0"
    first = first.replace("/path/to/photos", str(photos))
    first = first.replace("photo.jpg", str(next(photos.iterdir())))
    whole = whole.replace("/path/to/imagenet", str(image_folder))
    # Ten epochs of 224-pixel images are the reader's; the test takes one of small images.
    whole = whole.replace("image_resize=224", "image_resize=32").replace("train(10", "train(2")
    for program in (first, whole):
        file = checkout / "program.py"
        file.write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "MINDCV_CACHE": published},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{program}\n{done.stderr}"


@pytest.mark.slow
def test_the_demo_reaches_96_percent_and_validates_to_the_same(checkout):
    _, train, validate = SETUP[1].split(" && ")
    trained = shell(train, checkout)
    assert trained.returncode == 0, trained.stderr
    best = float(re.findall(r"best so far: top-1 ([\d.]+) %", trained.stdout)[-1])
    assert best >= 96.0
    checked = shell(validate, checkout)
    assert checked.returncode == 0, checked.stderr
    found = float(re.search(r"'Top_1_Accuracy': ([\d.]+)", checked.stdout)[1])
    assert 100 * found == pytest.approx(best)
