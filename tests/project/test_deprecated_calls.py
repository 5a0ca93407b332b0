"""The source calls nothing that MindSpore announces to remove or change, but for listed names."""

import ast
from collections.abc import Iterator

import pytest
from conftest import ROOT

CHECKED = [*sorted((ROOT / "mindcv").rglob("*.py")), ROOT / "train.py", ROOT / "validate.py"]
CHANGES = frozenset(
    (ROOT / "tests/golden/mindspore_changes.txt").read_text(encoding="utf-8").split()
)
POSITIONS = "called by position only; the announced change is of keywords and of other overloads"
ONLY_ONE = "2.3.1 documents no other; it goes or changes where setup.py ends"
ARGUMENTS = "what changes is an argument that is not given here"

# Name -> why it may stand in the source. Each is needed: see the test.
EXCEPTIONS = {
    **dict.fromkeys(
        (
            *("mindspore.Tensor.all", "mindspore.Tensor.mean", "mindspore.Tensor.sum"),
            *("mindspore.ops.add", "mindspore.ops.amax", "mindspore.ops.mean"),
            *("mindspore.ops.permute", "mindspore.ops.softmax", "mindspore.ops.sqrt"),
            *("mindspore.ops.ones", "mindspore.ops.stack", "mindspore.nn.Sigmoid"),
            *("mindspore.ops.pad", "mindspore.ops.split"),
        ),
        POSITIONS,
    ),
    **dict.fromkeys(
        (
            *("mindspore.ops.assign", "mindspore.ops.cast", "mindspore.Tensor.asnumpy"),
            *("mindspore.nn.Momentum", "mindspore.nn.SGD", "mindspore.nn.Adagrad"),
            *("mindspore.nn.BatchNorm1d", "mindspore.nn.BatchNorm2d", "mindspore.nn.Conv2d"),
            *("mindspore.nn.Dense", "mindspore.nn.MaxPool2d", "mindspore.set_context"),
            *("mindspore.get_context", "mindspore.set_auto_parallel_context"),
            "mindspore.get_auto_parallel_context",
        ),
        ONLY_ONE,
    ),
    **dict.fromkeys(
        (
            *("mindspore.nn.Dropout", "mindspore.dataset.GeneratorDataset"),
            *("mindspore.export", "mindspore.jit"),
        ),
        ARGUMENTS,
    ),
    "mindspore.nn.GELU": "MindCV's default, whichever form of it MindSpore has",
    "mindspore.Tensor.gather": "a function of Runtime, no tensor's",
    "mindspore.Tensor.split": "of texts, no tensor's",
    "mindspore.Tensor.std": "an attribute of Preprocessing, no tensor's",
}


def names_of(source: str) -> Iterator[str]:
    """Yield the full names of what a module takes from MindSpore.

    In a module that imports `ops` the attributes of unknown objects count as a tensor's, but for
    functions that work with NumPy and for `__init__`. Calls of tensor methods and of `ops` yield
    `name(keyword)` as well.
    """
    tree = ast.parse(source)
    imported = {"self": "self"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            imported |= {a.asname or a.name: f"{prefix}.{a.name}" for a in node.names}

    def full_name(node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return imported.get(node.id, "")
        if isinstance(node, ast.Attribute):
            before = full_name(node.value)
            return before and f"{before}.{node.attr}"
        return ""

    def is_host(node: ast.AST) -> bool:
        names = [full_name(one) for one in ast.walk(node)]
        return any(name.startswith("numpy") for name in names) or node.name == "__init__"

    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    graph = [one for one in functions if "mindspore.ops" in imported.values() and not is_host(one)]
    of_graph = {id(node) for function in graph for node in ast.walk(function)}
    for node in ast.walk(tree):
        of_call = node.func if isinstance(node, ast.Call) else node
        name = full_name(of_call)
        is_tensors = id(node) in of_graph or getattr(of_call, "attr", "") == "asnumpy"
        if not name and isinstance(of_call, ast.Attribute) and is_tensors:
            name = f"mindspore.Tensor.{of_call.attr}"
        yield name
        if isinstance(node, ast.Call) and name.startswith(("mindspore.ops", "mindspore.Tensor")):
            yield from (f"{name}({keyword.arg})" for keyword in node.keywords)


def findings(source: str) -> list[str]:
    """Return the names that will change, a keyword of a call as `name(keyword)`, sorted."""
    return sorted({name for name in names_of(source) if name.split("(")[0] in CHANGES})


@pytest.mark.parametrize(
    ("source", "found"),
    {
        "from mindspore import ops\nops.select(c, x, y)": ["mindspore.ops.select"],
        "import mindspore as ms\nms.ops.select(c, x, y)": ["mindspore.ops.select"],
        "from mindspore.ops import transpose": [],
        "from mindspore.ops import transpose as t\nt(x, (1, 0))": ["mindspore.ops.transpose"],
        "from mindspore import nn as n\nn.Conv2d(1, 2, group=2)": ["mindspore.nn.Conv2d"],
        "from mindspore import ops\ndef f(x):\n    return x.max(-1, keepdims=True)": [
            "mindspore.Tensor.max",
            "mindspore.Tensor.max(keepdims)",
        ],
        "from mindspore import ops\ndef f(self, x):\n    return self.max(ops.sum(x, 1))": [],
        "import numpy as np\nfrom mindspore import ops\ndef f(x): return np.exp(x.max())": [],
    }.items(),
)
def test_each_kind_of_use_is_found(source, found):
    assert findings(source) == found


def test_the_source_calls_nothing_that_will_change_but_for_the_listed_names():
    assert ROOT / "mindcv" / "optim" / "rules.py" in CHECKED and len(CHANGES) > 500
    found = {}
    for path in CHECKED:
        source = path.read_text(encoding="utf-8")
        for name in findings(source) if "mindspore" in source else ():
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    unlisted = {name: files for name, files in found.items() if name not in EXCEPTIONS}
    assert not unlisted
    assert set(EXCEPTIONS) == set(found)  # none that is not needed any more
