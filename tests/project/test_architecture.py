"""A room imports only those above it in docs/architecture.md; a light one no MindSpore."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "mindcv"
# room: (place in the order, whether it is light)
ROOMS = {
    name: (place, cells[3].strip() == "yes")
    for place, cells in enumerate(
        line.split("|")
        for line in (ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    )
    for name in re.findall(r"`(\w+)(?:/|\.py)`", cells[1])
}


def imports(path: Path) -> Iterator[tuple[int, list[str], bool]]:
    """Yield line, dotted name and whether the import is at the top level of the module."""
    folder = ["mindcv", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split("."), node in tree.body
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            named = node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, [*above, *named, alias.name], node in tree.body


def test_every_room_has_its_place():
    found = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    unlisted = {"__init__", "__main__", "__pycache__", "errors"}
    assert found - unlisted == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_stands_above_it(room):
    place, is_light = ROOMS[room]
    paths = sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    for path in paths:
        for line, name, is_at_top in imports(path):
            where = f"{path.relative_to(ROOT)}:{line} imports {'.'.join(name)}"
            if name[0] == "mindcv" and name[1:] and name[1] in ROOMS:
                assert ROOMS[name[1]][0] <= place, where
            assert not (is_light and is_at_top and name[0] == "mindspore"), where


# Functions of others that take more by position; log calls fill their text; rows are tables.
POSITIONAL = {
    "vision.Affine": "MindSpore",
    "self.bn_infer": "MindSpore",
    "_apply_adam": "a graph of MindSpore takes no keywords",
    "_apply_nesterov": "a graph of MindSpore takes no keywords",
    "_apply_momentum": "a graph of MindSpore takes no keywords",
    "super().redirect_request": "urllib",
    "warnings.formatwarning": "Python",
    "_logger.info": "the values of its text",
    "Setting": "rows of the published table",
    "_inverted": "rows of the published table",
}


def test_a_call_names_what_comes_after_four_arguments():
    used = set()
    for path in [*sorted(PACKAGE.rglob("*.py")), ROOT / "train.py", ROOT / "validate.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if sum(not isinstance(one, ast.Starred) for one in node.args) > 4:
                name = ast.unparse(node.func)
                assert name in POSITIONAL, f"{path.relative_to(ROOT)}:{node.lineno} {name}"
                used.add(name)
    assert used == set(POSITIONAL)


@pytest.mark.parametrize("program", ["train.py", "validate.py", "mindcv/__main__.py"])
def test_a_program_imports_by_full_names(program):
    """MindSpore's compile cache reads these imports, and knows no package of a program."""
    tree = ast.parse((ROOT / program).read_text(encoding="utf-8"))
    assert [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)].count(0) > 0
    assert not any(node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
