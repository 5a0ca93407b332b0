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
ROWS = re.findall(
    r"^\| (.*) \| .* \|$", PAGE.split("## Left out")[1].split("\n## ")[0], re.MULTILINE
)
LEFT_OUT = {name for row in ROWS for name in re.findall(r"`([\w.]+)`", row)}


def missing(module: str, names: list[str]) -> set[str]:
    """Return the names that a module does not have, as `module.name`."""
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        return {f"{module}.{name}" for name in names}
    return {f"{module}.{name}" for name in names if not hasattr(found, name)}


def is_left_out(dotted: str) -> bool:
    """Whether the page names it, with its module or by its last word."""
    return bool({dotted, dotted.rpartition(".")[2]} & LEFT_OUT)


def absent(module: str) -> set[str]:
    return {name for name in missing(module, RECORDED["names"][module]) if not is_left_out(name)}


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
    last_words = {dotted.rpartition(".")[2] for dotted in out}
    known = {f"{module}.{name}" for module, names in RECORDED["names"].items() for name in names}
    known |= {dotted.rpartition(".")[2] for dotted in known}
    assert LEFT_OUT & known <= out | last_words
