"""An editor and `import *` know the names that are imported at first use."""

import ast
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["mindcv", "mindcv.data", "mindcv.utils"])
def test_an_editor_finds_what_the_first_use_imports(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = set()
    for statement in block.body:
        for name in (alias.name for alias in statement.names):
            if statement.module is None:  # a room
                assert getattr(module, name) is importlib.import_module(f"{package}.{name}")
            else:
                place = importlib.import_module("." * statement.level + statement.module, package)
                assert getattr(module, name) is getattr(place, name)
                names.add(name)
    assert names == set(module.__all__) - {"__version__"}
