"""Fixtures shared by the tests: small image folders, a tiny model, and running the commands."""

import inspect
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image
from warm_commands import WarmCommands

from mindcv.checkpoint import CheckpointStore

ROOT = Path(__file__).parent.parent
# Commands keep compiled graphs and downloads there, not in the home of who runs the tests.
CACHE = tempfile.TemporaryDirectory(prefix="mindcv-cache-")
os.environ["MINDCV_CACHE"] = CACHE.name
WARM = WarmCommands()

# A network without batch statistics, registered as a user would: by a file of one's own. With
# DUMP_WEIGHTS set, each process leaves its final weights behind, so that ranks can be compared.
TINY_MODEL = """
import atexit, os
import numpy as np
from mindspore import nn
from mindcv import register_model
from mindcv.models import RegNet

class Tiny(nn.Cell):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.pool = nn.AvgPool2d(4, 4)
        self.fc = nn.Dense(in_channels * 64, num_classes)

    def construct(self, x):
        x = self.pool(x)
        return self.fc(x.reshape((x.shape[0], -1)))

def remember(network):
    def dump():
        path = os.path.join(os.environ["DUMP_WEIGHTS"], os.environ.get("RANK_ID", "0") + ".npz")
        np.savez(path, **{p.name: p.asnumpy() for p in network.get_parameters()})
    if "DUMP_WEIGHTS" in os.environ:
        atexit.register(dump)
    return network

@register_model
def tiny(num_classes=1000, in_channels=3):
    return remember(Tiny(num_classes, in_channels))

@register_model
def tiny_regnet(num_classes=1000, in_channels=3, **kwargs):
    net = RegNet(8, 8, 2.0, 3, 8, num_classes=num_classes, in_channels=in_channels, **kwargs)
    return remember(net)
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With `--dist loadgroup`: one process takes a file, and one all tests that start two ranks."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def keep_mode():
    """Leave MindSpore's mode as it was: a test that needs another one is not seen by the next."""
    mode = ms.get_context("mode")
    yield
    if ms.get_context("mode") != mode:
        ms.set_context(mode=mode)


same_mode = pytest.fixture(keep_mode, autouse=True)
same_mode_after_module = pytest.fixture(keep_mode, autouse=True, scope="module")  # its fixtures


@pytest.fixture
def pynative_mode(same_mode):
    """Compute without compiling, which takes longer than the test of a few small operations."""
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture
def fixed_seed():
    """Seed the input pipeline, and leave it as it was."""
    before = ds.config.get_seed()
    ds.config.set_seed(42)
    yield
    ds.config.set_seed(before)


@pytest.fixture
def log_lines():
    """Collect what the library logs."""
    lines, logger = [], logging.getLogger("mindcv")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler), logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler), logger.setLevel(level)


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    """The checkpoints of a new run folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    return CheckpointStore(folder)


@pytest.fixture
def gone_pid() -> int:
    """Return the number of a process that has ended."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


@pytest.fixture
def started_alone(monkeypatch):
    """Hide a launcher that may have started the tests themselves."""
    for key in ("MS_ROLE", "MS_WORKER_NUM", "OMPI_COMM_WORLD_RANK", "RANK_TABLE_FILE"):
        monkeypatch.delenv(key, raising=False)


@pytest.fixture
def blocked_mindspore(tmp_path) -> dict[str, str]:
    """Environment in which importing MindSpore ends a process."""
    (tmp_path / "no_mindspore").mkdir()
    stand_in = tmp_path / "no_mindspore/mindspore.py"
    stand_in.write_text("raise SystemExit('mindspore was imported')", encoding="utf-8")
    return {"PYTHONPATH": f"{stand_in.parent}{os.pathsep}{ROOT}"}


def write_images(folder: Path, count: int, classes: int, seed: int = 0) -> None:
    """Write JPEGs of 120 x 90 pixels, blurred noise tinted by class, to folder/<class>/."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = index % classes
        noise = rng.integers(0, 255, (6, 8, 3))
        noise[..., label % 3] //= 2 + label
        place = folder / f"class_{label}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(noise.astype(np.uint8)).resize((120, 90), Image.BILINEAR)
        picture.save(place / f"{index:04d}.jpg", quality=92)


@pytest.fixture(scope="session", autouse=True)
def warm():
    """Commands in processes of their own that need not import MindSpore first."""
    with WARM:
        yield WARM


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """48 training and 11 validation images of 6 classes."""
    root = tmp_path_factory.mktemp("images")
    write_images(root / "train", 48, 6)
    write_images(root / "val", 11, 6, seed=1)
    return root


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny_models.py"
    path.write_text(TINY_MODEL, encoding="utf-8")
    return path


@pytest.fixture
def short_run(image_folder, tiny_models, tmp_path) -> list[str]:
    return short_run_in(tmp_path / "run", image_folder, tiny_models)


def short_run_in(run_folder: Path, image_folder: Path, tiny_models: Path) -> list[str]:
    """Return the words of a deterministic run of 3 epochs of 6 steps on the small folder."""
    options = {
        "import_module": tiny_models,
        "model": "tiny",
        "data_dir": image_folder,
        "image_resize": 32,
        "batch_size": 8,
        "epoch_size": 3,
        "warmup_epochs": 1,
        "opt": "momentum",
        "lr": 0.01,
        "scale": "1.0,1.0",
        "ratio": "1.0,1.0",
        "hflip": 0,
        "color_jitter": "null",
        "shuffle": "False",
        "val_while_train": "True",
        "log_interval": 2,
        "ckpt_save_dir": run_folder,
    }
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def parameters_of(function: Callable) -> list[inspect.Parameter]:
    """Return what a function or class takes; Python 3.11.2 shows a Cell's `__new__` instead."""
    if isinstance(function, type):
        return list(inspect.signature(function.__init__).parameters.values())[1:]
    return list(inspect.signature(function).parameters.values())


def wait_for_end_of_group(group: int, seconds: float = 10) -> None:
    """Wait until no process of a process group is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)  # raises where the group has no process any more
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("processes are left")


def run_command(
    script: str, *arguments, cwd: Path, env: dict | None = None, launcher: list[str] | None = None
) -> subprocess.CompletedProcess:
    """Run train.py or validate.py in a process of its own: with a launcher, or warm.

    With an environment of its own, which Python or MindSpore may read at the start, it starts cold.
    """
    if env is None and launcher is None:
        done = WARM.run([script, *arguments], cwd)
        return subprocess.CompletedProcess([script, *arguments], done.code, done.out, done.err)
    # msrun wants the plain word python; PATH leads it to this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python = "python" if launcher else sys.executable
    return subprocess.run(
        [*(launcher or []), python, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    before = ms.get_context("mode")
    ms.set_context(mode=request.param)
    yield request.param
    ms.set_context(mode=before)


def launcher(workers: int) -> list[str]:
    """Return the msrun words for so many processes on this machine."""
    msrun = Path(sys.executable).with_name("msrun")
    return [
        str(msrun),
        f"--worker_num={workers}",
        f"--local_worker_num={workers}",
        f"--master_port={free_port()}",
        "--join=True",
    ]


@pytest.fixture
def two_hosts():
    """Network namespaces with addresses 10.0.0.1 and 10.0.0.2; what cuts and mends their cable."""
    names, cable = [[f"{word}{os.getpid()}{end}" for end in "ab"] for word in ("mindcv", "mc")]
    ip = shutil.which("ip")
    if ip is None or os.geteuid() != 0:
        pytest.skip("two hosts need the command ip and the rights of root")

    def do(*words: str) -> None:
        done = subprocess.run([ip, *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"two hosts: ip {' '.join(words)}: {done.stderr.strip()}")

    try:
        for name in names:
            do("netns", "add", name)
            do("-n", name, "link", "set", "lo", "up")
        do("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for number, (name, end) in enumerate(zip(names, cable), 1):
            do("link", "set", end, "netns", name)
            do("-n", name, "addr", "add", f"10.0.0.{number}/24", "dev", end)
            do("-n", name, "link", "set", end, "up")
        yield names, lambda state: do("-n", names[0], "link", "set", cable[0], state)
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], capture_output=True)


@pytest.fixture
def launched(monkeypatch):
    """Look like one of the processes that `msrun --worker_num 8` starts."""
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("MS_WORKER_NUM", "8")


@pytest.fixture
def pictures(image_folder, tmp_path):
    """Five images in a folder and one inside it."""
    folder = tmp_path / "pictures"
    (folder / "Zebra").mkdir(parents=True)
    sources = sorted((image_folder / "val").rglob("*.jpg"))[:5]
    for name, source in zip(
        ("a.JPG", "b.jpeg", "Zebra/c.Jpg", "Zebra/d.png", "ü b,c.bmp"), sources
    ):
        Image.open(source).save(
            folder / name, Image.registered_extensions()[Path(name.lower()).suffix]
        )
    return folder
