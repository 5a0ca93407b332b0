"""Runs of two processes in which one fails: both end soon, the cause is told, nothing is lost."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, launcher, write_images
from test_resume import MODEL, OPTIONS, assert_equal_runs

from mindcv.checkpoint import CheckpointStore
from mindcv.ranks import read_records

# FAULT is rank:what:N, what goes wrong in a rank before its N-th step is looked at. SLOW: seconds
# that a step takes longer.
MODULE = (
    MODEL
    + """
import numpy as np
from mindcv.engine.update import set_value

def full(*args):
    raise OSError(28, "No space left on device")

def fail(run, what):
    with open("fault_time", "w") as file:
        file.write(str(time.time()))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise ValueError("a fault of the user's own")
    if what == "full":
        store._write = full
        return
    # Not a weight in front of relu, which makes 0 of NaN on CPU.
    weight = next(one for one in run.state._weights if one.name == "fc.bias")
    values = weight.asnumpy().copy()
    if what == "flip":
        values.view(np.uint32).flat[0] ^= 1
    else:
        values.flat[0] = np.nan
    set_value(weight, values)

follow, seen = loop.after_step, []

def failing(run, at, loss, applied):
    seen.append(1)
    time.sleep(float(os.environ.get("SLOW", 0)))
    rank, what, count = os.environ.get("FAULT", "-1:none:0").split(":")
    if (os.environ["RANK_ID"], len(seen)) == (rank, int(count)):
        fail(run, what)
    follow(run, at, loss, applied)

loop.after_step = failing
"""
)


pytestmark = pytest.mark.xdist_group("ranks")


def prepare(root: Path) -> Path:
    """Fill a folder with 32 training and 7 validation images, and the network; return it."""
    write_images(root / "images/train", 32, 4)
    write_images(root / "images/val", 7, 4, seed=1)
    (root / "small.py").write_text(MODULE)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """The folder of a run of two processes that nothing interrupted."""
    done = run(place, "whole")
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "whole"


def command(folder: str, **options) -> list[str]:
    options = OPTIONS | {"batch_size": 2, "distribute": True, "device_target": "CPU"} | options
    options |= {"import_module": "small.py", "ckpt_save_dir": folder}
    options.setdefault("data_dir", "images")
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["python", str(ROOT / "train.py"), *words]


def environment(**changes) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changes = {"PYTHONPATH": ROOT} | changes
    return {**os.environ, "PATH": path, **{key: str(value) for key, value in changes.items()}}


def run(place: Path, folder: str, fault: str = "-1:none:0", kill: str = "", **options):
    """Train on two ranks under msrun; the result has the seconds from the fault to the end."""
    words = [*launcher(2), f"--log_dir={place / folder}_logs", *command(folder, **options)]
    env = environment(FAULT=fault, KILL=kill)
    done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=600)
    ended = time.time()
    if not fault.startswith("-1"):
        done.seconds = ended - float((place / "fault_time").read_text())
    return done


def processes_of(place: Path) -> list[str]:
    """Return the command lines of living processes that work in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(path / "cwd")) == place:
                found.append((path / "cmdline").read_text(errors="replace").replace("\0", " "))
        except OSError:
            continue
    return found


def assert_ended_by(done, place: Path, folder: str, rank: int, code: int, cause: str) -> None:
    """The run failed within a minute, left no process, and its user is told the cause."""
    assert done.returncode != 0 and done.seconds < 60
    print(f"{folder}: ended {done.seconds:.1f} s after the fault")
    assert processes_of(place) == []
    told = [line for line in done.stdout.splitlines() if line.startswith("Error: rank")]
    assert re.fullmatch(rf"Error: rank {rank} \(process \d+ on .*\) ended {cause}.*", told[0])
    for record in read_records(place / folder):
        if record.rank == rank and record.ending is not None:
            assert record.ending.exit_code == code
    # What MindSpore says of a missing process stands nowhere.
    logs = "".join(path.read_text(errors="replace") for path in place.glob(f"{folder}_logs/*"))
    assert "cluster is error" not in logs and "timed out node" not in logs


@pytest.mark.slow  # test_agreement flips each bit
def test_a_bit_that_flips_in_one_rank_is_found_before_anything_is_saved(place):
    """One bit of one weight of rank 1, after step 4; the next save would be at step 6."""
    done = run(place, "flipped", "1:flip:4")
    assert done.returncode != 0 and done.seconds < 60
    ranks_of = read_records(place / "flipped")
    assert [record.ending.exit_code for record in ranks_of] == [5, 5]
    for record in ranks_of:
        assert "rank 0 and rank 1 differ" in record.ending.cause
        assert "the first of them " in record.ending.cause
    # What others may read: one JSON file a rank, in the run folder.
    values = json.loads((place / "flipped/ranks/1.json").read_text())
    assert values["rank"] == 1 and values["ending"]["exit_code"] == 5
    assert CheckpointStore(place / "flipped").newest()[0].path.name == "small-1_3.json"
    assert processes_of(place) == []


@pytest.mark.slow
def test_a_run_whose_ranks_fail_in_turn_comes_to_the_same_bits(place, whole):
    """Killed, an exception in the user's module, a full disk on rank 0, both asked to stop.

    Amid an epoch the running statistics of the ranks differ, and each goes on with its own.
    """
    done = run(place, "ended", "1:kill:5", resume="auto")
    assert_ended_by(done, place, "ended", 1, 1, "without a word: it was killed")
    assert CheckpointStore(place / "ended").newest()[0].path.name == "small-1_3.json"

    done = run(place, "ended", "1:raise:7", resume="auto")
    cause = r"with exit code 1: ValueError: a fault of the user's own \(.*small.py:\d+\)"
    assert_ended_by(done, place, "ended", 1, 1, cause)
    assert "ERROR error: stopped, because rank 1" in (place / "ended/train.log").read_text()

    done = run(place, "ended", "0:full:4", resume="auto")
    cause = "with exit code 5: checkpoint .* cannot be written: No space left on device"
    assert_ended_by(done, place, "ended", 0, 5, cause)
    other = next(record for record in read_records(place / "ended") if record.rank == 1)
    assert other.ending is None or other.ending.exit_code == 5  # None: msrun was faster

    log = place / "ended_logs/worker_0.log"
    assert run(place, "ended", kill="SIGTERM:step:4", resume="auto").returncode != 0
    assert "stopped by SIGTERM after step" in log.read_text()

    done = run(place, "ended", resume="auto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resumed from" in log.read_text()
    assert_equal_runs(place / "ended", whole)


@pytest.mark.slow
def test_a_loss_that_one_rank_spoils_ends_both_with_3(place):
    done = run(place, "nan", "1:nan:5", loss_scale_type="fixed")
    assert done.returncode != 0 and done.seconds < 60
    assert {record.ending.exit_code for record in read_records(place / "nan")} == {3}
    assert processes_of(place) == []


@pytest.mark.slow
def test_too_many_bad_images_of_one_rank_end_both_with_4(place):
    shutil.copytree(place / "images", place / "bad", dirs_exist_ok=True)
    for path in sorted((place / "bad/train").glob("*/*"))[:6]:
        path.write_bytes(path.read_bytes()[:200])
    words = [*launcher(2), f"--log_dir={place}/bad_logs", *command("bad_run", data_dir="bad")]
    done = subprocess.run(words, cwd=place, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0 and processes_of(place) == []
    codes = [
        record.ending and record.ending.exit_code for record in read_records(place / "bad_run")
    ]
    assert 4 in codes and set(codes) <= {4, None}
    assert re.search(r"Error: rank \d .* ended with exit code 4: ", done.stdout)


@pytest.mark.slow
def test_without_join_msrun_returns_at_once_and_the_run_ends_by_itself(place):
    words = [*launcher(2)[:-1], f"--log_dir={place}/alone_logs", *command("alone")]
    env = environment(FAULT="1:kill:5")
    done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0  # msrun's: it knows nothing yet
    deadline = time.monotonic() + 300
    while processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert time.time() - float((place / "fault_time").read_text()) < 60
    first = next(record for record in read_records(place / "alone") if record.rank == 0)
    assert first.ending.exit_code == 1 and first.ending.of_rank == 1
    last = (place / "alone_logs/worker_0.log").read_text().strip().splitlines()[-1]
    assert last.startswith("error: stopped, because rank 1 (process ")


def newest_place(folder: Path) -> tuple[int, int] | None:
    manifest = CheckpointStore(folder).newest()[0] if folder.exists() else None
    return manifest and (manifest.record["epoch"], manifest.record["steps"])


def wait_for_newer(folder: Path, before: tuple[int, int] | None, job) -> None:
    """Wait for a checkpoint behind that place."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and job.poll() is None:
        place = newest_place(folder)
        if place is not None and (before is None or place > before):
            return
        time.sleep(0.1)
    raise AssertionError("no newer checkpoint")


def start_on_both(names, place: Path, folder: str, **options) -> list[subprocess.Popen]:
    msrun = [str(Path(sys.executable).with_name("msrun")), "--master_addr", "10.0.0.1"]
    msrun += ["--master_port", "18118", "--worker_num", "2", "--local_worker_num", "1"]
    msrun += ["--join", "True", "--log_dir", f"{place / folder}_logs"]
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *msrun, "--node_rank", str(rank)]
            + command(folder, **options),
            cwd=place,
            env=environment(SLOW=0.5),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, name in enumerate(names)
    ]


@pytest.mark.slow
def test_two_hosts_whose_cable_is_cut_end_and_go_on_to_the_same_bits(place, whole, two_hosts):
    names, set_cable = two_hosts
    both = start_on_both(names, place, "hosts")
    wait_for_newer(place / "hosts", None, both[0])
    time.sleep(1)
    set_cable("down")
    cut = time.monotonic()
    outputs = [process.communicate(timeout=300)[0] for process in both]
    seconds = time.monotonic() - cut
    assert all(process.returncode != 0 for process in both) and seconds < 90, outputs
    print(f"both ended {seconds:.0f} s after the cut")
    assert processes_of(place) == []
    causes = [record.ending.cause for record in read_records(place / "hosts")]
    assert all("cannot be reached any more: a host, a process or the network" in c for c in causes)
    assert all("cannot be reached any more" in output for output in outputs)

    set_cable("up")
    both = start_on_both(names, place, "hosts", resume="auto")
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "resumed from" in outputs[0]
    assert_equal_runs(place / "hosts", whole)
