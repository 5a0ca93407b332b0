"""A graph from the compile cache computes what a compiled one does, or is compiled anew."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from conftest import ROOT, launcher, run_command
from mindspore import Tensor, nn

from mindcv.engine import Runtime, compile_cache
from mindcv.engine.graph_key import NoKey
from mindcv.errors import ConfigError

RUNTIME = Runtime("CPU", ms.GRAPH_MODE, "O1", rank=0, world_size=1)

# A network as a user would write it. Everything that may change is in the plan, and reaches the
# graph in another way: as an attribute, a number of layers, a global, one of another module.
NETWORK = """
import mindspore as ms
import numpy as np
import settings
from mindspore import Parameter, Tensor, nn, ops
from mindcv.engine.compile_cache import CachedGraph

@ms.jit_class
class Scaler:  # no cell: MindSpore does not hand its parameter to a loaded graph
    def __init__(self, value):
        self.scale = Parameter(Tensor(value, ms.float32), name="scale")

class Holder:  # MindSpore compiles the value that its parameter has
    def __init__(self, value):
        self.held = Parameter(Tensor(value, ms.float32), name="held")

def shift(x):
    return x + settings.SHIFT

class Net(CachedGraph):
    def __init__(self, constant=4.0, depth=1, scale=1.0, held=None):
        super().__init__()
        self.constant, self.scaler = constant, Scaler(scale)
        self.holder = None if held is None else Holder(held)
        self.layers = nn.SequentialCell([nn.ReLU() for _ in range(depth)])
        self.depth = depth
        self.weight = Parameter(Tensor([2.0], ms.float32), name="weight")

    def construct(self, x):
        for _ in range(self.depth):
            x = x * self.constant
        x = shift(self.layers(x)) * self.scaler.scale
        if self.holder is not None:
            x = x * self.holder.held
        return ops.cast(x, ms.float32) * self.weight
"""
PROGRAM = """
import json, logging, sys
import mindspore as ms
import numpy as np
from mindspore import Tensor
import settings
from mindcv.engine import open_compile_cache, start_runtime

logging.basicConfig(level="INFO", format="%(message)s")
open_compile_cache(sys.argv[1], start_runtime(seed=1))
from network import Net
results = []
for plan in json.loads(sys.argv[2]):
    settings.SHIFT = plan.pop("shift", 0.0)
    image = Tensor(np.arange(plan.pop("size", 3)).astype(plan.pop("dtype", "float32")))
    results.append(Net(**plan)(image).asnumpy().tolist())
print(json.dumps(results))
"""
PLANS = [
    {},
    {"constant": 8.0},
    {"constant": 16.0},
    {"depth": 2},
    {"shift": 3.0},
    {"size": 5},
    {"dtype": "float16"},
    {"scale": 7.0},
    {"held": 5.0},
]


def expected(plans: list[dict]) -> list[list[float]]:
    """Compute by NumPy what the network does."""
    results = []
    for plan in plans:
        x = np.arange(plan.get("size", 3), dtype=np.float32)
        x = x * plan.get("constant", 4.0) ** plan.get("depth", 1) + plan.get("shift", 0.0)
        x = x * plan.get("scale", 1.0) * plan.get("held", 1.0)
        results.append((x * 2.0).tolist())
    return results


@pytest.fixture
def program(tmp_path):
    """A function that computes plans in a new process: (results, log lines, graphs loaded)."""
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "settings.py").write_text("SHIFT = 0.0\n")
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(plans: list[dict], cache: Path | str = tmp_path / "graphs", **variables):
        words = [sys.executable, "program.py", str(cache), json.dumps(plans)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_v": "3", **variables}
        done = subprocess.run(
            words, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300
        )
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout.strip().splitlines()[-1])
        return results, done.stderr, done.stderr.count("comes from")

    return run


def entries(root: Path) -> list[Path]:
    """Return the entries with a graph."""
    return sorted(path.parents[2] for path in root.rglob("*.mindir") if len(path.parts[-4]) == 64)


def test_each_graph_is_loaded_whatever_the_order_and_computes_what_it_should(program, tmp_path):
    """4.0 instead of 8.0 and 16.0 is what MindSpore's own cache answers here."""
    results, _, loaded = program(PLANS)
    assert results == expected(PLANS) and loaded == 0
    assert len(entries(tmp_path / "graphs")) == 7
    results, _, loaded = program(PLANS[::-1])
    assert results == expected(PLANS[::-1])
    assert loaded == 8  # all but the one that compiles the value of a parameter
    mixed = [PLANS[2], {"constant": 3.0}, *PLANS]
    results, _, loaded = program(mixed)
    assert results == expected(mixed) and loaded == 1  # MindSpore loads none after a new one
    assert not list((tmp_path / "graphs").glob(".*"))  # private folders
    # What a user changes, in any of his files, is seen.
    text = (tmp_path / "network.py").read_text()
    (tmp_path / "network.py").write_text(text.replace("self.layers(x)", "self.layers(x) + 1.0"))
    results, _, loaded = program(PLANS[:1])
    assert results == [[2.0, 10.0, 18.0]] and loaded == 0
    (tmp_path / "program.py").write_text(PROGRAM + "# changed\n")
    results, _, loaded = program(PLANS[:1], MS_DEV_SOMETHING="1")
    assert results == [[2.0, 10.0, 18.0]] and loaded == 0


def test_processes_that_start_at_once_find_whole_entries(program, tmp_path):
    words = [sys.executable, "program.py", str(tmp_path / "graphs"), json.dumps(PLANS[:3])]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_v": "3"}
    started = [
        subprocess.Popen(
            words,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for _ in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=300)
        assert json.loads(out.strip().splitlines()[-1]) == expected(PLANS[:3]), err
    assert len(entries(tmp_path / "graphs")) == 3
    assert not list((tmp_path / "graphs").glob(".*"))
    assert program(PLANS[:3])[2] == 3


def test_a_broken_or_foreign_entry_is_told_compiled_anew_and_replaced(program, tmp_path):
    program(PLANS[:4])
    first, second, third, fourth = entries(tmp_path / "graphs")
    (graph,) = first.rglob("*.mindir")
    graph.write_bytes(graph.read_bytes()[:1000])
    (second / "index.json").write_text("{}")
    for path in [*third.rglob("*")][::-1]:
        path.rmdir() if path.is_dir() else path.unlink()
    for path in fourth.rglob("*"):  # the entry of another graph, whole
        if path.is_file():
            (third / path.relative_to(fourth)).parent.mkdir(parents=True, exist_ok=True)
            (third / path.relative_to(fourth)).write_bytes(path.read_bytes())
    told = ""
    for plan in PLANS[:4]:  # MindSpore loads none after the first that is compiled
        results, lines, _ = program([plan])
        assert results == expected([plan])
        told += lines
    lines = [line for line in told.splitlines() if "cannot be used, compiling anew: " in line]
    reasons = {Path(line.split()[2]): line.partition(" anew: ")[2] for line in lines}
    assert reasons.keys() == {first, second, third}
    assert "another SHA-256" in reasons[first] and "another graph" in reasons[third]
    assert program(PLANS[:4])[2] == 4


def test_an_entry_does_not_write_outside_of_the_cache(program, tmp_path):
    program(PLANS[:1])
    (entry,) = entries(tmp_path / "graphs")
    index = json.loads((entry / "index.json").read_text())
    index["../../../outside"] = index.pop("rank_0/graph_cache/compile_dependency.hash")
    (entry / "index.json").write_text(json.dumps(index))
    results, told, loaded = program(PLANS[:1])
    assert results == expected(PLANS[:1]) and loaded == 0
    assert "'../../../outside' is no name of a file in it" in told
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def closed():
    yield
    compile_cache._own = None


def test_the_oldest_entries_go_when_there_are_too_many(monkeypatch, tmp_path, closed):
    monkeypatch.setattr(compile_cache, "LIMIT", 2500)
    cache = compile_cache.CompileCache(tmp_path, dict)
    for age, sign in enumerate("abcd"):
        entry = tmp_path / (sign * 64)
        entry.mkdir()
        (entry / "graph").write_bytes(bytes(1000))
        os.utime(entry, (1e9 - age, 1e9 - age))
    (tmp_path / "of somebody else").write_bytes(bytes(9000))
    cache._remove_oldest()
    assert sorted(path.name[0] for path in tmp_path.glob("?" * 64)) == ["a", "b"]
    assert (tmp_path / "of somebody else").exists()


def test_what_killed_processes_left_is_removed(tmp_path, gone_pid):
    start = compile_cache._start_of_name()
    left, alive = tmp_path / f"{start}{gone_pid}-x", tmp_path / f"{start}{os.getpid()}-x"
    elsewhere, old = tmp_path / ".process-0123abcd-1-x", tmp_path / ".process-0123abcd-2-x"
    for folder in (left, alive, elsewhere, old):
        folder.mkdir()
    os.utime(old, (1e9, 1e9))
    compile_cache.CompileCache(tmp_path, dict)
    assert [one.exists() for one in (left, alive, elsewhere, old)] == [False, True, True, False]


def test_a_cache_that_cannot_be_written_is_an_error_only_if_it_was_asked_for(
    monkeypatch, tmp_path, log_lines, closed
):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/graphs cannot be written: Not a directory; "):
        compile_cache.open_compile_cache(str(tmp_path / "file/graphs"), RUNTIME)
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "file"))
    compile_cache.open_compile_cache("auto", RUNTIME)
    assert compile_cache._own is None and "cannot be written" in log_lines[-1]


def test_it_is_off_where_it_is_not_wanted_or_not_tried(tmp_path, monkeypatch, log_lines, closed):
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path))
    for where, runtime in (
        ("off", RUNTIME),
        ("auto", replace(RUNTIME, mode=ms.PYNATIVE_MODE)),
        ("auto", replace(RUNTIME, device_target="Ascend")),
    ):
        compile_cache.open_compile_cache(where, runtime)
        assert compile_cache._own is None
    assert not list(tmp_path.iterdir())
    compile_cache.open_compile_cache("auto", RUNTIME)
    assert compile_cache._own.root == tmp_path / "graphs"
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    compile_cache.open_compile_cache("auto", RUNTIME)
    assert compile_cache._own is None and "off, since MS_COMPILER_CACHE_ENABLE=1" in log_lines[-1]


class Doubled(nn.Cell):
    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def construct(self, x):
        return x * self.factor


IMAGE = Tensor([1.0], ms.float32)


@pytest.mark.parametrize(
    "error", [NoKey, ValueError, TypeError, RecursionError, OSError, RuntimeError]
)
def test_a_graph_that_cannot_be_described_is_compiled(
    monkeypatch, tmp_path, log_lines, closed, error
):
    def fail(*_):
        raise error("for a test")

    compiled = []
    monkeypatch.setattr(compile_cache, "graph_key", fail)
    cache = compile_cache.CompileCache(tmp_path, dict)
    cache.compile(Doubled(), [IMAGE], lambda: compiled.append(1))
    assert compiled == [1] and log_lines[-1].endswith("is compiled anew: for a test")


def entry_of(root: Path, cache: compile_cache.CompileCache) -> str:
    """Make an entry with two files; return its key."""
    key = "a" * 64
    for name in ("graph_cache/compile_cache_0.mindir", "graph_cache/compile_cache_0.other"):
        path = cache._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"graph")
    cache._keep(key)
    for path in cache._graph_files():
        path.unlink()
    return key


def test_no_part_of_a_graph_stays_where_mindspore_reads_if_the_disk_is_full(
    monkeypatch, tmp_path, log_lines, closed
):
    cache = compile_cache.CompileCache(tmp_path, dict)
    key, write = entry_of(tmp_path, cache), Path.write_bytes

    def half(path, content):
        write(path, content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    assert cache._take(key) == cache._graph_files() == {}
    assert "cannot be used, compiling anew: " in log_lines[-1]


def test_an_entry_of_another_user_is_taken(monkeypatch, tmp_path, closed):
    cache = compile_cache.CompileCache(tmp_path, dict)
    key = entry_of(tmp_path, cache)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    assert len(cache._take(key)) == 2


def test_an_entry_is_kept_although_the_oldest_cannot_be_removed(
    monkeypatch, tmp_path, log_lines, closed
):
    def refuse(*_):
        raise FileNotFoundError

    monkeypatch.setattr(compile_cache.CompileCache, "_remove_oldest", refuse)
    key = entry_of(tmp_path, compile_cache.CompileCache(tmp_path, dict))
    assert (tmp_path / key / "index.json").exists()
    assert not any("nothing was kept" in line for line in log_lines)


def weights_of(folder: Path) -> dict[str, bytes]:
    (path,) = folder.glob("*-3_6.ckpt")
    return {name: one.asnumpy().tobytes() for name, one in ms.load_checkpoint(str(path)).items()}


def test_train_and_validate_load_their_graphs_and_keep_every_bit(short_run, tmp_path):
    words = [*short_run, "--model", "tiny_regnet", "--ema", "True", "--loss_scale_type", "dynamic"]
    words += ["--drop_rate", "0.2", "--drop_path_rate", "0.1", "--keep_checkpoint_max", "3"]
    words += ["--gradient_accumulation_steps", "2", "--weight_decay", "0.01"]
    found = []
    for name, cache in (("a", "off"), ("b", tmp_path / "graphs"), ("c", tmp_path / "graphs")):
        own = ["--ckpt_save_dir", tmp_path / name, "--compile_cache", cache]
        done = run_command("train.py", *words, *own, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found.append((weights_of(tmp_path / name), (tmp_path / name / "train.log").read_text()))
    assert found[0][0] == found[1][0] == found[2][0]
    loaded = [log.count("compile cache: the graph of ") for _, log in found]
    assert loaded == [0, 0, 2]
    (path,) = (tmp_path / "a").glob("*-3_6.ckpt")
    own = ["--ckpt_path", path, *short_run[:2], "--data_dir", short_run[5]]
    own += ["--image_resize", "32", "--batch_size", "8"]
    results = [
        run_command("validate.py", *own, "--compile_cache", cache, cwd=tmp_path)
        for cache in ("off", tmp_path / "graphs", tmp_path / "graphs")
    ]
    assert len({done.stdout.splitlines()[-1] for done in results}) == 1
    assert "Top_1_Accuracy" in results[0].stdout.splitlines()[-1]
    assert [done.stdout.count("compile cache: the") for done in results] == [0, 0, 1]


@pytest.mark.slow
def test_ranks_load_their_graphs_and_keep_every_bit(short_run, tmp_path):
    words = [*short_run, "--model", "tiny_regnet", "--sync_bn", "True", "--distribute", "True"]
    found = []
    for name, cache in (("a", "off"), ("b", tmp_path / "graphs"), ("c", tmp_path / "graphs")):
        own = ["--ckpt_save_dir", tmp_path / name, "--compile_cache", cache, "--batch_size", "4"]
        logs = [*launcher(2), f"--log_dir={tmp_path / name}-logs"]
        done = run_command("train.py", *words, *own, cwd=tmp_path, launcher=logs)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / f"{name}-logs/worker_0.log").read_text(errors="replace")
        assert text.count("comes from") == (2 if name == "c" else 0)
        found.append(weights_of(tmp_path / name))
    assert len(entries(tmp_path / "graphs")) == 4  # of two ranks
    assert found[0] == found[1] == found[2]
