"""Runs under msrun whose launcher, scheduler or supervisor has to end them, and names why."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import free_port, launcher
from test_rank_faults import (
    command,
    environment,
    newest_place,
    prepare,
    processes_of,
    run,
    wait_for_newer,
)
from test_resume import assert_equal_runs

from mindcv.ranks import read_records
from mindcv.tools.supervise.processes import descendants, ranks

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ranks")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("faults"))


def test_a_living_run_refuses_another_and_stops_with_its_msrun(place):
    words = [*launcher(2), f"--log_dir={place}/living_logs", *command("living")]
    living = subprocess.Popen(words, cwd=place, env=environment(SLOW=4))
    try:
        wait_for_newer(place / "living", None, living)
        scheduler = json.loads((place / "living/ranks/scheduler.json").read_text())["pid"]
        os.kill(scheduler, signal.SIGTERM)  # as one who stops all processes of a job does
        second = supervised("living", resume="auto")
        wrong = supervised("wrong", jit_level="O2")
        for words, cause in [
            (second, r"rank 0 .* code 2: ckpt_save_dir living is in use by process \d+ on"),
            (wrong, "code 2: command line: jit_level: O2 is Ascend's"),
        ]:
            began = time.monotonic()
            done = subprocess.run(
                words, cwd=place, env=environment(), capture_output=True, text=True, timeout=120
            )
            print(f"refused after {time.monotonic() - began:.1f} s")
            assert done.returncode == 2, done.stderr
            assert re.search(cause, done.stderr), done.stderr
            assert done.stderr.count(" begins ") == 1 and "not restarted" in done.stderr
        assert living.poll() is None

        living.terminate()
        began = time.monotonic()
        while (left := trainings_of(place)) and time.monotonic() < began + 60:
            time.sleep(0.1)
        print(f"ended {time.monotonic() - began:.1f} s after SIGTERM to msrun")
        assert left == []
    finally:
        kill_all_of(place)
        living.wait()
    assert [one.ending.exit_code for one in read_records(place / "living")] == [143, 143]
    epoch, step = newest_place(place / "living")
    stopped = read_records(place / "living")[0].ending.cause
    assert f"after step {step} of epoch {epoch}; continue with --resume auto" in stopped


def test_a_rank_that_never_comes_is_reported_when_the_wait_is_over(place):
    """One of two is started. What MindSpore says meanwhile stands in the logs."""
    words = launcher(2)
    words[words.index("--local_worker_num=2")] = "--local_worker_num=1"
    words += ["--node_rank=0", "--cluster_time_out=6", f"--log_dir={place}/alone_logs"]
    began = time.monotonic()
    done = subprocess.run(
        [*words, *command("alone")],
        cwd=place,
        env={key: value for key, value in environment().items() if key != "GLOG_v"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    print(f"ended after {time.monotonic() - began:.0f} s")
    assert done.returncode == 1
    told = r"error: the 2 processes of this run did not come together at 127.0.0.1:\d+ within 6 s"
    assert re.search(told, (place / "alone_logs/worker_0.log").read_text())
    assert re.search(told, done.stdout) and "did not expect this" not in done.stdout
    assert "[WARNING] DISTRIBUTED" in (place / "alone_logs/scheduler.log").read_text()


def test_supervise_names_a_killed_scheduler_and_then_a_rank_that_was_asked_to_stop(place):
    job = subprocess.Popen(
        supervised("named"),
        cwd=place,
        env=environment(SLOW=1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = place / "named"
    try:
        wait_for_newer(folder, None, job)
        began = newest_place(folder)
        killed = time.monotonic()
        os.kill(json.loads((folder / "ranks/scheduler.json").read_text())["pid"], signal.SIGKILL)
        wait_for_attempt(folder, 2, job)
        print(f"restarted {time.monotonic() - killed:.1f} s after the scheduler was killed")
        assert time.monotonic() - killed < 20
        wait_for_newer(folder, newest_place(folder) or began, job)
        os.kill(max(ranks(descendants(job.pid))), signal.SIGTERM)
        _, told = job.communicate(timeout=60)
    finally:
        job.kill()
        kill_all_of(place)
    assert job.returncode == 143, told
    first, last = [line for line in told.splitlines() if " ended after " in line]
    assert re.search(r"with 1: the scheduler \(process \d+ on .*\) ended without a word", first)
    assert re.search(r"with 143: rank \d \(process \d+ on .*\) ended with exit code 143", last)
    assert not (folder / "ranks/scheduler.json").exists()


def test_five_random_kills_under_supervise_come_to_the_same_bits(place):
    """Each time a rank or msrun itself, by kill -9, some moments after a new checkpoint."""
    random.seed(int(os.environ.get("KILL_SEED", "0")))
    env = environment(SLOW=0.5)
    job = subprocess.Popen(
        supervised("supervised"), cwd=place, env=env, stderr=subprocess.PIPE, text=True
    )
    folder, kills = place / "supervised", []
    try:
        while len(kills) < 5:
            wait_for_attempt(folder, len(kills) + 1, job)
            wait_for_newer(folder, newest_place(folder), job)
            time.sleep(random.uniform(0, 0.5))
            victims = {"a rank": ranks(descendants(job.pid)), "msrun": children(job.pid)}
            what = random.choice(["a rank", "msrun"])
            os.kill(random.choice(sorted(victims[what])), signal.SIGKILL)
            kills.append(what)
        _, told = job.communicate(timeout=600)
    finally:
        while job.poll() is None:  # it ends its job; the second signal kills
            job.terminate()
            time.sleep(0.5)
    print(kills, told)
    assert job.returncode == 0, told
    assert told.count(" begins ") == 6 and " begins from epoch " in told
    assert len(list((folder / "attempts").glob("*/worker_1.log"))) == 6
    assert processes_of(place) == []
    assert run(place, "whole").returncode == 0
    assert_equal_runs(folder, place / "whole")


def supervised(folder: str, **options) -> list[str]:
    """Return the words that supervise a training on two ranks."""
    words = [sys.executable, "-m", "mindcv", "supervise", "--backoff", "0.5", "--"]
    words += [str(Path(sys.executable).with_name("msrun")), "--worker_num=2"]
    words += ["--local_worker_num=2", f"--master_port={free_port()}"]
    return [*words, *command(folder, **options)]


def wait_for_attempt(folder: Path, number: int, job) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and job.poll() is None:
        if len(list((folder / "attempts").glob("*/output.log"))) >= number:
            return
        time.sleep(0.1)
    raise AssertionError("no further attempt")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def trainings_of(place: Path) -> list[str]:
    """Return what runs in a folder but for the `tail -f` that an msrun leaves which is ended."""
    return [words for words in processes_of(place) if "/tail -f " not in words]


def kill_all_of(place: Path) -> None:
    """End what a failed test has left; a passed one has left nothing."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(path / "cwd")) == place:
                os.kill(int(path.name), signal.SIGKILL)
