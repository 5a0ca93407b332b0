"""Learning-rate schedules: the numbers of torch, timm and MindCV, from make_schedules.py."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from mindcv.scheduler import create_scheduler

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "schedules.json").read_text())


def name_of(case) -> str:
    arguments = case[0]
    stair = "stair" if arguments["lr_epoch_stair"] else "step"
    cycles = f"-{arguments['num_cycles']}cycles" if "num_cycles" in arguments else ""
    warmup = f"{arguments['warmup_epochs']}x{arguments.get('warmup_factor', 0.0)}"
    return f"{arguments['scheduler']}-{stair}-{warmup}{cycles}-{arguments['num_epochs']}"


def assert_rates(arguments: dict, expected: list[float]) -> None:
    rates = create_scheduler(**arguments)
    assert rates == pytest.approx(expected, rel=1e-7, abs=1e-15)
    assert len(rates) == arguments["num_epochs"] * arguments["steps_per_epoch"]


@pytest.mark.parametrize("case", GOLDEN["torch_cases"], ids=name_of)
def test_rates_equal_torch(case):
    assert_rates(*case)


@pytest.mark.parametrize("case", GOLDEN["timm_cases"], ids=name_of)
def test_cosine_cycles_equal_timm(case):
    assert_rates(*case)


@pytest.mark.parametrize("case", GOLDEN["mindcv_cases"], ids=name_of)
def test_rates_equal_mindcv(case):
    assert_rates(*case)


def test_golden_cases_cover_every_schedule_with_and_without_stair():
    seen = {(c[0]["scheduler"], c[0]["lr_epoch_stair"]) for c in GOLDEN["torch_cases"]}
    names = "constant cosine_decay exponential_decay step_decay polynomial_decay multi_step_decay"
    assert seen == {(name, stair) for name in names.split() for stair in (True, False)}


@pytest.mark.parametrize("stair", [True, False])
def test_cosine_is_min_lr_from_the_end_of_decay_epochs_on(stair):
    rates = create_scheduler(
        5, "cosine_decay", 0.1, 0.003, 2, 0.1, 6, num_epochs=11, lr_epoch_stair=stair
    )
    assert set(rates[(2 + 6) * 5 :]) == {0.003}
    assert min(rates[2 * 5 : (2 + 6) * 5]) > 0.003
    assert rates[2 * 5] == pytest.approx(0.1, rel=1e-12)


def test_decay_over_the_whole_rest_stops_just_above_min_lr():
    rates = create_scheduler(4, "cosine_decay", 1.0, 0.0, 0, decay_epochs=8, num_epochs=8)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 31 / 32)), rel=1e-9)


def test_stair_keeps_one_rate_throughout_an_epoch():
    for name in ("cosine_decay", "exponential_decay", "polynomial_decay"):
        rates = create_scheduler(7, name, 0.1, num_epochs=20, lr_epoch_stair=True)
        epochs = [rates[i : i + 7] for i in range(0, len(rates), 7)]
        assert all(len(set(epoch)) == 1 for epoch in epochs)
        assert len({epoch[0] for epoch in epochs[:13]}) == 13


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(scheduler="cosine"), ["'cosine'", "cosine_decay", "step_decay"]),
        (dict(warmup_epochs=10, num_epochs=10), ["warmup_epochs 10", "num_epochs 10"]),
        (dict(warmup_epochs=11, num_epochs=10), ["warmup_epochs 11", "num_epochs 10"]),
        (dict(warmup_epochs=-1), ["warmup_epochs -1"]),
        (dict(steps_per_epoch=0), ["steps_per_epoch 0"]),
        (dict(num_epochs=0), ["num_epochs 0"]),
        (
            dict(scheduler="cosine_decay", warmup_epochs=3, decay_epochs=8, num_epochs=10),
            ["warmup_epochs 3", "decay_epochs 8", "num_epochs 10"],
        ),
        (dict(scheduler="multi_step_decay", milestones=[60, 30]), ["[60, 30]", "increase"]),
        (dict(scheduler="step_decay", decay_epochs=0), ["decay_epochs 0"]),
        (dict(scheduler="cosine_decay", num_cycles=0), ["num_cycles 0"]),
    ],
)
def test_impossible_schedule_is_a_value_error_that_names_the_numbers(arguments, words):
    with pytest.raises(ValueError) as error:
        create_scheduler(**dict(dict(steps_per_epoch=2), **arguments))
    for word in words:
        assert word in str(error.value)


def test_decay_that_just_fits_is_accepted():
    assert len(create_scheduler(2, "cosine_decay", warmup_epochs=3, num_epochs=13)) == 26


def test_import_of_the_scheduler_imports_no_mindspore():
    code = "import sys, mindcv.scheduler; sys.exit('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
