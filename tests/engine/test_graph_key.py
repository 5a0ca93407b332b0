"""Each difference that a graph can hold gives it another key, and its use none."""

import os
import sys
import time
from collections import defaultdict
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from commands import tiny_regnet
from mindspore import Parameter, Tensor, nn, ops

from mindcv.engine import (
    Runtime,
    TrainStep,
    WeightAverage,
    compile_cache,
    count_dropout,
    mixed_precision,
)
from mindcv.engine.graph_key import NoKey, graph_key
from mindcv.loss import create_loss
from mindcv.optim import create_optimizer
from mindcv.process.entry_point import _import_file


class Net(nn.Cell):
    def __init__(self, constant=1.0, layers=1, rates=(0.1,)):
        super().__init__()
        self.constant, self.rates = constant, rates
        self.layers = nn.SequentialCell([nn.Conv2d(3, 3, 1) for _ in range(layers)])

    def construct(self, x):
        return self.layers(x) * self.constant


IMAGE = Tensor(np.zeros((2, 3, 8, 8), np.float32))
RUNTIME = Runtime("CPU", ms.GRAPH_MODE, "O1", rank=0, world_size=1)
PROCESS = {"versions": "2.10.0", "ranks": (0, 1)}


def key_of(cell: nn.Cell, image: Tensor = IMAGE, **process) -> str:
    return graph_key(cell, [image], PROCESS | process)[0]


def test_equal_networks_have_equal_keys_and_each_difference_another_one():
    networks = [
        Net(),
        Net(constant=2.0),
        Net(layers=2),
        Net(rates=tuple(range(200))),
        Net(rates=tuple(range(1, 201))),
        Net().set_train(),
        Net().to_float(ms.float16),
    ]
    keys = [key_of(network) for network in networks]
    keys += [key_of(Net(), Tensor(np.zeros((2, 3, 8, 9), np.float32)))]
    keys += [key_of(Net(), Tensor(np.zeros((2, 3, 8, 8), np.float16)))]
    keys += [key_of(Net(), versions="2.9.0"), key_of(Net(), ranks=(1, 2))]
    assert len(set(keys)) == len(keys) == 11
    assert key_of(Net()) == keys[0] and key_of(Net(layers=2)) == keys[2]


def test_a_network_that_was_used_keeps_its_key():
    network = Net(layers=2)
    before = key_of(network)
    network.compile(IMAGE)
    network.set_train().set_train(False)
    assert key_of(network) == before == key_of(Net(layers=2))


def test_what_nobody_can_describe_has_no_key():
    network = Net()
    network.constant = iter([1.0])
    with pytest.raises(NoKey, match="cell.constant is a builtins.list_iterator"):
        key_of(network)
    network = Net()
    network.constant = {one: Parameter(Tensor(one), name="scale") for one in (1.0, 2.0)}
    with pytest.raises(NoKey, match="is another parameter with the name 'scale'"):
        key_of(network)


def module_of(folder, name: str, text: str):
    """Import a new module from a file, as `--import_module` does."""
    path = folder / f"{name}.py"
    path.write_text(text)
    _import_file(path)
    return sys.modules[name]


CELLS = """
import os
import mindspore as ms
import numpy as np
import test_mended_names
from mindspore import Parameter, Tensor, nn, ops

HIDDEN = 1.0

def helped(cell, x):
    return cell.reached(x)

@ms.constexpr
def asked():
    return float(os.environ["HOME"] == "")

@ms.jit_class
class Scaled:
    def __call__(self, x):
        return x * HIDDEN

class Child(nn.Cell):
    def construct(self, x):
        return x

    def helper(self, x):
        return x + HIDDEN

    def reached(self, x):
        return x - HIDDEN

class Base(nn.Cell):
    def __init__(self, **attributes):
        super().__init__()
        self.child = Child()
        for name, one in attributes.items():
            setattr(self, name, one)

class InModule(Base):
    def construct(self, x):
        return x * test_mended_names.inner.F

class Called(Base):
    def construct(self, x):
        return self.scaled(x)

class OfChild(Base):
    def construct(self, x):
        return self.child.helper(x)

class ByFunction(Base):
    def construct(self, x):
        return helped(self.child, x)

class Asking(Base):
    def construct(self, x):
        return x * asked()

class OfMindSpore(Base):
    def construct(self, x):
        return ms.ops.tanh(x)

class Named(Base):
    def construct(self, x):
        return x * getattr(test_mended_names.inner, "F")

class Plain(Base):
    def construct(self, x):
        return x
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    inner = module_of(folder, "test_mended_inner", "F = 1.0\n")
    module_of(folder, "test_mended_names", "").inner = inner
    yield module_of(folder, "test_mended_cells", CELLS)
    for name in [name for name in sys.modules if name.startswith("test_mended_")]:
        del sys.modules[name]


def test_a_constant_of_a_module_inside_a_module_counts(cells, monkeypatch):
    before = key_of(cells.InModule())
    monkeypatch.setattr(cells.test_mended_names.inner, "F", 2.0)
    assert key_of(cells.InModule()) != before


@pytest.mark.parametrize("name", ["Called", "OfChild", "ByFunction"])
def test_a_global_counts_whichever_method_reads_it(cells, monkeypatch, name):
    def new():
        return getattr(cells, name)(scaled=cells.Scaled())

    before = key_of(new())
    assert key_of(new()) == before
    monkeypatch.setattr(cells, "HIDDEN", 2.0)
    assert key_of(new()) != before


def swapped(first: str, second: str) -> dict:
    """Return two parameters, made in this order, as attributes of these names."""
    made = [Parameter(Tensor([1.0]), name=name) for name in ("one", "two")]
    return dict(zip((first, second), made))


@pytest.mark.parametrize(
    "first, second",
    [
        ({"value": Tensor(2.0)}, {"value": Tensor([2.0])}),  # another shape of the result
        ({"value": np.float64(2)}, {"value": 2.0}),
        ({"value": {"a": 1.0, "b": 2.0}}, {"value": {"b": 2.0, "a": 1.0}}),
        ({"value": ops.ReduceMean(keep_dims=True)}, {"value": ops.ReduceMean()}),
        ({"value": ops.Softmax(axis=0)}, {"value": ops.Softmax(axis=1)}),
        ({"value": {"a": 1.0}.get}, {"value": {"a": 2.0}.get}),
        (
            {"value": nn.CellDict({"a": nn.ReLU(), "b": nn.Sigmoid()})},
            {"value": nn.CellDict({"b": nn.Sigmoid(), "a": nn.ReLU()})},
        ),
        (swapped("a", "b"), swapped("b", "a")),
    ],
)
def test_values_that_look_alike_have_other_keys(cells, first, second):
    assert key_of(cells.Plain(**first)) != key_of(cells.Plain(**second))


def test_a_cell_counts_under_each_of_its_names(cells):
    x, y = nn.ReLU(), nn.ReLU()
    assert key_of(cells.Plain(a=x, c=y, b=x)) != key_of(cells.Plain(a=x, c=y, b=y))


def test_what_a_user_puts_into_mindspore_counts(cells, monkeypatch):
    before = key_of(nn.SequentialCell(nn.Tanh()))
    monkeypatch.setattr(nn.Tanh, "construct", cells.Child.helper)
    patched = key_of(nn.SequentialCell(nn.Tanh()))
    assert patched != before
    monkeypatch.setattr(cells, "HIDDEN", 2.0)
    assert key_of(nn.SequentialCell(nn.Tanh())) != patched


def test_a_function_in_place_of_mindspores_counts(cells, monkeypatch):
    before = key_of(cells.OfMindSpore())
    monkeypatch.setattr(ms.ops, "tanh", cells.helped)
    assert key_of(cells.OfMindSpore()) != before


def test_a_file_that_has_changed_since_its_import_is_told_from_the_new_one(tmp_path):
    text = "from mindspore import nn\nclass Net(nn.Cell):\n    def construct(self, x):\n"
    first = module_of(tmp_path, "test_mended_edited", f"{text}        return x + 1.0\n").Net()
    (tmp_path / "test_mended_edited.py").write_text(f"{text}        return x + 2.0\n")
    mixed = key_of(first)
    second = module_of(tmp_path, "test_mended_edited", f"{text}        return x + 2.0\n").Net()
    assert key_of(second) != mixed


def test_a_file_with_the_name_of_a_module_of_python_counts(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "profile", raising=False)
    text = "from mindspore import nn\nF = 1.0\nclass Net(nn.Cell):\n    def construct(self, x):\n"
    module = module_of(tmp_path, "profile", f"{text}        return x + F\n")
    before = key_of(module.Net())
    module.F = 2.0
    assert key_of(module.Net()) != before


@pytest.mark.parametrize("name, reason", [("Asking", "environ"), ("Named", "uses getattr")])
def test_what_is_asked_while_compiling_has_no_key(cells, name, reason):
    with pytest.raises(NoKey, match=reason):
        key_of(getattr(cells, name)())


@pytest.mark.parametrize(
    "value",
    [
        type("Rate", (float,), {})(2.0),
        type("Rates", (list,), {})([2.0]),
        np.ma.masked_array([1.0], [True]),
        np.array([object()]),
        defaultdict(lambda: 1.0),
        ms.COOTensor(Tensor([[0, 1]], ms.int32), Tensor([1.0]), (2, 2)),
        os.environ.get,
        time.time,
    ],
)
def test_what_keeps_something_where_nobody_looks_has_no_key(cells, value):
    with pytest.raises(NoKey):
        key_of(cells.Plain(value=value))


def test_our_own_steps_have_a_key():
    network = tiny_regnet(5, drop_rate=0.2, drop_path_rate=0.1)
    count = count_dropout(network, 1, 1, 0)
    mixed = mixed_precision(network, "O2", (), True)
    optimizer = create_optimizer(network.trainable_params(), "adamw", 0.1)
    average = WeightAverage(network, 0.99)
    options = {"accumulation": 2, "clip_mode": "norm", "clip_value": 1.0, "dynamic": True}
    loss = create_loss(label_smoothing=0.1)
    step = TrainStep(mixed, loss, optimizer, average=average, dropout_count=count, **options)
    images = Tensor(np.zeros((2, 3, 32, 32), np.float32))
    key, _ = graph_key(step.set_train(), [images, Tensor([0, 1], ms.int32)], PROCESS)
    assert len(key) == 64


def set_for_a_test(patch: pytest.MonkeyPatch, **options) -> None:
    real = ms.get_context
    patch.setattr(ms, "get_context", lambda name: options.get(name) or real(name))


@pytest.mark.parametrize(
    "name, change",
    [
        ("versions", lambda patch: patch.setattr(compile_cache, "__version__", "another")),
        ("versions", lambda patch: patch.setattr(ms, "__version__", "another")),
        ("variables", lambda patch: patch.setenv("MS_ENABLE_SOMETHING", "1")),
        ("context", lambda patch: set_for_a_test(patch, max_call_depth=500)),
        ("CANN", lambda patch: patch.setenv("ASCEND_TOOLKIT_HOME", os.environ["CANN"])),
    ],
)
def test_the_process_counts(monkeypatch, tmp_path, name, change):
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler/version.info").write_text("Version=8.5.0\n")
    monkeypatch.setenv("CANN", str(tmp_path))
    before = compile_cache._shapes_of_the_process(RUNTIME)
    change(monkeypatch)
    found = compile_cache._shapes_of_the_process(RUNTIME)
    assert found[name] != before[name]


@pytest.mark.parametrize(
    "variable", ["MS_SCHED_PORT", "MS_WORKER_NUM", "MS_ROLE", "MS_COMPILER_CACHE_PATH"]
)
def test_where_the_scheduler_is_shapes_no_graph(monkeypatch, variable):
    before = compile_cache._shapes_of_the_process(RUNTIME)
    monkeypatch.setenv(variable, "1234")
    assert compile_cache._shapes_of_the_process(RUNTIME) == before


def test_device_level_and_ranks_count():
    others = [
        replace(RUNTIME, rank=1, world_size=2),
        replace(RUNTIME, world_size=2),
        replace(RUNTIME, jit_level="O0"),
        replace(RUNTIME, device_target="Ascend"),
    ]
    found = [compile_cache._shapes_of_the_process(one) for one in (RUNTIME, *others)]
    assert len({str(one) for one in found}) == 5


def test_the_files_of_the_users_modules_count(tmp_path, monkeypatch):
    path = tmp_path / "test_mended_patch.py"
    path.write_text("import mindspore as ms\n")
    _import_file(path)
    monkeypatch.setitem(sys.modules, path.stem, sys.modules[path.stem])
    before = compile_cache._shapes_of_the_process(RUNTIME, str(path))
    path.write_text("import mindspore as ms\nms.set_context(max_call_depth=500)\n")
    found = compile_cache._shapes_of_the_process(RUNTIME, str(path))
    assert [key for key in before if found[key] != before[key]] == ["modules"]
