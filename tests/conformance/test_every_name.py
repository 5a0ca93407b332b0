"""Every public name of MindCV is here, or the page on the switch says why it is not.

The names were recorded from MindCV's repository by golden/make_mindcv_names.py.
"""

import importlib
import json
import re

import pytest
from conftest import ROOT

RECORDED = json.loads((ROOT / "tests/golden/mindcv_names.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/from_mindcv.md").read_text(encoding="utf-8")
LEFT_OUT = set(re.findall(r"`([\w.]+)`", PAGE.split("## Left out")[1].split("\n## ")[0]))


def missing(module: str, names: list[str]) -> set[str]:
    """Return the names that a module does not have, as `module.name`."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return {f"{module}.{name}" for name in names}
    return {f"{module}.{name}" for name in names if not hasattr(found, name)}


def is_left_out(dotted: str) -> bool:
    """Whether the page names it by its last word, with its module, or the whole module."""
    words = dotted.removeprefix("mindcv.").split(".")
    return any(
        {".".join(words[start:stop]), words[-1]} & LEFT_OUT
        for start in range(len(words))
        for stop in range(start + 1, len(words) + 1)
    )


@pytest.mark.parametrize("dotted", RECORDED["reference"])
def test_a_name_of_the_reference_pages_is_here(dotted):
    module, _, name = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        assert missing(module, [name]) == set() or is_left_out(dotted)


@pytest.mark.parametrize("module", RECORDED["names"])
def test_the_public_names_of_a_module_are_here_or_left_out_with_a_reason(module):
    absent = missing(module, RECORDED["names"][module])
    assert {name for name in absent if not is_left_out(name)} == set()


def test_nothing_is_left_out_that_is_here():
    names = {name for found in RECORDED["names"].values() for name in found}
    absent = {
        dotted.rpartition(".")[2]
        for module, found in RECORDED["names"].items()
        for dotted in missing(module, found)
    }
    assert LEFT_OUT & names <= absent
