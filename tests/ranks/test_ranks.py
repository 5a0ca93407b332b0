"""What processes of a run write down of themselves, and how one ends because of another."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from mindcv.errors import DataError, Interrupted, RankError
from mindcv.ranks import (
    Ending,
    Record,
    failing_together,
    failure,
    first_failure,
    read_records,
    record,
    root_cause,
)
from mindcv.ranks.failure import recorded_ending
from mindcv.ranks.record import SCHEDULER, OwnRecord, begin_record, is_running, write_first_failure

# A process without MindSpore: argv is rank, run folder and what it does after all have begun.
STAND_IN = """
import os, signal, sys, time, types
from pathlib import Path
from mindcv.config import Config
from mindcv.errors import DataError
from mindcv.command import run
from mindcv.ranks import read_records, watch_ranks

rank, folder, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
calls = []

def gather(values):
    import numpy as np
    calls.append(values)
    paths = [Path(folder, f"{len(calls)}-{one}.npy") for one in range(2)]
    np.save(f"{folder}/part-{rank}.npy", values)
    os.replace(f"{folder}/part-{rank}.npy", paths[rank])
    while not paths[1 - rank].exists():
        time.sleep(0.01)
    return np.stack([np.load(path) for path in paths])

runtime = types.SimpleNamespace(
    world_size=2, rank=rank, is_main=rank == 0, sum_over_ranks=lambda values: [77], gather=gather
)

def main(config):
    watch_ranks(folder, runtime)
    while len(read_records(Path(folder))) < 2:
        time.sleep(0.01)
    if what == "raise":
        raise DataError("image x.jpg cannot be read")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

del sys.argv[1:]
run(main, "stand-in", "", rules=lambda config: ())
"""


def start(rank, folder, what, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", STAND_IN, str(rank), str(folder), what],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    "what, code, cause",
    [
        ("raise", 4, "ended with exit code 4: image x.jpg cannot be read"),
        ("kill", 1, "ended without a word: it was killed"),
    ],
)
def test_a_process_that_waits_ends_with_the_cause_and_code_of_the_one_that_failed(
    tmp_path, what, code, cause
):
    waiting, failing = start(0, tmp_path, "wait"), start(1, tmp_path, what)
    _, told = failing.communicate(timeout=60)
    begin = time.monotonic()
    printed, errors = waiting.communicate(timeout=60)
    assert time.monotonic() - begin < 15
    assert waiting.returncode == code
    assert f"stopped, because rank 1 (process {failing.pid} on " in printed + errors
    assert cause in printed + errors and "Traceback" not in printed + errors + told
    own, other = read_records(tmp_path)
    assert own.ending.of_rank == 1 and own.ending.exit_code == code
    assert other.ending is None or other.ending.cause == "image x.jpg cannot be read"


def test_an_ending_needs_no_further_room_on_the_disk(tmp_path):
    record = OwnRecord(tmp_path, 5, 0)
    path = tmp_path / "ranks/0.json"
    before = path.stat()
    record.end(5, "the disk is full: größer " * 1000)
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (
        before.st_ino,
        before.st_size,
        before.st_blocks,
    )
    assert read_records(tmp_path)[0].ending.cause.startswith("the disk is full: größer")
    record.end(0, "")  # the first ending counts
    assert read_records(tmp_path)[0].ending.exit_code == 5


def test_what_is_no_record_is_passed_over(tmp_path):
    OwnRecord(tmp_path, 5, 0)
    (tmp_path / "ranks/1.json").write_text("")
    (tmp_path / "ranks/2.json").write_text("[1]")
    (tmp_path / "ranks/3.json").write_text('{"ending": null, "rank": 3}')
    assert [record.rank for record in read_records(tmp_path)] == [0]
    assert read_records(tmp_path / "nowhere") == []


RUNNING = Record(1, 0, os.getpid(), "host", "elsewhere")


def ended(rank, code, time=0.0, of_rank=None) -> Record:
    return replace(RUNNING, rank=rank, ending=Ending(code, "cause", of_rank, time))


def test_the_cause_is_the_first_failure_that_no_other_caused(tmp_path, gone_pid):
    here = OwnRecord(tmp_path, 1, 0).record
    killed = replace(here, rank=2, pid=gone_pid)
    assert killed.is_gone and not here.is_gone
    assert not replace(killed, pid_space="another host").is_gone  # its number means nothing here
    assert root_cause([RUNNING, ended(1, 0), ended(2, 143), ended(3, 130)]) is None
    assert root_cause([ended(0, 4, 5.0), ended(1, 5, 3.0), ended(2, 3, 1.0, of_rank=1)]).rank == 1
    assert root_cause([here, killed]) is killed
    assert root_cause([replace(killed, rank=1), killed, ended(3, 1, of_rank=2)]) is killed
    assert root_cause([killed, ended(1, 4)]).rank == 1  # a launcher kills the others
    assert root_cause([]) is None


def test_of_two_killed_ranks_the_cause_is_the_one_that_msrun_has_reaped(tmp_path, gone_pid):
    """msrun polls each second: it may kill the others before anybody else sees the first end."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    here = OwnRecord(tmp_path, 1, 0).record
    reaped, zombie = replace(here, rank=1, pid=gone_pid), replace(here, pid=child.pid)
    assert zombie.is_gone and root_cause([zombie, reaped]) is reaped
    child.wait()
    assert root_cause([zombie, reaped]) is zombie


def test_the_first_failure_that_somebody_saw_counts_where_all_were_killed(tmp_path):
    record = OwnRecord(tmp_path, 8, 1).record
    write_first_failure(tmp_path, record)
    assert first_failure(tmp_path, runs_before=[]).rank == 1
    assert first_failure(tmp_path, runs_before=[8]) is None


@pytest.fixture
def own_record(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "_own", None)
    monkeypatch.setattr(failure, "_LINGER", 0.0)
    monkeypatch.delenv("MS_ROLE", raising=False)
    return begin_record(tmp_path, 3, 0)


def raising(error):
    with recorded_ending(None):
        raise error


@pytest.mark.parametrize(
    "error, code, cause",
    [
        (DataError("bad image"), 4, "bad image"),
        (Interrupted(15, "stopped by SIGTERM"), 143, "stopped by SIGTERM"),
        (KeyboardInterrupt(), 130, "stopped by the user"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero"),
        (RuntimeError("\n----\n- Kernel error:\n----\nbad shape"), 1, "RuntimeError: bad shape"),
    ],
)
def test_an_error_is_written_down_and_goes_on(own_record, error, code, cause):
    with pytest.raises(type(error)):
        raising(error)
    ending = own_record.record.ending
    assert ending.exit_code == code and ending.cause.startswith(cause)


def test_an_end_without_an_error_is_written_down(own_record):
    with recorded_ending(None):
        assert own_record.record.ending is None
    assert own_record.record.ending.exit_code == 0


@pytest.mark.parametrize(
    "message",
    [
        "The state of the cluster is error, total nodes num: 2, abnormal nodes num: 1\n\n-----",
        "\n-----\n- Kernel error:\n-----\nLaunch kernel failed: Default/AllReduce-op3\n",
        "The total number of timed out node is 1. Timed out node list is: {1}",
        "Worker 0 is the first one timed out",
        "Ascend Error Message:\nEI0006: Getting socket times out. Reason: Remote Rank did not send",
        "Communication_Error_Timeout(EI0002): An timeout occurs when the Notify register waits",
    ],
)
def test_what_mindspore_says_of_missing_processes_is_told_readably(own_record, message):
    """The messages are those of MindSpore 2.10 on CPU, and of HCCL's manual."""
    with pytest.raises(RankError, match="cannot be reached any more: a host, a process"):
        raising(RuntimeError(message))
    assert own_record.record.ending.exit_code == 1


@pytest.mark.parametrize(
    "message",
    [
        "Failed to initialize distributed job cluster because some processes in the cluster are "
        "not successfully spawned. You can run command: …\n1.Spawned worker process number is …",
        "Failed to register the compute graph node: 0. Reason: Repeated registration node: 0",
    ],
)
def test_processes_that_are_missing_from_the_start_are_told_with_what_to_check(
    own_record, message, monkeypatch
):
    for key, value in (("WORKER_NUM", "16"), ("SCHED_PORT", "8118"), ("TOPO_TIMEOUT", "600")):
        monkeypatch.setenv(f"MS_{key}", value)
    monkeypatch.setenv("MS_SCHED_HOST", "10.0.0.1")
    with pytest.raises(
        RankError, match="the 16 processes .* at 10.0.0.1:8118 within 600 s"
    ) as told:
        raising(RuntimeError(message))
    assert "--cluster_time_out" in str(told.value) and message[:40] in str(told.value)


def test_an_error_after_another_process_failed_is_told_as_that_failure(own_record, tmp_path):
    OwnRecord(tmp_path, 3, 1).end(5, "checkpoint cannot be written")
    OwnRecord(tmp_path, 2, 2).end(4, "of a run before")
    with pytest.raises(RankError, match="rank 1 .* exit code 5: checkpoint cannot") as caught:
        raising(RuntimeError("anything"))
    assert caught.value.exit_code == 5
    assert own_record.record.ending.of_rank == 1


def test_without_a_run_folder_the_scheduler_is_left_to_mindspore(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    with recorded_ending(None):
        pass


def start_scheduler(folder) -> subprocess.Popen:
    """Start a scheduler without MindSpore of a run of two; the first line is its own process."""
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from mindcv.ranks.watch import guard_scheduler\n"
        "guard_scheduler(Path(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MS_WORKER_NUM": "2"}
    words = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("killed", ["all of it", "the one that computes nothing"])
def test_a_killed_scheduler_is_the_cause_where_a_rank_ended_because_of_it(tmp_path, killed):
    OwnRecord(tmp_path, 6, 0)  # of a run that goes on in the same folder, and is none of its own
    scheduler = start_scheduler(tmp_path)
    child = int(scheduler.stdout.readline())
    own = OwnRecord(tmp_path, 7, 1)
    wait_for(lambda: any(one.rank == SCHEDULER and one.run == 7 for one in own.others()))
    scheduler.send_signal(signal.SIGTERM)  # its ranks need it while they save
    os.kill(child, signal.SIGTERM)
    time.sleep(0.2)
    assert scheduler.poll() is None and is_running(child)
    os.kill(scheduler.pid if killed == "all of it" else child, signal.SIGKILL)
    printed, _ = scheduler.communicate(timeout=10)
    wait_for(lambda: not is_running(child))
    cause = root_cause(own.others())
    assert cause.rank == SCHEDULER
    who = f"the scheduler (process {scheduler.pid} on "
    if killed == "all of it":
        assert cause.describe().startswith(who) and "scheduler.log" in cause.describe()
    else:
        assert (scheduler.returncode, printed) == (1, f"Error: {cause.describe()}\n")
        assert cause.describe().startswith(who) and "killed by SIGKILL" in cause.describe()
    assert first_failure(tmp_path, runs_before=[6]) is None  # its ranks may have been done
    own.end(1, "stopped", of_rank=SCHEDULER)
    assert first_failure(tmp_path, runs_before=[6]) == cause


@pytest.mark.parametrize("failing", [0, 1])
def test_what_fails_in_one_process_before_the_first_step_ends_all_with_its_code(failing):
    codes = np.zeros((2, 1), np.float32)
    codes[failing] = 4
    given = []

    def gather(values):
        given.append(values)
        return codes

    for rank in range(2):
        runtime = types.SimpleNamespace(world_size=2, rank=rank, gather=gather)
        kind = DataError if rank == failing else RankError
        with pytest.raises(kind) as caught, failing_together(runtime):
            if rank == failing:
                raise DataError("no images")
        assert caught.value.exit_code == 4
        if rank != failing:
            assert caught.value.rank == failing
            assert f"rank {failing} ended with exit code 4" in str(caught.value)
    assert sorted(given) == [[0], [4]]


def test_ranks_that_were_all_asked_to_stop_end_the_scheduler_without_an_error(tmp_path):
    scheduler = start_scheduler(tmp_path)
    assert scheduler.stdout.readline()
    ranks = [OwnRecord(tmp_path, 7, rank) for rank in range(2)]
    wait_for(lambda: len(read_records(tmp_path)) == 3)
    ranks[0].end(143, "stopped by SIGTERM")
    time.sleep(0.3)
    assert scheduler.poll() is None
    ranks[1].end(143, "stopped by SIGTERM")
    printed, _ = scheduler.communicate(timeout=10)
    assert (scheduler.returncode, printed) == (143, "")
    assert len(read_records(tmp_path)) == 2


# As msrun: it starts a rank and waits for it, or does not.
STARTS_A_RANK = """
import subprocess, sys
rank = "from mindcv.process.signals import end_with_launcher; import time; end_with_launcher();"
rank += "print('ready', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", rank])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("words", [["--join=True"], ["--join", "true"], ["--join", "False"], []])
def test_a_rank_is_asked_to_stop_when_the_msrun_that_waits_for_it_ends(words):
    launcher = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_RANK, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    rank = int(launcher.stdout.readline())
    try:
        assert launcher.stdout.readline() == "ready\n"
        launcher.send_signal(signal.SIGTERM)
        launcher.wait()
        ends = bool(words) and words[-1].lower().endswith("true")
        deadline = time.monotonic() + (20 if ends else 0.3)
        while is_running(rank) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert is_running(rank) != ends
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)
        launcher.stdout.close()
