"""Schedules, losses and optimizers: the numbers that MindCV gives for the same calls.

The cases stand in golden/mindcv_training_cases.py; golden/make_mindcv_training.py recorded MindCV.
"""

import importlib
import json

import numpy as np
import pytest
from conftest import ROOT, parameters_of
from mindcv_training_cases import (
    CUT,
    LOSSES,
    OPTIMIZERS,
    OTHER_LOSSES,
    OTHER_OPTIMIZERS,
    SCHEDULES,
    TIME,
    loss_of,
    weights_of,
)

from mindcv.loss import create_loss
from mindcv.scheduler import create_scheduler, dynamic_lr

RECORDED = json.loads((ROOT / "tests/golden/mindcv_training.json").read_text(encoding="utf-8"))
# What the cases of OTHER_LOSSES and OTHER_OPTIMIZERS (the first weight) give here.
OUR_LOSSES = (1.1843, 5.8163, 4.5211, 18.318)
OUR_OPTIMIZERS = (0.0874, 0.0874, 0.0603, 0.06200)
# Parameters with another default, and why.
OTHER_DEFAULTS = {
    ("create_optimizer", "eps"): (1e-10, 1e-8),  # it reaches all optimizers here, not rmsprop alone
}


pytestmark = pytest.mark.usefixtures("pynative_mode")  # for speed


def cases(table: list, key: str) -> list:
    return [pytest.param(*pair, id=str(pair[0])[:60]) for pair in zip(table, RECORDED[key])]


def others(table: list, key: str, ours: tuple) -> list:
    rows = zip(table, RECORDED[key], ours, strict=True)
    return [pytest.param(*row, id=str(row[0])[:60]) for row in rows]


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=4e-6)


@pytest.mark.parametrize("case, expected", cases(SCHEDULES, "schedules"))
def test_lists_of_rates_are_mindcvs(case, expected):
    name, arguments, keywords = case
    rates = getattr(dynamic_lr, name)(*arguments, **keywords, **TIME)
    np.testing.assert_allclose(rates, expected, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("arguments, expected", cases(CUT, "cut"))
def test_a_schedule_longer_than_the_run_is_cut_as_mindcvs(arguments, expected):
    rates = create_scheduler(7, **arguments)
    assert len(rates) == 7 * arguments["num_epochs"]
    np.testing.assert_allclose(rates, expected[: len(rates)], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("case, expected", cases(LOSSES, "losses"))
def test_losses_are_mindcvs(case, expected):
    assert_close(loss_of(*case), expected)


def test_the_authors_value_of_the_multi_label_loss_on_mindcvs_test_input():
    (case,) = (case for case in LOSSES if "@theirs" in case)
    assert loss_of(*case) == pytest.approx([1.86576417], rel=1e-6)


@pytest.mark.parametrize("case, expected", cases(OPTIMIZERS, "optimizers"))
def test_three_steps_of_an_optimizer_are_mindcvs(case, expected):
    assert_close(weights_of(*case), expected)


@pytest.mark.parametrize("case, theirs, ours", others(OTHER_LOSSES, "other_losses", OUR_LOSSES))
def test_losses_that_differ_on_purpose(case, theirs, ours):
    (found,) = loss_of(*case)
    assert found == pytest.approx(ours, rel=1e-3)
    assert isinstance(theirs, str) or found != pytest.approx(theirs[0], rel=1e-3)


@pytest.mark.parametrize(
    "case, theirs, ours", others(OTHER_OPTIMIZERS, "other_optimizers", OUR_OPTIMIZERS)
)
def test_optimizers_that_differ_on_purpose(case, theirs, ours):
    found = weights_of(*case)
    assert found[0] == pytest.approx(ours, rel=1e-3)
    assert np.isfinite(found).all() and not np.allclose(found, theirs, rtol=1e-3)


@pytest.mark.parametrize("dotted", RECORDED["signatures"])
def test_parameters_have_mindcvs_names_order_and_defaults(dotted):
    module, _, name = dotted.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    ours = {each.name: each for each in parameters_of(function)}
    for place, (parameter, kind, default) in enumerate(RECORDED["signatures"][dotted]):
        if kind == "VAR_KEYWORD":
            continue
        found = ours[parameter]
        assert found.kind.name == kind or kind == "POSITIONAL_OR_KEYWORD", parameter
        if kind == "POSITIONAL_OR_KEYWORD":
            assert list(ours)[place] == parameter
        given = "required" if found.default is found.empty else found.default
        default, given = OTHER_DEFAULTS.get((name, parameter), (default, given))
        assert (given == default) == ((name, parameter) not in OTHER_DEFAULTS), parameter


def test_an_unknown_loss_is_the_exception_that_scripts_catch():
    for error in (NotImplementedError, ValueError):
        with pytest.raises(error, match="'focal' is unknown"):
            create_loss("focal")
