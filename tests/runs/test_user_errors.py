"""Every mistake of a user ends in one readable message, its exit code, and a clean stderr."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import tiny_regnet, weights, write_checkpoint
from conftest import ROOT

OWN_MODELS = """
import os, warnings
import mindspore as ms
from mindspore import nn
from mindcv import register_model

class Flat(nn.Cell):
    def __init__(self, features, classes):
        super().__init__()
        self.fc = nn.Dense(features, classes)

    def construct(self, x):
        return self.fc(x.reshape((x.shape[0], -1)))

class Dying:
    def __del__(self):
        raise ValueError("while dying")

@register_model
def wrong_shape(num_classes=1000, in_channels=3):
    return Flat(10, num_classes)

@register_model
def wrong_call(num_classes=1000, in_channels=3):
    return Flat(10, num_classes, 3)

@register_model
def noisy(num_classes=1000, in_channels=3):
    warnings.warn("a warning of Python")
    ms.set_context(device_target="CPU")  # MindSpore warns of the older spelling
    os.write(2, b"a line of some C library\\n")
    Dying()
    return Flat(3 * 32 * 32, num_classes)
"""

TRAIN = (
    "train.py --import_module own.py --model noisy --data_dir images --image_resize 32 "
    "--batch_size 8 --epoch_size 1 --warmup_epochs 0 --lr 0.01 --ckpt_save_dir run_{name} "
)
PREDICT = "mindcv predict images/val/class_0 --import_module tiny_models.py "
VALIDATE = "validate.py --import_module tiny_models.py --data_dir images "

# name: (command, exit code, what the message has to tell: what came, where, what to do).
MISTAKES = {
    # train.py
    "no folder": (TRAIN.replace("images", "/nowhere"), 4, "/nowhere/train | <data_dir>/<split>"),
    "empty folder": (TRAIN.replace("images", "empty"), 4, "empty/train | empty holds nothing"),
    "few classes": (TRAIN + "--num_classes 5", 4, "num_classes 5 | images holds 6 | leave"),
    "large batch": (TRAIN.replace("size 8", "size 49"), 4, "batch of 49 | lower batch_size"),
    "no step": (TRAIN.replace("size 8", "size 49") + "--dry_run", 4, "49 | lower batch_size"),
    "bad image": (TRAIN.replace("images", "bad"), 4, "bad/train/class_0/0000.jpg | scan | repair"),
    "bad validation image": (
        TRAIN.replace("images", "bad_val") + "--val_while_train",
        4,
        "bad_val/val/class_0/0000.jpg | repair or remove",
    ),
    "no list": (TRAIN + "--dataset csv", 4, "images/train.csv | images holds"),
    "not packed": (TRAIN + "--dataset mindrecord", 4, "images/train | mindcv pack"),
    "unknown model": (TRAIN.replace("noisy", "noizy"), 2, "'noizy' | did you mean noisy"),
    "no module file": (TRAIN.replace("own.py", "gone.py"), 2, "import_module: no file gone.py"),
    "syntax of a module": (TRAIN.replace("own", "syntax"), 2, "import_module | syntax.py:1"),
    "failing module": (TRAIN.replace("own", "raises"), 2, "RuntimeError: boom | raises.py:2"),
    "module's own import": (TRAIN.replace("own", "needs"), 2, "'no_such_thing' | needs.py:1"),
    "no launcher": (TRAIN + "--distribute True", 2, "distribute | msrun"),
    "no Ascend": (TRAIN + "--device_target Ascend", 2, "device_target Ascend is not on"),
    "log that is a folder": (
        TRAIN.replace("run_{name}", "log_folder"),
        2,
        "log_folder/train.log cannot be written: Is a directory | remove it",
    ),
    "place of a run": (TRAIN.replace("run_{name}", "/proc/run"), 2, "ckpt_save_dir /proc/run"),
    "place of events": (TRAIN + "--summary_dir /proc/events", 2, "summary_dir /proc/events"),
    "no weights": (TRAIN + "--ckpt_path gone.ckpt", 5, "'gone.ckpt' does not exist | expected"),
    "weights of text": (TRAIN + "--ckpt_path text.pth", 5, "'text.pth' | b'hello | .safetensors"),
    "others' weights": (TRAIN + "--ckpt_path tiny.ckpt", 5, "'tiny.ckpt' | missing | check model"),
    "no checkpoint": (TRAIN + "--resume gone.ckpt", 5, "resume: no checkpoint gone.ckpt | .json"),
    "unknown weights": (TRAIN + "--pretrained timm", 2, "noisy | checkpoint_path"),
    "rate too high": (TRAIN.replace("0.01", "1e30"), 3, "loss is | step | lower lr"),
    "overflowing rows": (TRAIN + "--num_samples 2", 2, "num_samples | 2 | batch_size 8"),
    # validate.py
    "no classifier to validate": (
        VALIDATE + "--model regnet_y_32gf --pretrained timm_seer",
        2,
        "timm_seer of regnet_y_32gf have no classifier | train.py",
    ),
    "no folder to validate": (
        VALIDATE.replace("images", "/nowhere") + "--ckpt_path tiny.ckpt",
        4,
        "/nowhere/val | expected <data_dir>",
    ),
    "cut checkpoint": (VALIDATE + "--ckpt_path cut.ckpt", 5, "'cut.ckpt' | write it again"),
    "web page": (VALIDATE + "--ckpt_path page.ckpt", 5, "'page.ckpt' | web page | fetch it again"),
    "other classes": (VALIDATE + "--ckpt_path tiny.ckpt", 4, "images/val | class_0"),
    # python -m mindcv
    "no command": ("mindcv trane", 2, "no command 'trane' | predict"),
    "no network": ("mindcv export --output x.onnx", 2, "--ckpt_path | neither was given"),
    "no classifier to predict": (
        PREDICT + "--model regnet_y_32gf --pretrained timm_seer",
        2,
        "timm_seer of regnet_y_32gf have no classifier | train.py",
    ),
    "unregistered": ("mindcv predict images/val --ckpt_path tiny.ckpt", 2, "'tiny_regnet'"),
    "text for an image": (
        PREDICT.replace("images/val/class_0", "text.pth") + "--ckpt_path tiny.ckpt",
        4,
        "skipped text.pth | 'hello | none of 1 file",
    ),
    "old torch file": (PREDICT + "--ckpt_path pickle.pth", 5, "'pickle.pth' | pickle | not run"),
    "no export": ("mindcv export --ckpt_path gone.ckpt --output x.onnx", 5, "'gone.ckpt'"),
    "export without Ascend": (
        "mindcv export --ckpt_path tiny.ckpt --import_module tiny_models.py --output x.air",
        2,
        "air | Ascend | mindir",
    ),
    "convert to what": ("mindcv convert tiny.ckpt x.pth", 2, "'x.pth' | .safetensors"),
    "convert nothing": ("mindcv convert empty.npz x.ckpt", 5, "'empty.npz' is empty | again"),
    "convert for another model": (
        "mindcv convert tiny.ckpt x.npz --model regnet_x_200mf",
        5,
        "'tiny.ckpt' is of model tiny_regnet | regnet_x_200mf",
    ),
    "average of one": ("mindcv average tiny.ckpt --output x.ckpt", 2, "two or more"),
    "scan nothing": ("mindcv scan gone", 4, "'gone' does not exist | <split>/<class>"),
    "pack nothing": ("mindcv pack gone out", 4, "no folder gone | expected class folders"),
    "pack into itself": ("mindcv pack images images", 2, "images | choose another place"),
    "report nothing": ("mindcv report empty", 4, "empty/config.yaml | ckpt_save_dir"),
    "lr of nothing": ("mindcv lr --config gone.yaml --steps_per_epoch 3", 2, "'gone.yaml'"),
    "info of a typo": ("mindcv info regnet_x_201mf", 2, "regnet_x_201mf | did you mean"),
    "list of a typo": ("mindcv list --import_module nope", 2, "'nope' | path ending in .py"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, image_folder, tiny_models) -> Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("errors")
    for name in ("images", "bad", "bad_val"):
        shutil.copytree(image_folder, folder / name)
    for victim in ("bad/train", "bad_val/val"):
        (folder / victim / "class_0/0000.jpg").write_text("no image", encoding="utf-8")
    (folder / "empty").mkdir()
    (folder / "log_folder/train.log").mkdir(parents=True)
    shutil.copy(tiny_models, folder / "tiny_models.py")
    for name, text in {
        "own.py": OWN_MODELS,
        "syntax.py": "def f(:\n",
        "raises.py": "x = 1\nraise RuntimeError('boom')\n",
        "needs.py": "import no_such_thing\n",
        "text.pth": "hello\n",
        "page.ckpt": "<html><p>404</p></html>",
        "empty.npz": "",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "pickle.pth").write_bytes(b"\x80\x04}.")
    whole = write_checkpoint(folder / "tiny.ckpt", weights(1, tiny_regnet(5, se_r=0.0)))
    content = whole.read_bytes()
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    return folder


def check_message(err: str, fragments: str) -> None:
    """One message, and not a line beside it."""
    assert "Traceback" not in err and "Call Stack" not in err
    lines = [line for line in err.splitlines() if not line.startswith("skipped ")]
    assert lines and lines[0].startswith("error: "), err
    assert all(line.startswith("  ") for line in lines[1:]), err
    assert len(err) < 1500
    for fragment in fragments.split(" | "):
        assert fragment in err


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_message_with_value_place_and_remedy(warm, place, name):
    words, code, fragments = MISTAKES[name]
    done = warm.run(words.format(name=name.replace(" ", "_")).split(), place)
    assert done.code == code, done.err
    check_message(done.err, fragments)


def test_a_path_of_any_bytes_can_be_told_and_written(warm, place):
    """Latin-1 on a UTF-8 system, and a terminal that knows ASCII only."""
    strange = os.fsdecode(b"gr\xf6\xdfer")
    shutil.copytree(place / "images", place / strange)
    words = TRAIN.replace("images", strange).format(name="strange").split()
    done = warm.run(words, place, PYTHONIOENCODING="ascii")
    assert (done.code, done.err) == (0, "")
    assert warm.run([*words, "--resume", "auto"], place).code == 0
    assert os.fsencode((place / "run_strange/config.yaml").read_text("utf-8")).isascii()
    words = TRAIN.replace("images", strange + "/none").format(name="none").split()
    done = warm.run(words, place)
    assert done.code == 4
    check_message(done.err, "gr\\udcf6\\udcdfer/none")


def line_of(part: str) -> int:
    lines = OWN_MODELS.splitlines()
    return next(number for number, line in enumerate(lines, 1) if part in line)


@pytest.mark.parametrize("mode", [0, 1])
def test_a_network_of_ones_own_that_fails_is_told_by_its_line(warm, place, mode):
    words = TRAIN.format(name=f"shape_{mode}").replace("noisy", "wrong_shape")
    done = warm.run([*words.split(), "--mode", mode], place)
    assert done.code == 1
    log = f"run_shape_{mode}/train.log"
    check_message(done.err, f"ValueError: For 'MatMul' | own.py:{line_of('x.reshape')} | {log}")
    told = (place / log).read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in told and "C++ Call Stack" in told


def test_without_a_run_folder_the_trace_is_kept_in_a_file_of_its_own(warm, place, tmp_path):
    write_checkpoint(place / "flat.ckpt", {"fc.weight": np.zeros((5, 10), np.float32)}, None)
    words = "mindcv predict images/val --import_module own.py --model wrong_call --num_classes 5"
    words = [*words.split(), "--ckpt_path", "flat.ckpt"]
    done = warm.run(words, place, TMPDIR=str(tmp_path))
    assert done.code == 1
    check_message(done.err, f"TypeError | 3 positional | own.py:{line_of('classes, 3')} | --debug")
    (log,) = tmp_path.glob("mindcv-*.log")
    assert str(log) in done.err
    assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")


def test_a_log_that_cannot_be_written_is_told_once_and_costs_no_more(warm, place):
    (place / "run_full").mkdir()
    (place / "run_full/train.log").write_bytes(b"x" * 300_000)
    limit = "\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    (place / "full.py").write_text((place / "tiny_models.py").read_text("utf-8") + limit, "utf-8")
    words = TRAIN.format(name="full").replace("own.py --model noisy", "full.py --model tiny")
    done = warm.run(words.split(), place)
    told = f"{place}/run_full/train.log cannot be written: File too large\n"
    assert (done.code, done.err) == (0, told)
    assert (place / "run_full/metrics.csv").exists()


def test_debug_shows_the_trace_in_place_of_the_log(warm, place):
    words = TRAIN.format(name="debug").replace("noisy", "wrong_call").split()
    done = warm.run([*words, "--debug"], place)
    assert done.code == 1 and "Traceback (most recent call last)" in done.err
    words = ["mindcv", "convert", "text.pth", "x.npz"]
    assert "Traceback" not in warm.run(words, place).err
    assert "Traceback" in warm.run([*words, "--debug"], place).err


def quiet_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GLOG_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def start(words: list, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a command from scratch, without the settings of whoever runs the tests."""
    script = ["-m", "mindcv"] if words[0] == "mindcv" else [str(ROOT / words[0])]
    return subprocess.run(
        [sys.executable, *script, *map(str, words[1:])],
        cwd=cwd,
        env=quiet_environment() | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_writes_nothing_to_stderr_and_the_noise_is_in_its_log(place):
    """From scratch: what importing MindSpore says, and the end of the interpreter, are part."""
    done = start(TRAIN.format(name="quiet").split(), place)
    assert (done.returncode, done.stderr) == (0, "")
    assert "C library" not in done.stdout and "WARNING" not in done.stdout
    log = (place / "run_quiet/train.log").read_text(encoding="utf-8")
    assert re.search(r"\[WARNING\] ME\(.*set_context.*device_target", log)  # MindSpore's Python
    assert "UserWarning: a warning of Python" in log
    assert "a line of some C library" in log
    assert "Exception ignored in" in log and "while dying" in log


def test_how_much_mindspore_tells_is_up_to_ones_own_glog_v(place):
    done = start(TRAIN.format(name="glog").split(), place, GLOG_v="1")
    assert (done.returncode, done.stderr) == (0, "")
    log = (place / "run_glog/train.log").read_text(encoding="utf-8")
    assert len(re.findall(r"^\[INFO\] \w+\(.*mindspore/ccsrc/", log, re.MULTILINE)) > 100


def test_glog_logtostderr_leaves_the_noise_on_the_terminal(warm, place):
    words = TRAIN.format(name="loud") + "--dry_run"
    done = warm.run(words.split(), place, GLOG_logtostderr="1")
    assert done.code == 0 and "a line of some C library" in done.err


def test_a_reader_that_leaves_early_is_no_error(place):
    pipe = f"{sys.executable} -m mindcv list | head -n 1"
    done = run_shell(pipe, place)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


def run_shell(line: str, cwd: Path) -> subprocess.CompletedProcess:
    words = ["/bin/sh", "-c", line]
    return subprocess.run(
        words, cwd=cwd, env=quiet_environment(), capture_output=True, text=True, timeout=120
    )


def test_a_crash_is_not_hidden(place, tmp_path):
    """What the interpreter says of a signal is for the terminal, not for the log."""
    module = tmp_path / "crash.py"
    module.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", encoding="utf-8")
    done = start(["mindcv", "list", "--import_module", module], place)
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr and "crash.py" in done.stderr
