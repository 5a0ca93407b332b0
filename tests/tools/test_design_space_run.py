"""`design-space run` trains each model once, whatever is killed, and keeps a record of each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import ROOT

from mindcv.errors import ConfigError
from mindcv.tools.design_space import runs, training
from mindcv.tools.design_space.study import read_records

EPOCHS = 3
# In place of train.py, without MindSpore. plan.json has, for a model, an entry an attempt: epochs
# to train before the end (all), and the end: an exit code, the name of a signal, or hold; `deaf`:
# it takes a minute to save; `stopped`: its exit code then.
TRAINER = """
import json, os, signal, sys, time
from pathlib import Path
from mindcv.checkpoint import CheckpointStore, FolderLock, position_of
from mindcv.config import dump_config, load_config

recipe = sys.argv[sys.argv.index("--config") + 1]
config = load_config(recipe, rules=lambda config: ())
folder = Path(config.ckpt_save_dir)
lock, store = FolderLock(folder), CheckpointStore(folder)
attempt = len(list(folder.glob("attempt-*.log"))) - 1
entries = json.loads(Path("plan.json").read_text()).get(folder.name, [])
plan = entries[attempt] if attempt < len(entries) else {}
newest = store.newest()[0]
first = position_of(newest.path.stem).epoch if newest else 0
(folder / "config.yaml").write_text(dump_config(config))
rows = (folder / "rows").read_text().splitlines() if newest else []
print("on cores", sorted(os.sched_getaffinity(0)), flush=True)

def stop(number, frame):
    time.sleep(60 if plan.get("deaf") else 0.3)  # it saves
    sys.exit(plan.get("stopped", 128 + number))

signal.signal(signal.SIGTERM, stop)
for epoch in range(first + 1, config.epoch_size + 1):
    if epoch - first > plan.get("epochs", config.epoch_size):
        break
    with open("trained", "a") as log:
        log.write(f"{folder.name} {epoch}\\n")
    rows.append(f"{epoch},{4 * epoch},{2 / epoch},0.1,1.0,{10 * epoch + attempt},,0")
    header = "epoch,step,train_loss,lr,val_loss,val_top1,val_top5,skipped"
    (folder / "rows").write_text("\\n".join(rows))
    (folder / "metrics.csv").write_text("\\n".join([header, *rows, ""]))
    name, write = f"net-{epoch}_4", lambda file: file.write(b"x")
    store.save(name, {f"{name}.ckpt": write, f"{name}.state.npz": write}, {})
end = plan.get("end", 0)
if end == "hold":
    print("holding", flush=True)
    time.sleep(300)
if isinstance(end, str):
    os.kill(os.getpid(), getattr(signal, end))
if end:
    print("error: it is said to fail")
sys.exit(end)
"""
RUNNER = """
import sys
from mindcv.__main__ import main
from mindcv.tools.design_space import training
training.PROGRAM = ("trainer.py",)
main(["design-space", "run", *sys.argv[1:]])
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a study of two models of each of two spaces, and the stand-in for train.py."""
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.yaml").write_text("spaces: [a, b]\nworkers: 2\n")
    (study / "recipe.yaml").write_text(f"epoch_size: {EPOCHS}\n")
    widths = {"a0": 8, "a1": 16, "b0": 24, "b1": 32}
    lines = [
        {
            "id": name,
            "space": name[0],
            "index": int(name[1]),
            "model": {
                "name": "regnet",
                "arguments": {"w_a": 8, "w_0": width, "w_m": 2.0, "d": 3, "group_w": 8},
            },
        }
        for name, width in widths.items()
    ]
    (study / "population.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "runner.py").write_text(RUNNER)
    return tmp_path


def start(place: Path, *options: str, study: str = "study", **plan) -> subprocess.Popen:
    if plan:
        (place / "plan.json").write_text(json.dumps(plan))
    return subprocess.Popen(
        [sys.executable, "runner.py", study, *options],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def records(place: Path) -> dict[str, dict]:
    return read_records(place / "study")[0]


def trained(place: Path) -> list[str]:
    return sorted((place / "trained").read_text().splitlines())


EACH_ONCE = [f"{name} {epoch}" for name in ("a0", "a1", "b0", "b1") for epoch in (1, 2, 3)]


def wait_until_all_hold(place: Path, *names: str) -> None:
    logs = [place / "study/runs" / name for name in names]
    deadline = time.monotonic() + 60
    while not all(any("holding" in p.read_text() for p in log.glob("attempt-*")) for log in logs):
        assert time.monotonic() < deadline, f"of {names}, not all have begun to hold"
        time.sleep(0.02)


def test_each_model_has_a_record_and_keeps_metrics_and_log_only(place):
    code, printed = ended(start(place))
    assert code == 0, printed
    assert trained(place) == EACH_ONCE
    found = records(place)
    assert list(found)[0] != list(found)[1] and {one[0] for one in list(found)[:2]} == {"a", "b"}
    record = found["b1"]
    assert record["seconds"] > 0
    assert record | {"seconds": 0} == {
        "id": "b1",
        "space": "b",
        "status": "done",
        "error": 70.0,
        "errors": [90.0, 80.0, 70.0],
        "loss": pytest.approx(2 / 3),
        "epochs": 3,
        "seconds": 0,
        "exit_code": 0,
        "reason": None,
    }
    left = {path.name.split("-")[0] for path in (place / "study/runs/b1").iterdir()}
    assert {"metrics.csv", "attempt", "recipe.yaml"} <= left and "net" not in left
    assert "4 trained, 0 failed" in printed.splitlines()[-1]
    code, printed = ended(start(place))
    assert code == 0 and "0 of 4 models to train" in printed and trained(place) == EACH_ONCE


def test_two_trainings_share_the_cores(place):
    code, printed = ended(start(place))
    logs = {next(path.glob("attempt-*")).read_text() for path in (place / "study/runs").iterdir()}
    shares = [f"on cores {sorted(share.cores)}\n" for share in runs.shares(2, 1)]
    assert logs == set(shares), printed


def test_cards_are_shared_out_too(monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "0,1,2,5")
    found = [share.variables["ASCEND_RT_VISIBLE_DEVICES"] for share in runs.shares(2, 2)]
    assert found == ["0,1", "2,5"]
    with pytest.raises(ConfigError, match="lists 4 cards, and 3 trainings of 2 devices need 6"):
        runs.shares(3, 2)


def test_the_processes_of_a_training_share_its_cores_too(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(training, "available_cores", lambda: [4, 5, 6, 7])
    threads = [runs.shares(1, devices)[0].variables["OMP_NUM_THREADS"] for devices in (1, 2, 3, 8)]
    assert threads == ["4", "2", "1", "1"]


def test_a_missing_msrun_is_named_before_anything_starts(place, monkeypatch):
    (place / "study/study.yaml").write_text("spaces: [a, b]\ndevices: 2\n")
    monkeypatch.setattr(training.shutil, "which", lambda name, path: None)
    with pytest.raises(ConfigError, match="devices 2: msrun, which comes with MindSpore"):
        runs.run(Namespace(study=place / "study", workers=1, keep=False, retry_failed=False))
    assert records(place) == {} and not list(place.glob("study/runs/*"))


def test_a_killed_runner_loses_nothing_and_nothing_is_trained_twice(place):
    hold = [{"epochs": 2, "end": "hold"}]
    process = start(place, a0=hold, b0=hold)
    wait_until_all_hold(place, "a0", "b0")
    process.kill()
    process.communicate()
    assert records(place) == {}
    # While the trainings of the first still save, and under another name of the folder.
    code, printed = ended(start(place, study=str(place / "study")))
    assert code == 0, printed
    assert trained(place) == EACH_ONCE and len(records(place)) == 4


def test_a_training_that_ended_without_a_record_is_recorded_not_repeated(place):
    ended(start(place, "--keep"))  # checkpoints go once the record is on the disk
    path = place / "study/records.jsonl"
    lines, before = path.read_text().splitlines(keepends=True), records(place)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # a kill while it was written
    code, printed = ended(start(place))
    assert code == 0 and "has no end and is left out" in printed
    assert trained(place) == EACH_ONCE and path.read_text().startswith("".join(lines[:3]))
    same = [
        name
        for name in before
        if records(place)[name] | {"seconds": 0} == before[name] | {"seconds": 0}
    ]
    assert len(same) == 4


@pytest.mark.parametrize("again", [0, 3])
def test_a_failure_after_the_last_row_counts_without_a_runner_too(place, again):
    plan = [{"end": "hold", "stopped": 3}, {"end": again}]
    process = start(place, a1=[{"end": "hold"}], b1=plan)
    wait_until_all_hold(place, "a1", "b1")
    process.kill()
    process.communicate()
    code, printed = ended(start(place))
    record = records(place)["b1"]
    assert code == 0 and record["exit_code"] == again and trained(place) == EACH_ONCE
    assert record["status"] == ("failed" if again else "done"), printed


def test_a_killed_training_goes_on_from_its_checkpoint(place):
    code, printed = ended(start(place, a1=[{"epochs": 1, "end": "SIGKILL"}]))
    assert code == 0 and "a1: killed by SIGKILL; it goes on" in printed
    assert trained(place) == EACH_ONCE
    assert records(place)["a1"]["errors"] == [90.0, 79.0, 69.0]


def test_a_training_that_is_killed_again_and_again_is_a_failure(place):
    kill = {"epochs": 0, "end": "SIGKILL"}
    code, printed = ended(start(place, a1=[kill] * 4))
    record = records(place)["a1"]
    assert (code, record["status"], record["exit_code"]) == (0, "failed", 137)
    assert record["error"] is None and record["reason"] == "killed by SIGKILL"
    assert "3 trained, 1 failed" in printed


def test_a_training_that_ends_early_with_success_is_a_failure(place):
    ended(start(place, a0=[{"epochs": 2, "end": 0}]))
    record = records(place)["a0"]
    assert (record["status"], record["exit_code"], record["epochs"]) == ("failed", 0, 2)
    assert record["reason"] == "its last epoch is missing"


def test_a_failure_keeps_its_reason_and_is_repeated_only_on_demand(place):
    code, printed = ended(start(place, b1=[{"epochs": 2, "end": 3}]))
    record = records(place)["b1"]
    assert code == 0 and "failed: b b1: it is said to fail" in printed
    assert (record["exit_code"], record["reason"]) == (3, "it is said to fail")
    assert (record["error"], record["errors"], record["epochs"]) == (None, [90.0, 80.0], 2)
    assert "0 of 4 models to train" in ended(start(place))[1]
    code, printed = ended(start(place, "--retry_failed"))
    assert code == 0 and "1 of 4 models to train" in printed
    assert records(place)["b1"]["errors"] == [89.0, 79.0, 69.0]  # from the start


def test_a_failure_after_the_last_row_is_a_failure(place):
    end = [{"end": 3}]
    code, printed = ended(start(place, b1=end))
    record = records(place)["b1"]
    assert code == 0 and (record["status"], record["exit_code"], record["epochs"]) == (
        "failed",
        3,
        3,
    )
    assert "3 trained, 1 failed" in printed
    assert ended(start(place, "--retry_failed"))[0] == 0
    assert trained(place) == sorted(EACH_ONCE + ["b1 1", "b1 2", "b1 3"])  # all of it
    assert records(place)["b1"]["status"] == "done"


def test_a_training_that_is_killed_after_its_last_row_is_done(place):
    code, printed = ended(start(place, b1=[{"end": "SIGKILL"}]))
    assert code == 0 and "4 trained, 0 failed" in printed and trained(place) == EACH_ONCE


@pytest.mark.parametrize("options", [(), ("--keep",)])
def test_a_repeated_training_is_anew_and_goes_on_after_a_kill(place, options):
    plan = [{"epochs": 2, "end": 3}, {"epochs": 1, "end": "hold"}]
    ended(start(place, *options, b1=plan))
    process = start(place, "--retry_failed", *options)
    wait_until_all_hold(place, "b1")
    process.kill()
    process.communicate()
    assert set(records(place)) == {"a0", "a1", "b0"}
    code, printed = ended(start(place, *options))  # with --retry_failed or without
    assert code == 0 and "1 of 4 models to train" in printed
    again = ["b1 1", "b1 2", "b1 1", "b1 2", "b1 3"]  # failed; then each epoch once
    assert [line for line in (place / "trained").read_text().splitlines() if "b1" in line] == again
    assert records(place)["b1"]["errors"] == [89.0, 78.0, 68.0]


@pytest.mark.parametrize("code", [2, 4])
def test_what_is_wrong_for_all_models_stops_the_study_and_fails_none(place, code):
    end = [{"epochs": 0, "end": code}]
    found, printed = ended(start(place, "--workers", "1", a0=end))
    assert found == code and "the first training of study failed: it is said to fail" in printed
    assert records(place) == {}
    assert ended(start(place))[0] == 0 and trained(place) == EACH_ONCE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_trainings_save(place, number):
    hold = [{"epochs": 2, "end": "hold"}]
    process = start(place, a0=hold, b0=hold)
    wait_until_all_hold(place, "a0", "b0")
    process.send_signal(number)
    code, printed = ended(process)
    assert code == 128 + number and "2 trainings save and stop" in printed
    assert "0 trained, 0 failed, 4 are left; the same command goes on" in printed
    assert ended(start(place))[0] == 0 and trained(place) == EACH_ONCE


def test_a_second_run_is_refused_while_one_works(place):
    hold = [{"end": "hold"}]
    process = start(place, a0=hold, b0=hold)
    wait_until_all_hold(place, "a0", "b0")
    code, printed = ended(start(place))
    assert code == 2 and f"study study is in use by process {process.pid}" in printed
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130


def test_a_second_signal_waits_for_no_training(place):
    hold = [{"end": "hold", "deaf": True}]
    process = start(place, a0=hold, b0=hold)
    wait_until_all_hold(place, "a0", "b0")
    process.send_signal(signal.SIGINT)
    while "save and stop" not in process.stdout.readline():
        pass
    time.sleep(0.5)
    assert process.poll() is None  # the trainings go on
    process.send_signal(signal.SIGINT)  # in a hurry
    assert ended(process)[0] == 130


def test_a_budget_that_is_used_up_starts_no_training(place):
    (place / "study/study.yaml").write_text("spaces: [a, b]\nbudget: 0\n")
    code, printed = ended(start(place))
    assert code == 0 and "0 trained, 0 failed, 4 are left" in printed and records(place) == {}


def test_keep_keeps_the_checkpoints(place):
    ended(start(place, "--keep"))
    assert (place / "study/runs/a0/net-3_4.state.npz").exists()


def test_a_recipe_that_changed_in_between_is_refused(place):
    ended(start(place, b1=[{"epochs": 1, "end": 3}]))
    (place / "study/recipe.yaml").write_text("epoch_size: 5\n")
    code, printed = ended(start(place, "--retry_failed"))
    assert code == 2 and "recipe.yaml changed after" in printed


def test_a_recipe_that_changed_is_refused_for_models_that_have_not_begun_too(place):
    ended(start(place))
    for name in ("a1", "b0", "b1"):
        shutil.rmtree(place / "study/runs" / name)
    lines = (place / "study/records.jsonl").read_text().splitlines(keepends=True)
    (place / "study/records.jsonl").write_text("".join(line for line in lines if '"a0"' in line))
    (place / "study/recipe.yaml").write_text(f"epoch_size: {EPOCHS}\nlr: 0.5\n")
    code, printed = ended(start(place))
    assert code == 2 and "recipe.yaml changed after" in printed and "runs/a0" in printed
    (place / "study/recipe.yaml").write_text(f"# the same\nepoch_size: {EPOCHS}\n")
    code, printed = ended(start(place))
    assert code == 0 and "3 of 4 models to train" in printed


def test_a_run_folder_that_cannot_be_written_is_told_at_once(place):
    (place / "study/runs/b1/.lock").mkdir(parents=True)
    begun = time.monotonic()
    code, printed = ended(start(place))
    assert code == 2 and "runs/b1 cannot be written" in printed
    assert time.monotonic() - begun < runs._PATIENCE


def test_time_left_is_that_of_the_models_so_far(place):
    runner = runs.Runner(place / "study", runs.read_study(place / "study/study.yaml"), 2, False)
    runner.records = {str(n): {"seconds": seconds} for n, seconds in enumerate((50, 70))}
    runner.todo.extend(runner.models[:3])
    assert runner.time_left().total_seconds() == 3 * 60 / 2
