"""Every fenced bash and python block of the documentation runs, each in a folder of its own.

Paths and files that a page speaks of have stand-ins, networks have four blocks and are trained on
small images, for two epochs, and two processes stand for eight cards. (README_CN.md has the blocks
of README.md.)
"""

import csv
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import pytest
import yaml
from commands import write_checkpoint
from conftest import CACHE, ROOT, free_port
from stand_ins import shallow
from warm_commands import WarmCommands

from mindcv.data.preprocessing import Preprocessing
from mindcv.weights import Metadata, write_weights

PAGES = ["README.md", "configs/README.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
# In float32: the recipes' float16 gradients overflow with so few and small images.
SMALL = {
    "image_resize": 32,
    "batch_size": 8,
    "epoch_size": 2,
    "warmup_epochs": 1,
    "decay_epochs": 1,
    "amp_level": "O0",
    "device_target": "CPU",
    "import_module": "stand_ins",
}
NEEDS_ASCEND = "needs an Ascend, its driver and CANN"
CHANGES_ENVIRONMENT = "changes the environment of the tests; .ci/run installs as the README says"
# First words of a line -> why no test runs it.
NOT_RUN = {
    "npu-smi": NEEDS_ASCEND,
    "source /usr/local/Ascend": NEEDS_ASCEND,
    "python -c": NEEDS_ASCEND,
    "pip install sympy": NEEDS_ASCEND,
    "pip install /usr/local/Ascend": NEEDS_ASCEND,
    "pip uninstall": CHANGES_ENVIRONMENT,
    "pip install -e": CHANGES_ENVIRONMENT,
    "python3 -m venv": CHANGES_ENVIRONMENT,
    ". .venv/bin/activate": CHANGES_ENVIRONMENT,
    "python -m pytest": "is this run",
    "python docs/study.py": "reads a study of 180 models; tests/project/test_study_page.py",
    "python .ci/versions.py": "installs every MindSpore; tests/project/test_versions_command.py",
}


class Block(NamedTuple):
    """A fenced block: page, line of its fence, language and text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Return what is run of a bash block; the hosts of one launch have one command."""
        lines = [re.sub("--node_rank [0-9]", "--node_rank N", line) for line in parts(self.text)]
        return [line for line in dict.fromkeys(lines) if not line.startswith(tuple(NOT_RUN))]


def parts(text: str) -> list[str]:
    """Return the commands of a bash block."""
    return [part.strip() for line in text.splitlines() for part in line.split(" && ")]


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^( *)```(bash|python)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [
        Block(page, text[: one.start()].count("\n") + 1, one[2], textwrap.dedent(one[3]))
        for one in found
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
DEMO, *others = BLOCKS
RUN, _known = [], set()
for block in others:  # a command that several pages have runs for the first of them
    if block.language == "python" or set(block.commands) - _known:
        RUN.append(block)
    _known |= set(block.commands)
# These take a moment; other commands are slow, but for two of the README's.
LIGHT = re.compile(r"(python -m )?mindcv (lr|plan|info|scan|--version)|.*linear_probe|.*photo.jpg")
WRITTEN = re.compile(r"--(?:output|contact_sheet|show_batch|report|write|plot|csv) (\S+)")
MODELS = next(block.text for block in BLOCKS if block.text.startswith("# my_models.py"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A classifier of 6 classes."""
    path = tmp_path_factory.mktemp("weights") / "regnet_x_800mf.ckpt"
    network = shallow("regnet_x_800mf", num_classes=6)
    values = {p.name: p.asnumpy() for p in network.get_parameters()}
    about = {
        "class_names": tuple(f"class_{i}" for i in range(6)),
        "preprocessing": Preprocessing(64),
    }
    return write_checkpoint(path, values, Metadata(path.stem, 6, **about))


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Commands for which the published files of two models are in the cache."""
    folder = tmp_path_factory.mktemp("published")
    text = (ROOT / "mindcv/hub/published.yaml").read_text(encoding="utf-8")
    for name, source in (("regnet_y_400mf", "mindcv"), ("regnet_y_16gf", "torchvision_v2")):
        written = folder / f"{name}.ckpt"
        ms.save_checkpoint(shallow("regnet_y_400mf"), str(written))
        ending = r"\.pth" if source.startswith("torch") else r"\.ckpt"
        published = re.search(rf"{name}-[0-9a-f]{{8}}{ending}", text)[0]
        digest = hashlib.sha256(written.read_bytes()).hexdigest()[:8]
        renamed = re.sub("-[0-9a-f]{8}", f"-{digest}", published)
        text = text.replace(published, renamed)
        place = folder / "cache" / name / source
        place.mkdir(parents=True)
        written.rename(place / renamed)
    table = folder / "published.yaml"
    table.write_text(text, encoding="utf-8")
    variables = {"PUBLISHED": str(table), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    variables |= {"MINDCV_CACHE": str(folder / "cache"), "MINDCV_OFFLINE": "1"}
    (folder / "cache/graphs").symlink_to(Path(CACHE.name))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with WarmCommands("mindspore", "stand_ins", PATH=path, **variables) as warm:
        yield warm


@pytest.fixture
def place(tmp_path, image_folder, weights) -> Path:
    """A folder with what the pages speak of."""
    for name in ("train.py", "validate.py", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "photo.jpg").symlink_to(next(image_folder.glob("val/class_0/*")))
    (tmp_path / "wandb.py").write_text(
        "def init(**options): return __import__('types').SimpleNamespace(log=print)\n"
    )
    winner = "model: regnet\nregnet: {w_a: 8, w_0: 8, w_m: 2.5, d: 2, group_w: 8}\n"
    (tmp_path / "winner.yaml").write_text(winner, encoding="utf-8")
    page = (ROOT / "docs/design_space.md").read_text(encoding="utf-8")
    printed = re.search(r"```yaml\n(# study.yaml\n.*?)```", page, re.DOTALL)[1]
    repeated = tmp_path / "benchmarks/design_space/study.yaml"
    repeated.parent.mkdir(parents=True)
    for path, text in (
        (tmp_path / "study.yaml", printed),
        (repeated, (ROOT / repeated.relative_to(tmp_path)).read_text(encoding="utf-8")),
    ):
        path.write_text(yaml.safe_dump(small_study(text, image_folder)), encoding="utf-8")
    return tmp_path


def small_study(text: str, images: Path) -> dict:
    """Return a study of two little networks, which are trained for an epoch."""
    study = yaml.safe_load(text)
    little = {"name": "little", "base": "regnet_x", "constraints": ["depth <= 6"]}
    study |= {"count": 2, "spaces": [little], "num_classes": 6}
    study["train"] |= {"data_dir": str(images), "epoch_size": 1, "val_interval": 1}
    study["train"] |= {"batch_size": 8, "compile_cache": "off"}
    return study


def with_stand_ins(text: str, place: Path, images: Path, weights: Path) -> str:
    """Return a command or program with the paths that are here."""
    return re.sub(
        r"/path/to/(\w+(?:\.\w+)?)",
        lambda path: {
            "imagenet": str(images),
            "images": str(images),
            "one_folder": str(images / "train"),
            "lists": str(place / "lists"),
            "photos": str(images / "val/class_0"),
            "classifier.ckpt": str(weights),
            "regnet_x_800mf.ckpt": str(weights),
            "regnet_y_400mf.pth": str(place / "theirs.pth"),
            "packed": str(place / "packed"),
            "run": str(place / "run"),
        }.get(path[1], path[0]),
        text.replace("--device_target Ascend", "--device_target CPU"),
    )


def marks(block: Block) -> list:
    if block.language == "python":
        return [pytest.mark.slow] if "create_tuple_iterator" in block.text else []
    together = [pytest.mark.xdist_group("ranks")] if "msrun" in block.text else []
    return together if all(map(LIGHT.match, block.commands)) else [*together, pytest.mark.slow]


@pytest.mark.parametrize("block", [pytest.param(one, id=str(one), marks=marks(one)) for one in RUN])
def test_a_block_runs_as_printed(block, commands, place, image_folder, weights, request):
    text = with_stand_ins(block.text, place, image_folder, weights)
    hosts = request.getfixturevalue("two_hosts")[0] if "--node_rank" in text else []
    shell = Shell(commands, place, hosts)
    prepare(text, shell, image_folder, weights)
    if block.language == "python":
        program = place / "program.py"
        # Epochs of 224-pixel images are the reader's.
        text = text.replace("resize=224", "resize=32").replace("    224,\n", "    32,\n")
        program.write_text(text.replace("train(10", "train(2"), encoding="utf-8")
        done = commands.run([program], place)
        assert done.code == 0, f"{text}\n{done.err}"
        return
    for line in block._replace(text=text).commands:
        out = shell.run(line, small=True)
        assert out, line
        if "predict" in line and line.endswith("_best.ckpt"):
            assert re.search(r"% +\d+ +class_\d", out), out
    if "predict photo.jpg" in text:
        assert "photo.jpg" in out
    elif "validate" in line:
        assert "{'Top_1_Accuracy': " in out
    for name in WRITTEN.findall(text):
        path = place / name
        assert path.is_dir() or path.stat().st_size > 0, name
    for folder in re.findall(r"predict (\S+) .*predictions.csv", text):
        rows = csv.DictReader((place / "predictions.csv").read_text("utf-8").splitlines())
        images = {str(path) for path in Path(folder).rglob("*") if path.is_file()}
        assert {row["path"] for row in rows} == images != set()
    for folder in re.findall("mindcv report (\\S+)", text):
        assert (place / folder / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_the_demo_reaches_96_percent_and_validates_to_the_same(warm, place):
    train, validate = DEMO.commands
    shell = Shell(warm, place)
    best = float(re.findall(r"best so far: top-1 ([\d.]+) %", shell.run(train))[-1])
    assert best >= 96.0
    measured = re.search(r"'Top_1_Accuracy': ([\d.]+)", shell.run(validate))[1]
    assert 100 * float(measured) == pytest.approx(best)


def prepare(text: str, shell: "Shell", images: Path, weights: Path) -> None:
    """Make what an earlier block of the page leaves."""
    place = shell.place
    recipe = (ROOT / "configs/regnet/regnet_x_200mf_ascend.yaml").read_text(encoding="utf-8")
    if "msrun" not in text:
        recipe = recipe.replace("distribute: True", "distribute: False")
    (place / "recipe.yaml").write_text(recipe, encoding="utf-8")
    if "--write winner.yaml" in text:
        (place / "winner.yaml").unlink()
    if str(place / "run") in text:
        line = f"python train.py --config recipe.yaml --data_dir {images} --ckpt_save_dir run"
        shell.run(f"{line} --val_while_train True", small=True)
    if "theirs.pth" in text:
        values = {p.name: p.asnumpy() for p in shallow("regnet_y_400mf").get_parameters()}
        written = place / "theirs.safetensors"
        write_weights(written, values, names="timm")
        written.rename(place / "theirs.pth")  # the content decides, not the name
    if "InferenceSession" in text:
        shell.run(f"mindcv export --ckpt_path {weights} --output classifier.onnx")
    if "finetuned/split.csv" in text:
        line = f"mindcv train --config finetune_folder --data_dir {images} --val_fraction 0.2"
        shell.run(line, small=True)
    if str(place / "lists") in text:
        (place / "lists").mkdir()
        for split in ("train", "val"):
            rows = [f"{path},{path.parent.name}" for path in images.glob(f"{split}/*/*")]
            lines = ["image,labels", *(f"{row};several" for row in rows)]
            (place / f"lists/{split}.csv").write_text("\n".join(lines), encoding="utf-8")
    if "MindDataset" in text:
        shell.run(f"mindcv pack {images} packed")


class Shell(NamedTuple):
    """Commands, the folder in which they run, and the network namespaces that are its hosts."""

    commands: WarmCommands
    place: Path
    hosts: Sequence[str] = ()

    def run(self, line: str, small: bool = False) -> str:
        """Run a line to a good end, a training made small; return all that it wrote."""
        split = shlex.split(line, comments=True)
        words = [part for word in split for part in expanded(word, self.place)]
        if words[0] == "timeout":
            words = words[4:]
        if small and ("train.py" in words or {"train", "find-lr"} & set(words[:2])):
            words = made_small(words)
            if "--resume" not in words:  # trainings of one block are alternatives
                shutil.rmtree(self.place / "ckpt", ignore_errors=True)
        if "msrun" in words:
            words = on_two_processes(words)
        if words[0] == "msrun":
            code, out = self._launch(words)
        else:
            if words[0] == "python":
                words = words[2:] if words[1] == "-m" else words[1:]
            done = self.commands.run(words, self.place)
            code, out = done.code, done.out + done.err
        assert code == 0, f"{line}\n{out}"
        return out

    def _launch(self, words: list[str]) -> tuple[int, str]:
        """Run msrun; where it has a rank of a host, on each of the hosts."""
        starts = [words]
        if "N" in words:
            starts = [
                [
                    "ip",
                    "netns",
                    "exec",
                    host,
                    *(str(rank) if word == "N" else word for word in words),
                ]
                for rank, host in enumerate(self.hosts)
            ]
        started = [
            subprocess.Popen(
                start,
                cwd=self.place,
                env=os.environ | self.commands.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for start in starts
        ]
        written = [one.communicate(timeout=600)[0] for one in started]
        logs = [path.read_text(encoding="utf-8") for path in self.place.rglob("worker_*.log")]
        return max(abs(one.returncode) for one in started), "\n".join(written + logs)


def expanded(word: str, place: Path) -> list[str]:
    """Return what a shell makes of a word with a star; the runs here have two epochs."""
    word = word.replace("-19_*", "-1_*").replace("-20_*", "-2_*")
    return (
        sorted(str(path.relative_to(place)) for path in place.glob(word)) if "*" in word else [word]
    )


def made_small(words: list[str]) -> list[str]:
    """Return a training's words with options that let it end soon, on a CPU."""
    at = next(i for i, word in enumerate(words) if word in ("train.py", "train", "find-lr")) + 1
    small = {**SMALL}
    if "configs/demo.yaml" in words:
        small["num_samples"] = 32
    if "--import_module" in words:
        del small["import_module"]
    kept = [
        word
        for before, word in zip(words[at - 1 :], words[at:])
        if not {before.strip("-"), word.strip("-")} & set(small)
    ]
    added = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    return [*words[:at], *kept, *added]


def on_two_processes(words: list[str]) -> list[str]:
    """Return the words of a launch with two processes for 8 cards or 2 x 8, and one for 4."""
    at, end = words.index("msrun"), words.index("python", words.index("msrun"))
    given = " ".join(words[at + 1 : end]).replace("=", " ").split()
    options = dict(zip(given[::2], given[1::2])) | {"--join": True}
    count = 1 if options["--worker_num"] == "4" else 2
    options |= {"--worker_num": count, "--local_worker_num": count}
    if "--node_rank" in options:
        options |= {"--local_worker_num": 1}
    else:
        options |= {"--master_port": free_port()}
    launch = [str(part) for option in options.items() for part in option]
    return [*words[: at + 1], *launch, *words[end:]]


def test_every_line_that_is_not_run_has_a_reason_that_still_holds():
    lines = [line for block in BLOCKS if block.language == "bash" for line in parts(block.text)]
    for words, reason in NOT_RUN.items():
        assert any(line.startswith(words) for line in lines), f"no page has: {words}"
        if reason == NEEDS_ASCEND:
            assert not shutil.which("npu-smi") and not Path("/usr/local/Ascend").exists(), words
        elif "tests/" in reason:
            assert (ROOT / reason.split("; ")[1]).exists()
        elif reason == CHANGES_ENVIRONMENT:
            assert words.startswith(("pip ", "python3 -m venv", ". "))
