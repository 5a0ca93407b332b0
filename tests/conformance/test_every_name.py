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


def left_out() -> set[str]:
    """Return the names of the page's table, with their modules.

    A cell holds groups "`module`, `module`: `name`, `name`", separated by semicolons.
    """
    table = PAGE.split("## Left out")[1].split("\n## ")[0]
    found = set()
    for cell in re.findall(r"^\| (.*) \| .* \|$", table, re.MULTILINE):
        for group in cell.split("; "):
            modules, _, names = (re.findall(r"`(.+?)`", part) for part in group.partition(": "))
            found |= {f"{module}.{name}" for module in modules for name in names}
    return found


def missing(module: str, names: list[str]) -> set[str]:
    """Return the names that a module does not have, as `module.name`."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return {f"{module}.{name}" for name in names}
    return {f"{module}.{name}" for name in names if not hasattr(found, name)}


def absent(module: str) -> set[str]:
    return missing(module, RECORDED["names"][module]) - left_out()


@pytest.mark.parametrize("dotted", RECORDED["reference"])
def test_a_name_of_the_reference_pages_is_here(dotted):
    if dotted in RECORDED["names"]:  # a page describes a whole module
        assert absent(dotted) == set()
    else:
        module, _, name = dotted.rpartition(".")
        assert missing(module, [name]) == set()


@pytest.mark.parametrize("module", RECORDED["names"])
def test_the_public_names_of_a_module_are_here_or_left_out_with_a_reason(module):
    assert absent(module) == set()


def test_only_what_is_not_here_is_left_out():
    out = {name for module, names in RECORDED["names"].items() for name in missing(module, names)}
    assert left_out() == out
