"""docs/from_timm.md: timm's side is what timm 1.0.31 has (golden/timm_page.json), ours is ours."""

import json
import re

import pytest
from conftest import ROOT

from mindcv.config import load_config
from mindcv.config.options import OPTIONS
from mindcv.design_space import SETTINGS
from mindcv.models import canonical_name, is_model
from mindcv.scheduler import create_scheduler
from mindcv.tools import COMMANDS

PAGE = (ROOT / "docs/from_timm.md").read_text(encoding="utf-8")
TIMM = json.loads((ROOT / "tests/golden/timm_page.json").read_text(encoding="utf-8"))


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n{heading}")[1].split("\n## ")[0].split("\n**")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def flags(cell: str) -> list[tuple[str, str]]:
    """Return option and value (or "") of each `--option value` of a cell."""
    return re.findall(r"`(--[\w-]+) ?([^`]*)`", cell)


def test_every_option_of_the_page_exists_in_timm_and_here():
    for theirs, ours, *more in rows("## Options of train.py"):
        assert flags(theirs), theirs
        for name, _ in flags(theirs):
            assert name in TIMM["options"]["train"], name
        given = {name[2:]: value for name, value in flags(ours)}
        assert set(given) <= set(OPTIONS), ours
        for name, value in given.items():
            if value and name not in ("resume", "clip_grad", "clip_value"):
                load_config(None, {name: value}, lambda config: ())
        for name, _ in flags(" ".join(more)):
            assert name[2:] in OPTIONS or name in TIMM["options"]["train"], name


def test_the_other_defaults_are_the_defaults():
    found = rows("**Other defaults.**")
    for _, theirs, ours in found:
        for name, value in flags(theirs):
            assert str(TIMM["options"]["train"][name]) == value
        for name, value in flags(ours.partition(", unless")[0]):
            assert str(OPTIONS[name[2:]].default) == value
    assert len(found) > 7


def test_the_scripts_and_commands_take_the_options_printed():
    for theirs, ours in rows("## Commands"):
        script = re.search(r"(\w+)\.py", theirs)[1]
        assert set(re.findall(r" (--[\w-]+)", theirs.split(".py")[1])) <= set(
            TIMM["options"][script]
        )
        if found := re.match(r"`mindcv (\w+)", ours):
            assert found[1] in COMMANDS


def test_the_names_are_translated_both_ways():
    for theirs, ours in rows("## Names"):
        for name, own in zip(re.findall(r"`(\w+)`", theirs), re.findall(r"`(\w+)`", ours)):
            assert name in TIMM["names"] and canonical_name(name) == own
    ours = {canonical_name(name) for name in TIMM["names"] if is_model(name)}
    assert ours == set(SETTINGS)


def test_what_is_said_of_optimizers_and_features_is_so():
    assert TIMM["nesterov"] == {"sgd": True, "momentum": False}
    assert TIMM["without_decay"] == [1]
    assert f"`{TIMM['timm']}`" in PAGE or f"timm {TIMM['timm']}" in PAGE
    assert "(48, 104, 208, 440)" in (ROOT / "docs/models.md").read_text(encoding="utf-8")
    assert TIMM["channels"] == [48, 104, 208, 440]


@pytest.mark.parametrize("case", TIMM["rates"])
def test_a_schedule_equals_that_of_timm_with_warmup_prefix(case):
    name, on_updates = case.split()
    options = {"min_lr": 0.02} if name == "cosine" else {"min_lr": 0.0}
    ours = {"cosine": "cosine_decay", "step": "step_decay", "poly": "polynomial_decay"}[name]
    options |= {"decay_rate": 0.5 if name == "step" else 0.9}
    options |= {"decay_epochs": 2 if name == "step" else None}
    rates = create_scheduler(
        4,
        ours,
        lr=0.4,
        warmup_epochs=3,
        warmup_factor=0.25,
        num_epochs=10,
        lr_epoch_stair=on_updates == "False",
        **options,
    )
    assert rates == pytest.approx(TIMM["rates"][case], abs=1e-9)
