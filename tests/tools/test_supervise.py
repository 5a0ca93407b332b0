"""`supervise` restarts a job while that helps, and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from mindcv.errors import ConfigError
from mindcv.tools.supervise.command import read_job
from mindcv.tools.supervise.processes import descendants

# A job without MindSpore, with the options of train.py. plan.json has one entry an attempt: saves,
# the number of checkpoints to write, and end: an exit code, or a signal's name, or hold.
STAND_IN = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from mindcv.checkpoint import CheckpointStore, position_of
from mindcv.ranks import is_over

folder = Path(sys.argv[sys.argv.index("--ckpt_save_dir") + 1])
print("resume", sys.argv[sys.argv.index("--resume") + 1], flush=True)
number = len(list((folder / "attempts").glob("*-*"))) - 1
plan = json.loads(Path("plan.json").read_text())[number]
store = CheckpointStore(folder)

def save():
    newest = store.newest()[0]
    epoch = position_of(newest.path.stem).epoch + 1 if newest else 1
    step, batches = plan.get("within", [4, 1])
    epoch = plan.get("epoch", epoch)
    if newest and "within" in plan:  # as a run that continues within an epoch on other ranks
        for path in folder.glob(f"{newest.path.stem}*"):
            path.unlink()
    name, write = f"net-{epoch}_{step}", lambda file: file.write(b"x")
    record = {"update": {"batches": batches}} if "within" in plan else {}
    store.save(name, {f"{name}.ckpt": write, f"{name}.state.npz": write}, record)

for _ in range(plan.get("saves", 0)):
    save()
for part in plan.get("parts", []):
    time.sleep(0.2)
    is_over(part)
if plan.get("parts"):
    time.sleep(1)  # the supervisor looks
if plan.get("orphan"):
    subprocess.Popen(["sleep", "300"], start_new_session=True)
end = plan["end"]
if end == "hold":
    def stop(number, frame):
        save()
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, stop)
    print("holding", flush=True)
    time.sleep(300)
if isinstance(end, str):
    os.kill(os.getpid(), getattr(signal, end))
sys.exit(end)
"""


@pytest.fixture
def job(tmp_path):
    """A function that starts the supervisor of a stand-in; it takes the plan and options.

    A closed terminal counts even where the tests themselves run under nohup.
    """
    (tmp_path / "train.py").write_text(STAND_IN)

    def start(plan, *options, backoff="0.01", handling=signal.SIG_DFL) -> subprocess.Popen:
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        words = [sys.executable, "-m", "mindcv", "supervise", "--backoff", backoff, *options, "--"]
        return subprocess.Popen(
            [*words, sys.executable, "train.py", "--ckpt_save_dir", "run"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(signal.signal, signal.SIGHUP, handling),
        )

    return start


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    printed, told = process.communicate(timeout=120)
    return process.returncode, printed, told


def test_a_job_that_is_killed_goes_on_from_its_newest_checkpoint(job, tmp_path):
    plan = [{"saves": 1, "end": "SIGKILL"}, {"saves": 2, "end": 5}, {"saves": 1, "end": 0}]
    code, printed, told = ended(job(plan))
    assert code == 0, told
    assert printed.splitlines() == ["resume auto"] * 3
    lines = [line.split(" ", 3)[3] for line in told.strip().splitlines()]
    begins = [line.partition(":")[0].split(" begins ")[1] for line in lines if " begins " in line]
    assert begins == ["without a checkpoint", "from epoch 1, step 4", "from epoch 3, step 4"]
    assert [line for line in lines if line.startswith("restart")] == [
        "restart 1 of 10 in 0 s",
        "restart 2 of 10 in 0 s",
    ]
    assert lines[-1] == "done; exit code 0"
    attempts = tmp_path / "run/attempts"
    assert len(list(attempts.glob("*/output.log"))) == 3
    assert all(p.read_text() == "resume auto\n" for p in attempts.glob("*/output.log"))
    assert (attempts / "supervise.log").read_text() == told


def test_the_way_from_a_failure_to_the_next_trained_step_is_told_in_parts(job):
    own = ["start", "restore", "first batch", "compile", "first step"]
    first = {"saves": 1, "end": "SIGKILL", "parts": own}
    stalled = {"end": 1, "parts": own[:-1]}
    code, _, told = ended(job([first, stalled, {"end": 0, "parts": own}], backoff="0.5"))
    assert code == 0, told
    lines = [line.split(" ", 3)[3] for line in told.splitlines() if ": start " in line]
    lines += [line.split(" ", 3)[3] for line in told.splitlines() if ": detect " in line]
    assert len(lines) == 2 and lines[0].startswith("training ")
    begin, spent = lines[1].split(": ")
    assert begin.startswith("training ") and begin.endswith(" s after the failure")
    parts = {name: float(value) for name, value in (x.rsplit(" ", 1) for x in spent.split(", "))}
    assert list(parts) == ["detect", "wait", *own]
    assert all(parts[name] > 0.1 for name in own[1:]) and parts["wait"] >= 0.5
    assert parts["start"] > 0.2  # with the start of Python
    assert float(begin.split()[1]) == pytest.approx(sum(parts.values()), abs=0.5)


@pytest.mark.parametrize(
    "plan, options, code, attempts, reason",
    [
        ([{"end": 7}] * 9, (), 7, 2, "2 attempts in a row made no newer checkpoint"),
        ([{"end": 7}] * 9, ("--max_stalls", "0"), 7, 1, "1 attempt in a row made no newer"),
        # Twice as many ranks take half the steps: 12 steps were 6 updates, now 9 steps are 9.
        (
            [
                {"saves": 1, "epoch": 2, "within": [12, 2], "end": 1},
                {"saves": 1, "epoch": 2, "within": [9, 1], "end": 1},
                {"end": 0},
            ],
            *(("--max_stalls", "0"), 0, 3, "done"),
        ),
        ([{"saves": 1, "end": 1}] * 9, ("--max_restarts", "2"), 1, 3, "2 restarts allowed"),
        ([{"saves": 1, "end": 2}], (), 2, 1, "would not help: options or configuration are wrong"),
        ([{"saves": 1, "end": 3}], (), 3, 1, "would not help: the loss is not finite"),
        ([{"saves": 1, "end": 143}], (), 143, 1, "the job was asked to stop"),
        ([{"saves": 1, "end": "SIGINT"}], (), 130, 1, "the job was asked to stop"),
        ([{"saves": 1, "end": "SIGSEGV"}, {"end": 0}], (), 0, 2, "done"),
    ],
)
def test_restarting_ends_where_it_does_not_help(job, plan, options, code, attempts, reason):
    found, _, told = ended(job(plan, *options))
    assert found == code and told.count(" begins ") == attempts
    assert reason in told.strip().splitlines()[-1]


def test_waiting_times_double_while_nothing_is_gained(job):
    plan = [{"saves": 1, "end": 1}, {"end": 1}, {"end": 1}, {"saves": 1, "end": 1}, {"end": 0}]
    _, _, told = ended(job(plan, "--max_stalls", "5", backoff="0.05"))
    waits = [line.split(" in ")[1] for line in told.splitlines() if " restart " in line]
    assert waits == ["0 s", "0.05 s", "0.1 s", "0 s"]


def wait_for(process: subprocess.Popen, word: str) -> None:
    while (line := process.stdout.readline()) and word not in line:
        pass


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_handed_on_and_the_checkpoint_waited_for(job, tmp_path, name):
    process, number = job([{"saves": 1, "end": "hold"}]), getattr(signal, name)
    wait_for(process, "holding")
    process.send_signal(number)
    code, _, told = ended(process)
    assert code == 128 + number and told.count(" begins ") == 1
    assert f"{name}: the job is asked to stop and may save" in told
    assert (tmp_path / "run/net-2_4.json").exists()
    assert f"stopped by {name}; the same command goes on" in told.splitlines()[-1]


def test_a_signal_while_waiting_ends_it_at_once(job):
    process = job([{"end": 1}] * 3, backoff="100")
    while "restart 1" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    code, _, told = ended(process)
    assert code == 143 and "stopped by SIGTERM before restart 1" in told


def test_what_a_job_leaves_behind_is_ended(job):
    process = job([{"saves": 1, "orphan": True, "end": 1}, {"end": "hold"}])
    wait_for(process, "holding")
    living = descendants(process.pid)
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in living]
    assert not any(b"sleep" in words for words in commands) and len(living) == 1
    process.send_signal(signal.SIGTERM)
    _, _, told = ended(process)
    assert "1 process left over, now ended" in told


def test_the_supervisor_needs_no_mindspore_and_starts_at_once():
    begin = time.monotonic()
    program = "import sys, mindcv.tools.supervise.command; print('mindspore' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "False" and time.monotonic() - begin < 10


# What msrun does: it starts ranks, and ends with 1 when one of them has failed.
LAUNCHER = """
import os, subprocess, sys
code = "from mindcv.command import run; run(print, 'train.py', '')"
for rank in "01":
    env = {**os.environ, "MS_ROLE": "MS_WORKER", "RANK_ID": rank}
    subprocess.run([sys.executable, "-c", code, "--mode", "7"], env=env)
sys.exit(1)
"""


def test_a_rank_that_ends_before_it_has_a_record_is_told_and_not_restarted(job, tmp_path):
    (tmp_path / "train.py").write_text(LAUNCHER)
    code, _, told = ended(job([]))
    assert code == 2 and told.count(" begins ") == 1
    assert "rank 0 (process " in told and "ended with exit code 2: command line: mode" in told
    assert "options or configuration are wrong" in told.splitlines()[-1]


def test_a_rank_that_was_stopped_is_told_with_its_number(job, tmp_path):
    (tmp_path / "train.py").write_text(
        "import sys, time\nfrom pathlib import Path\nfrom mindcv.ranks.record import OwnRecord\n"
        "for rank in (2, 1):\n"
        "    OwnRecord(Path('run'), 7, rank).end(143, 'stopped by SIGTERM')\n"
        "    time.sleep(0.01)\n"
        "sys.exit(1)\n"
    )
    code, _, told = ended(job([]))
    assert code == 143 and "with 143: rank 2 (process " in told


TRAIN = ("python", "train.py", "--ckpt_save_dir", "run")
MSRUN = ("msrun", "--worker_num", "2", "--log_dir=old", "--join=True")


def test_msrun_is_joined_and_gets_a_log_folder_for_each_attempt():
    words = read_job([*MSRUN, *TRAIN]).words(Path("logs"), has_checkpoint=False)
    begin = ["msrun", "--worker_num", "2", "--join", "True", "--log_dir", "logs"]
    assert words == [*begin, *TRAIN, "--resume", "auto"]
    words = read_job(["/usr/bin/msrun", "train.py"]).words(Path("logs"), has_checkpoint=False)
    assert words[-4:] == ["logs", "train.py", "--resume", "auto"]
    words = read_job(["env", "A=1", *MSRUN, *TRAIN]).words(Path("logs"), has_checkpoint=False)
    assert words == ["env", "A=1", *begin, *TRAIN, "--resume", "auto"]
    for program in (["python", "-m", "mindcv", "train"], ["/usr/bin/mindcv", "train"]):
        words = read_job([*MSRUN, *program]).words(Path("logs"), has_checkpoint=False)
        assert words == [*begin, *program, "--resume", "auto"]
        assert read_job([*program, "--ckpt_save_dir", "run"]).folder == Path("run")


def test_a_command_that_does_not_wait_for_its_ranks_is_refused(job, tmp_path):
    (tmp_path / "train.py").write_text(
        "import os, subprocess\n"
        "words = ['sleep', '60']\n"
        "print(subprocess.Popen(words, env={**os.environ, 'MS_ROLE': 'MS_WORKER'}).pid)\n"
    )
    code, rank, told = ended(job([]))
    assert code == 2 and "ended with 0 while its training was running" in told
    assert not Path(f"/proc/{int(rank)}").exists()


def test_a_job_ends_with_its_supervisor(job):
    process = job([{"end": "hold"}])
    wait_for(process, "holding")
    (training,) = descendants(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{training}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{training}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.1)
    else:
        assert not Path(f"/proc/{training}/stat").exists()


def test_a_terminal_that_is_gone_asks_the_job_to_stop(job, tmp_path):
    process = job([{"saves": 1, "end": "hold"}])
    wait_for(process, "holding")
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    process.stdout.read()
    assert process.wait(timeout=60) == 143
    assert (tmp_path / "run/net-2_4.json").exists()
    told = (tmp_path / "run/attempts/supervise.log").read_text()
    assert "stopped by SIGTERM; the same command goes on" in told.splitlines()[-1]


def test_under_nohup_a_terminal_that_is_gone_does_not_matter(job, tmp_path):
    process = job([{"saves": 1, "end": "hold"}], handling=signal.SIG_IGN)
    wait_for(process, "holding")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    code, _, told = ended(process)
    assert code == 130, told
    assert "SIGTERM" not in told


def test_logs_that_cannot_be_written_end_it_with_5(job, tmp_path):
    process = job([{"end": 1}] * 3, backoff="1")
    while "restart 1" not in process.stderr.readline():
        pass
    shutil.rmtree(tmp_path / "run/attempts")
    (tmp_path / "run/attempts").write_text("a file")
    code, _, told = ended(process)
    assert code == 5 and "cannot be written: Not a directory; the checkpoints are unt" in told


def test_a_run_begins_where_the_user_says_and_goes_on_from_its_own_checkpoints():
    job = read_job([*TRAIN, "--resume", "other/net-3_8.json"])
    assert job.words(Path("logs"), has_checkpoint=False) == [
        *TRAIN,
        "--resume",
        "other/net-3_8.json",
    ]
    assert job.words(Path("logs"), has_checkpoint=True) == [*TRAIN, "--resume", "auto"]
    assert read_job(["python", "-u", "train.py"]).folder == Path("ckpt")


def test_the_run_folder_is_read_from_the_recipe_as_well(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("ckpt_save_dir: /runs/7\nresume: auto\n")
    job = read_job(["python", "train.py", "--config", str(recipe)])
    assert job.folder == Path("/runs/7") and job.resume == "auto"


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "nothing is not a training"),
        (["ls"], "ls is not a training"),
        (["msrun", "--join", "False", *TRAIN], "with --join False msrun returns at once"),
        ([*TRAIN, "--lrr", "1"], "unknown argument '--lrr'; did you mean lr"),
        ([*TRAIN, "--resume_opt"], "write --resume FILE instead"),
        (["python", "train.py", "--config", "/nowhere.yaml"], "'/nowhere.yaml' cannot be read"),
    ],
)
def test_what_cannot_be_supervised_is_refused(words, message):
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        read_job(words)


def test_a_command_that_is_not_there_ends_with_2(tmp_path):
    words = ["supervise", "--", "no-such-python", "train.py", "--ckpt_save_dir", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mindcv", *words], capture_output=True, text=True, env=env
    )
    assert done.returncode == 2
    assert "error: supervise: no-such-python cannot be run: No such file" in done.stderr
