"""The sdist and the wheel: installed by themselves, they do what the checkout does."""

import csv
import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import mindcv
from mindcv.config import recipes

UNPACKED = shutil.ignore_patterns(".*", "tests", "benchmarks", "build", "*.egg-info", "__pycache__")
BUILD = "import setuptools.build_meta as b, sys; print(b.build_{}(sys.argv[1]))"


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build as pip does, but without its network access."""
    words = [sys.executable, "-c", BUILD.format(kind), str(folder)]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "checkout").mkdir()
    for path in sorted(ROOT.iterdir()):
        if path.name in ("mindcv", "configs"):
            shutil.copytree(path, folder / "checkout" / path.name, ignore=UNPACKED)
        elif path.is_file():
            shutil.copy(path, folder / "checkout")
    sdist = build("sdist", folder / "checkout", folder)
    shutil.unpack_archive(sdist, folder / "sdist")
    (source,) = (folder / "sdist").iterdir()
    assert {"README.md", "README_CN.md", "LICENSE", "CHANGELOG.md", "train.py"} <= {
        path.name for path in source.iterdir()
    }
    return build("wheel", source, folder)


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """Return a function that runs programs of an environment with the wheel in it.

    What the wheel requires is taken from this environment, whose editable packages are not seen.
    """
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "required.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    variables = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: object, cwd: Path = home) -> str:
        done = subprocess.run(
            [str(home / "bin" / str(words[0])), *map(str, words[1:])],
            cwd=cwd,
            env={**variables, "MINDCV_CACHE": str(home / "cache"), "MINDCV_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("pip", "install", "--no-index", wheel)
    return run


def test_the_wheel_has_what_the_checkout_has_and_no_link_that_leads_nowhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = (name for name in names if name.endswith("/METADATA"))
        told = email.message_from_bytes(archive.read(info))
    ours = {
        f"mindcv/{path.relative_to(ROOT / 'mindcv').as_posix()}"
        for path in (ROOT / "mindcv").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    ours |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/**/*.yaml")}
    assert {f"mindcv/{name}" if name.startswith("configs") else name for name in ours} <= names
    assert not any(name.startswith(("configs/", "tests/")) for name in names)
    assert (told["Name"], told["Version"]) == ("mindcv-regnet", mindcv.__version__)
    text = told.get_payload()
    assert "](" not in text.replace("](https:", "").replace("](#", "")
    assert "classif" in told["Summary"] and len(told.get_all("Classifier")) > 5


@pytest.mark.slow
def test_the_installed_command_trains_and_measures_by_a_recipes_name(
    command, tmp_path, image_folder
):
    assert "mindcv-regnet " in command("mindcv", "--version")
    assert set(recipes.packaged()) == {
        line.split()[0] for line in command("mindcv", "recipes").splitlines()
    }
    words = ("--image_resize", 32, "--batch_size", 4, "--epoch_size", 1, "--warmup_epochs", 0)
    words += ("--model", "regnet_x_200mf", "--data_dir", image_folder)
    command("mindcv", "train", "--config", "finetune_folder", *words, cwd=tmp_path)
    (best,) = tmp_path.glob("finetuned/*_best.ckpt")
    found = command("mindcv", "validate", "--ckpt_path", best, "--data_dir", image_folder)
    assert "'Top_1_Accuracy'" in found
    photos = image_folder / "val"
    command("mindcv", "predict", photos, "--ckpt_path", best, "--output", tmp_path / "guesses.csv")
    with open(tmp_path / "guesses.csv", encoding="utf-8") as file:
        assert {row["class_name"][:6] for row in csv.DictReader(file)} == {"class_"}
    program = "import mindcv; mindcv.create_model('regnet_x_200mf'); print(mindcv.__path__[0])"
    assert "site-packages" in command("python", "-c", program)


def test_the_version_and_the_commands_are_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mindcv.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## ([\d.]+)", changes, re.M)[1] == mindcv.__version__
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    run = [step["run"] for step in steps if "run" in step]
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert run[-1] == ".ci/run" and os.access(ROOT / run[-1], os.X_OK)
    for line in run[:-1]:
        assert line in script or line in readme or (ROOT / line.split()[-1]).exists(), line
    pythons = workflow["jobs"]["quick"]["strategy"]["matrix"]["python"]
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert pythons == re.findall(r"Python :: (3\.\d+)", setup)
