"""A run that is watched: event files, a tracker of the user's, the profiler, and the report."""

import csv
import json
import re
import struct
import types
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import pytest
from conftest import run_command

from mindcv.config import build_schedule, load_config
from mindcv.engine.profile import Profile

STEPS = 6  # of an epoch of `short_run`
TRACKER = """
import json

import mindcv


@mindcv.register_tracker
def begin(options):
    file = open("tracked.jsonl", "w")
    print(json.dumps(options["lr"]), file=file)

    def track(values, step):
        print(json.dumps([step, values]), file=file, flush=True)

    return track
"""


@pytest.fixture(scope="module")
def watched(warm, image_folder, tiny_models, tmp_path_factory):
    """Run train.py with a weight average, a schedule by steps, trackers and the profiler."""
    pytest.importorskip("tensorboardX")
    folder = tmp_path_factory.mktemp("watched")
    own = folder / "own.py"
    own.write_text(tiny_models.read_text(encoding="utf-8") + TRACKER, encoding="utf-8")
    options = dict(
        import_module=own,
        model="tiny",
        data_dir=image_folder,
        image_resize=32,
        batch_size=8,
        epoch_size=4,
        scheduler="wsd",
        warmup_steps=4,
        decay_shape="1-sqrt",
        decay_epochs=2,
        lr=0.01,
        ema="True",
        ema_decay=0.5,
        val_weights="both",
        val_while_train="True",
        val_interval=2,
        log_interval=4,
        ckpt_save_dir=folder / "run",
        summary_dir=folder / "events",
        profile=3,
    )
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    done = warm.run(["train.py", *words], cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def rows(watched) -> list[dict]:
    with (watched / "run" / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_scalars(path: Path) -> dict[str, dict[int, float]]:
    """Return tag -> step -> value of a file of records: length, check, event, check."""
    from tensorboardX.proto.event_pb2 import Event

    data, place, scalars = path.read_bytes(), 0, {}
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        for value in event.summary.value:
            scalars.setdefault(value.tag, {})[event.step] = value.simple_value
        place += length + 16
    assert place == len(data)
    return scalars


def test_the_events_are_those_of_the_table_and_of_the_log(watched, rows):
    (file,) = (watched / "events").iterdir()
    scalars = read_scalars(file)
    columns = {
        "train/epoch_loss": "train_loss",
        "val/loss": "val_loss",
        "val/top1": "val_top1",
        "val/top5": "val_top5",
        "ema_val/loss": "ema_val_loss",
        "ema_val/top1": "ema_val_top1",
        "ema_val/top5": "ema_val_top5",
    }
    for tag, column in columns.items():
        expected = {int(row["step"]): float(row[column]) for row in rows if row[column]}
        assert scalars[tag] == pytest.approx(expected, abs=1e-4), tag
    log = (watched / "run" / "train.log").read_text(encoding="utf-8")
    lines = re.findall(r"epoch (\d)/4 step (\d)/6 loss ([\d.]+) lr (\S+) (\d+) images/s", log)
    losses = {(int(e) - 1) * STEPS + int(s): float(loss) for e, s, loss, *_ in lines}
    first = re.search(r"first step .* loss ([\d.]+) lr", log)
    losses[1] = float(first[1])
    assert set(losses) == {1, 4, 6, 8, 12, 16, 18, 20, 24}
    assert scalars["train/loss"] == pytest.approx(losses, abs=1e-4)
    speeds = {(int(e) - 1) * STEPS + int(s): float(speed) for e, s, *_, speed in lines}
    assert scalars["train/images_per_second"] == pytest.approx(speeds, abs=0.51)
    assert set(scalars) == {*columns, "train/loss", "train/lr", "train/images_per_second"}


def test_a_registered_tracker_gets_the_options_and_the_values_of_the_event_file(watched):
    first, *lines = (watched / "tracked.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == 0.01
    tracked = {}
    for step, values in map(json.loads, lines):
        for name, value in values.items():
            tracked.setdefault(name, {})[step] = value
    (file,) = (watched / "events").iterdir()
    scalars = read_scalars(file)
    assert set(tracked) == set(scalars)
    for name, values in tracked.items():
        assert scalars[name] == pytest.approx(values, rel=1e-6), name


def test_the_profile_holds_the_operators_of_as_many_steps_as_were_asked_for(watched):
    (trace,) = (watched / "run" / "profile").rglob("trace_view.json")
    names = [event.get("name", "") for event in json.loads(trace.read_text(encoding="utf-8"))]
    assert sum(name.endswith("AvgPool-op0") for name in names) == 3
    log = (watched / "run" / "train.log").read_text(encoding="utf-8")
    assert f"profiled steps 3 to 5 of this process: see {watched / 'run' / 'profile'}" in log


@pytest.mark.parametrize("steps, told", [(2, "nothing was profiled"), (3, "steps 3 to 3 ")])
def test_a_run_that_ends_early_tells_what_was_profiled(
    monkeypatch, tmp_path, log_lines, steps, told
):
    calls = []
    stand_in = SimpleNamespace(
        start=lambda: calls.append("start"),
        step=lambda: calls.append("step"),
        stop=lambda: calls.append("stop"),
    )
    profile = Profile(tmp_path, 5, "CPU")
    monkeypatch.setattr(profile, "_create", lambda: stand_in)
    for _ in range(steps):
        profile.after_step()
    profile.close()
    assert calls == ["start", *["step"] * (steps - 2), "stop"]
    assert len(log_lines) == 1 and told in log_lines[0]


def test_a_mindspore_without_activities_gets_its_older_profiler(monkeypatch, tmp_path):
    """As 2.3.1, whose package has no name but these two."""
    older = types.ModuleType("mindspore.profiler")
    older.Profiler = older.EnvProfiler = ms.Profiler
    monkeypatch.setattr(ms, "profiler", older)
    monkeypatch.setattr(ms, "Profiler", lambda **options: options)
    made = Profile(tmp_path, 5, "CPU")._create()
    assert made == {"output_path": str(tmp_path), "start_profile": False}


def test_the_run_took_the_rates_that_the_lr_command_shows(warm, watched, rows, tmp_path):
    config = load_config(str(watched / "run" / "config.yaml"))
    rates = build_schedule(config, STEPS)
    assert rates[4] == 0.01 > rates[3] and 0.0 < rates[-1] < 0.01
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates[STEPS - 1 :: STEPS], rel=1e-6)
    (file,) = (watched / "events").iterdir()
    for step, rate in read_scalars(file)["train/lr"].items():
        assert rate == pytest.approx(rates[step - 1], rel=1e-6)
    words = ["--config", watched / "run" / "config.yaml", "--csv", tmp_path / "rates.csv"]
    done = warm.run(["mindcv", "lr", *words], cwd=tmp_path)
    assert done.code == 0, done.err
    with (tmp_path / "rates.csv").open(encoding="utf-8") as file:
        assert [float(row["lr"]) for row in csv.DictReader(file)] == rates


def test_the_report_of_a_real_run_agrees_with_its_table(warm, watched, rows, tmp_path):
    """With averaged weights, which decide, and a model of the user's own."""
    output = tmp_path / "page.html"
    done = warm.run(["mindcv", "report", watched / "run", "--output", output], cwd=tmp_path)
    assert done.code == 0, done.err
    page = output.read_text(encoding="utf-8")
    best = max((row for row in rows if row["val_top1"]), key=lambda r: float(r["ema_val_top1"]))
    assert f"Equal to metrics.csv, epoch {best['epoch']}." in page, done.err
    assert "Averaged weights of tiny_best.ckpt: top-1 " in page and " on 11 images" in page
    assert f"top-1 {float(best['ema_val_top1']):.3f} %" in page


def test_without_the_library_the_run_ends_before_it_begins(short_run, tmp_path):
    hidden = tmp_path / "hide" / "tensorboardX"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('hidden')", encoding="utf-8")
    done = run_command(
        "train.py",
        *(*short_run, "--summary_dir", tmp_path / "events"),
        cwd=tmp_path,
        env={"PYTHONPATH": str(hidden.parent)},
    )
    assert done.returncode == 2
    assert "summary_dir" in done.stderr and 'pip install ".[tensorboard]"' in done.stderr
    assert not (tmp_path / "run").exists() and not (tmp_path / "events").exists()
