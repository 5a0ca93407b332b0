"""A run folder of somebody else: nothing outside it is read, written or removed. No mindspore."""

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import files, save
from conftest import ROOT

from mindcv.checkpoint import (
    CheckpointStore,
    FolderLock,
    Manifest,
    check_record,
    choose_checkpoint,
    open_run_folder,
    read_manifest,
)
from mindcv.checkpoint.manifest import seal
from mindcv.engine.tables import append_rows, start_table
from mindcv.errors import ConfigError, MindCVError, WeightsError
from mindcv.process.terminal import start_logging
from mindcv.ranks.record import OwnRecord, read_records, write_first_failure

HASH = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def victim(tmp_path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    yield path
    assert path.read_text() == "precious"


@pytest.fixture
def silent():
    """Take the log file back that a test started."""
    yield
    logger = logging.getLogger("mindcv")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True


@pytest.mark.parametrize("where", ["net-1_4.pruned", ".saving-1/net-1_4.json", "net-1_4.json"])
@pytest.mark.parametrize("name", ["ABSOLUTE", "../victim", "config.yaml", "net-1_4.json", "", "."])
def test_a_manifest_names_no_file_but_those_of_its_checkpoint(store, victim, where, name):
    name = str(victim) if name == "ABSOLUTE" else name
    (store.folder / "config.yaml").write_text("model: net")
    (store.folder / ".saving-1").mkdir()
    (store.folder / where).write_bytes(seal({name: (8, HASH)}, {"epoch": 1}))
    with pytest.raises(WeightsError, match="expected net-1_4.ckpt and net-1_4.state.npz only"):
        read_manifest(store.folder / where)
    store.recover()
    assert store.newest()[0] is None
    assert (store.folder / "config.yaml").read_text() == "model: net"
    assert not list(store.folder.glob(".saving*")) and not list(store.folder.glob("*.pruned"))


def test_what_lies_in_a_save_under_another_name_is_not_put_in_place(store):
    (store.folder / ".saving-1").mkdir()
    for name in ("config", "metrics", "classes"):
        place = store.folder / f".saving-1/{name}.json"
        place.write_bytes(seal({f"{name}.ckpt": (0, HASH)}, {}))
        place.with_suffix(".ckpt").touch()
    assert "which no run writes" in store.recover()[0]
    assert not list(store.folder.iterdir())


def test_other_programs_files_count_as_no_checkpoint_and_stay(store):
    names = ("notes-2024_11.json", "net-01_4.json", "net-1_2_3.json", "mine.pruned")
    for name in names:
        (store.folder / name).write_text("{}")
    assert store.names() == [] and choose_checkpoint(store.folder, "auto") is None
    save(store, 1)
    assert choose_checkpoint(store.folder, "auto").path.name == "net-1_4.json"
    assert {name for name in files(store.folder)} >= set(names)
    (store.folder / "net-1_4.json").write_text("{}")  # a damaged one, as its weights tell
    with pytest.raises(WeightsError, match="net-1_4.json is damaged"):
        choose_checkpoint(store.folder, "auto")


@pytest.mark.parametrize("suffix", [".json", ".ckpt", ".state.npz"])
def test_a_link_or_pipe_in_place_of_a_checkpoints_file_is_damage(store, tmp_path, suffix):
    save(store, 1), save(store, 2)
    path = store.folder / f"net-2_4{suffix}"
    outside = path.rename(tmp_path / "outside")
    content = outside.read_bytes()
    for make in (lambda: path.symlink_to(outside), lambda: os.mkfifo(path)):
        make()
        manifest, problems = store.newest()
        assert manifest.path.name == "net-1_4.json" and str(path) in problems[0]
        path.unlink()
    path.symlink_to(outside)
    aside = store.set_aside("net-2_4")  # the link itself
    assert (aside / path.name).is_symlink() and outside.read_bytes() == content


@pytest.mark.parametrize("name", [".saving-7", "damaged-1", "ranks"])
def test_a_link_in_place_of_a_folder_is_not_entered(store, tmp_path, name):
    save(store, 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0.json").write_text("mine")
    (store.folder / name).symlink_to(outside)
    if name == ".saving-7":
        with pytest.raises(WeightsError, match="saving-7.*it is not a folder"):
            store.recover()
    elif name == "ranks":
        with pytest.raises(OSError, match="symbolic link"):
            OwnRecord(store.folder, 1, 0)
    else:
        assert store.set_aside("net-1_4").name == "damaged-2"
    assert [path.name for path in outside.iterdir()] == ["0.json"]


def written_by_a_run(folder: Path) -> dict:
    """Return what writes each file of a run folder."""
    return {
        ".lock": lambda: FolderLock(folder),
        "train.log": lambda: start_logging(True, folder / "train.log"),
        "metrics.csv": lambda: append_rows(folder / "metrics.csv", ["a"]),
        "samples.csv": lambda: start_table(folder / "samples.csv", ["a"]),
        "ranks/0.json": lambda: OwnRecord(folder, 1, 0),
    }


@pytest.mark.parametrize("name", written_by_a_run(Path("/tmp")))
def test_a_link_or_pipe_in_place_of_a_runs_file_is_refused_and_named(store, victim, name, silent):
    (store.folder / "ranks").mkdir()
    path = store.folder / name
    write = written_by_a_run(store.folder)[name]
    for make, reason in ((path.symlink_to, "symbolic link"), (os.mkfifo, "no regular file")):
        make(victim) if make == path.symlink_to else make(path)
        with pytest.raises((MindCVError, OSError), match=reason) as caught:
            write()
        assert Path(name).name in str(caught.value)
        assert getattr(caught.value, "exit_code", 2) in (2, 5)
        path.unlink()


def test_the_cause_of_a_runs_end_replaces_a_link(store, victim):
    record = OwnRecord(store.folder, 1, 0).record
    (store.folder / "ranks/first_failure").symlink_to(victim)
    write_first_failure(store.folder, record)
    assert not (store.folder / "ranks/first_failure").is_symlink()


def test_a_log_that_cannot_be_written_is_a_config_error_with_its_path(store, silent):
    (store.folder / "train.log").mkdir()
    with pytest.raises(ConfigError, match="train.log cannot be written: Is a directory"):
        start_logging(True, store.folder / "train.log")


HOLD = """
import sys; sys.path.insert(0, sys.argv[2])
from pathlib import Path
from mindcv.checkpoint import FolderLock
lock = FolderLock(Path(sys.argv[1])); print("locked", flush=True); input()
"""


def test_a_removed_lock_file_lets_no_second_run_in(store):
    words = [sys.executable, "-c", HOLD, str(store.folder), str(ROOT)]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "locked\n"
    (store.folder / ".saving-1").mkdir()  # the first one's living save
    for _ in range(2):
        (store.folder / ".lock").unlink()
        with pytest.raises(ConfigError, match="is in use by another process"):
            open_run_folder(str(store.folder))
    assert (store.folder / ".saving-1").is_dir()
    first.kill()
    first.communicate()
    FolderLock(store.folder).release()  # a killed process holds nothing


def test_what_a_killed_start_left_is_cleared_away_by_the_next(tmp_path):
    stand_ins = [".classes.json.123", ".metrics.csv.9", ".config.yaml.77"]
    others = [".classes.json.backup", ".mine.5", "classes.json", ".config.yaml"]
    for name in stand_ins + others:
        (tmp_path / name).touch()
    open_run_folder(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".lock"}


def test_a_table_without_rows_is_begun_anew_and_one_with_rows_is_kept(tmp_path):
    table = tmp_path / "metrics.csv"
    for _ in range(3):
        start_table(table, ["epoch", "loss"])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    append_rows(table, [(1, 0.5)])
    start_table(table, ["epoch", "loss"])
    assert (tmp_path / "metrics-1.csv").read_text().split() == ["epoch,loss", "1,0.5"]
    table.write_text("my notes")
    start_table(table, ["epoch", "loss"])
    assert (tmp_path / "metrics-2.csv").read_text() == "my notes"


RECORD = {
    "best_score": 5.0,
    "config": {"model": "net"},
    "data": {
        "class_names": ["a", "b"],
        "files": {"names": ["1", "2"]},
        "fingerprint": "f",
        "images_of_classes": [1, 2],
    },
    "epoch": 1,
    "is_evaluated": True,
    "is_midway": False,
    "rows": [["1", "0.5"]],
    "runtime": {"world_size": 1},
    "score": None,
    "skipped": 0,
    "steps": 4,
    "versions": {"numpy": "1"},
    "workers": 2,
}


@pytest.mark.parametrize("key", [*RECORD, "class_names", "fingerprint", "images_of_classes"])
def test_a_record_is_a_runs_or_refused_with_the_entry(key):
    manifest = Manifest(Path("run/net-1_4.json"), {}, RECORD)
    check_record(manifest)
    for change in (lambda entry: entry.pop(key), lambda entry: entry.update({key: [[[1]]]})):
        record = json.loads(json.dumps(RECORD))
        change(record if key in record else record["data"])
        with pytest.raises(WeightsError, match=f"net-1_4.json is not a run's: .*{key}"):
            check_record(Manifest(manifest.path, {}, record))


@pytest.mark.parametrize("change", [{"epoch": 2}, {"steps": 10**400}, {"epoch": True}])
def test_a_record_of_another_place_is_refused(change):
    with pytest.raises(WeightsError, match="is not a run's"):
        check_record(Manifest(Path("run/net-1_4.json"), {}, RECORD | change))


VALUES = [None, True, -1, 10**400, 1e999, "x", "../victim", [], {}, [[]], {"": {}}, "\ud800"]


def mutated(value, rng: random.Random):
    """Return JSON with one entry replaced, removed or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        kind = rng.randrange(4)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            return {(rng.choice(["../victim", "/etc/x", ""]) if k == key else k): v
                    for k, v in value.items()}  # fmt: skip
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.5:
        at = rng.randrange(len(value))
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


@pytest.mark.parametrize("rounds", [60, pytest.param(2_000, marks=pytest.mark.slow)])
def test_mutated_manifests_are_read_or_refused_and_touch_nothing_else(store, victim, rounds):
    """Damaged bytes, and whole manifests sealed anew with other entries; then folders recover."""
    save(store, 1, **{key: value for key, value in RECORD.items() if key not in ("epoch", "steps")})
    whole = (store.folder / "net-1_4.json").read_bytes()
    body = {key: json.loads(whole)[key] for key in ("files", "record")}
    body["record"]["steps"] = 4
    (store.folder / "config.yaml").write_text("model: net")
    (store.folder / "net-1_4.json").unlink()
    kept, outcomes = files(store.folder), set()
    for seed in range(rounds):
        rng = random.Random(seed)
        where = rng.choice(["net-1_4.pruned", ".saving-1/net-1_4.json", "net-1_4.json"])
        (store.folder / ".saving-1").mkdir()
        if rng.random() < 0.3:
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            changed = mutated(body, rng) if rng.random() < 0.9 else rng.choice(VALUES)
            changed = changed if isinstance(changed, dict) else {}
            content = seal(changed.get("files"), changed.get("record"))
        (store.folder / where).write_bytes(content)
        try:
            check_record(read_manifest(store.folder / where))
            outcomes.add("read")
        except WeightsError:
            outcomes.add("refused")
        store.names(), store.recover(), store.newest(), store.recover()
        left = files(store.folder)
        assert {name: left[name] for name in left if "net-1_4" not in name} == {
            "config.yaml": b"model: net"
        }
        (store.folder / "net-1_4.json").unlink(missing_ok=True)
        for name, content in kept.items():
            (store.folder / name).write_bytes(content)
    assert outcomes == {"read", "refused"}


def test_manifests_of_much_depth_or_size_are_refused_at_once(store):
    path = store.folder / "net-1_4.json"
    for content in (b"[" * 60_000, b'{"a":' * 60_000, b"9" * 60_000):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="is damaged"):
            read_manifest(path)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(WeightsError, match="at most 67108864 expected"):
        read_manifest(path)


@pytest.mark.parametrize("rounds", [80, pytest.param(5_000, marks=pytest.mark.slow)])
def test_mutated_records_of_ranks_are_read_or_left_aside(store, rounds):
    own = OwnRecord(store.folder, 7, 0)
    own.end(5, "the disk is full")
    path = store.folder / "ranks/0.json"
    body = json.loads(path.read_bytes())
    for seed in range(rounds):
        changed = mutated(body, random.Random(seed))
        path.write_text(json.dumps(changed), encoding="utf-8")
        for one in read_records(store.folder):
            one.describe(), one.is_gone
    path.write_bytes(b"[" * 30_000)
    assert read_records(store.folder) == []
    assert CheckpointStore(store.folder).names() == []
