"""Learning rates: the numbers of torch, timm, transformers and MindCV, from make_schedules.py."""

import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mindcv.config import Config, build_schedule, load_config, schedule_contradictions
from mindcv.errors import ConfigError
from mindcv.scheduler import SCHEDULES, create_scheduler

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "schedules.json").read_text())


def name_of(case) -> str:
    arguments = case[0]
    stair = "stair" if arguments.get("lr_epoch_stair") else "step"
    cycles = f"-{arguments['num_cycles']}cycles" if "num_cycles" in arguments else ""
    length = arguments.get("warmup_epochs", f"{arguments.get('warmup_steps')}s")
    warmup = f"{length}x{arguments.get('warmup_factor', 0.0)}"
    steps = f"{arguments['num_epochs']}x{arguments['steps_per_epoch']}"
    shape = arguments.get("decay_shape", "")
    return f"{arguments['scheduler']}{shape}-{stair}-{warmup}{cycles}-{steps}"


def assert_rates(arguments: dict, expected: list[float]) -> None:
    rates = create_scheduler(**arguments)
    assert rates == pytest.approx(expected, rel=1e-7, abs=1e-15)
    assert [isinstance(rate, float) for rate in rates] == [True] * len(rates)
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


@pytest.mark.parametrize("case", GOLDEN["transformers_cases"], ids=name_of)
def test_warmup_stable_decay_equals_transformers(case):
    assert_rates(*case)


def test_golden_cases_cover_every_schedule_with_and_without_stair():
    cases = [case for key in GOLDEN if key.endswith("_cases") for case in GOLDEN[key]]
    seen = {(case[0]["scheduler"], case[0].get("lr_epoch_stair", False)) for case in cases}
    without_stair = {"one_cycle", "cyclic"}
    assert seen == {
        (name, stair)
        for name in SCHEDULES
        for stair in (True, False)
        if not (stair and name in without_stair)
    }
    assert {c[0]["scheduler"] for c in GOLDEN["torch_cases"]} == (
        set(SCHEDULES) - {"warmup_cosine_decay", "wsd"}
    )


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
        (dict(warmup_epochs=-1), ["warmup_epochs -1"]),
        (dict(steps_per_epoch=0), ["steps_per_epoch 0"]),
        (dict(num_epochs=0), ["num_epochs 0"]),
        (dict(scheduler="multi_step_decay", milestones=[60, 30]), ["[60, 30]", "increase"]),
        (dict(scheduler="step_decay", decay_epochs=0), ["decay_epochs 0"]),
        (dict(scheduler="cosine_decay", num_cycles=0), ["num_cycles 0"]),
        (dict(warmup_steps=-1), ["warmup_steps -1"]),
        (dict(warmup_steps=3, lr_epoch_stair=True), ["warmup_steps 3", "stair"]),
        (
            dict(scheduler="cosine_decay", warmup_epochs=0, decay_epochs=None, num_epochs=2)
            | dict(num_cycles=5),
            ["5 cycles", "4 steps"],
        ),
        (dict(scheduler="one_cycle", warmup_epochs=1), ["one_cycle", "no warm-up"]),
        (dict(scheduler="one_cycle", warmup_steps=1), ["one_cycle", "no warm-up"]),
        (dict(scheduler="cyclic", warmup_epochs=0, lr_epoch_stair=True), ["cyclic", "no stair"]),
        (
            dict(scheduler="cyclic", warmup_epochs=0, num_epochs=2, num_cycles=3),
            ["3 cycles", "has 4"],
        ),
        (
            dict(scheduler="wsd", decay_epochs=198),
            ["decay_epochs 198", "200 epochs", "use decay_epochs 197, or None"],
        ),
        (dict(scheduler="wsd", decay_shape="square"), ["'square'", "1-sqrt"]),
        (dict(scheduler="step_decay", decay_epochs=None), ["step_decay", "decay_epochs"]),
    ],
)
def test_impossible_schedule_is_a_value_error_that_names_the_numbers(arguments, words):
    with pytest.raises(ValueError) as error:
        create_scheduler(**dict(dict(steps_per_epoch=2), **arguments))
    for word in words:
        assert word in str(error.value)


def test_every_schedule_gives_one_finite_positive_rate_a_step_down_to_one_step():
    for name, epochs, steps, stair, warmup in itertools.product(
        SCHEDULES, (1, 2, 3, 30), (1, 2, 7), (False, True), (0, 1, 5)
    ):
        climbs = SCHEDULES[name].climbs
        if warmup >= epochs or (climbs and (warmup or stair)):
            continue
        if name == "cyclic" and epochs * steps < 2:
            continue
        rates = create_scheduler(
            steps, name, 0.1, 1e-6, warmup, 0.01, None if name != "step_decay" else 2, 0.9, [1, 2],
            epochs, lr_epoch_stair=stair,
        )  # fmt: skip
        assert len(rates) == epochs * steps
        assert all(1e-7 < rate <= 0.1 + 1e-12 for rate in rates), (name, epochs, steps, stair)


def test_one_cycle_may_end_at_zero_which_mindcv_cannot():
    rates = create_scheduler(5, "one_cycle", 0.1, 0.0, 0, num_epochs=8)
    assert rates[-1] == 0.0 and min(rates[:-1]) > 0.0


def test_the_default_decay_of_wsd_is_a_tenth_of_the_run_rounded_up():
    for epochs, decay in ((1, 1), (10, 1), (11, 2), (90, 9)):
        rates = create_scheduler(4, "wsd", 0.1, 0.0, 0, decay_epochs=None, num_epochs=epochs)
        assert rates.count(0.1) == (epochs - decay) * 4 + 1


def test_warmup_by_steps_equals_warmup_by_epochs_of_as_many_steps():
    for name in sorted(set(SCHEDULES) - {"one_cycle", "cyclic"}):
        common = dict(steps_per_epoch=7, scheduler=name, lr=0.1, decay_epochs=3, milestones=[2, 4])
        by_epochs = create_scheduler(**common, num_epochs=9, warmup_epochs=2)
        assert create_scheduler(**common, num_epochs=9, warmup_steps=14) == by_epochs


@pytest.mark.parametrize(
    "cut, words",
    [
        (dict(num_epochs=3), ["ends within the warm-up", "warmup_epochs 3"]),
        (dict(num_epochs=2, lr_epoch_stair=True), ["within the warm-up"]),
        (dict(num_epochs=1, warmup_steps=20), ["within the warm-up", "warmup_steps 20"]),
        (dict(num_epochs=9), ["warmup_epochs 3 + decay_epochs 10 exceed 9 epochs", "min_lr"]),
        (dict(num_epochs=10, warmup_steps=1), ["warmup_steps 1 + decay_epochs 10"]),
        (dict(num_epochs=9, num_cycles=2, decay_epochs=4), ["2 cycles of decay_epochs 4"]),
        (
            dict(scheduler="step_decay", num_epochs=9),
            ["step_decay: the drop 10 epochs", "9 epochs"],
        ),
        (
            dict(scheduler="multi_step_decay", num_epochs=9),
            ["multi_step_decay: the drop 12 epochs"],
        ),
    ],
)
def test_a_schedule_longer_than_the_run_is_cut_with_a_warning(cut, words, caplog):
    """MindCV cuts too; `--epoch_size 2` shortens a recipe without another change."""
    arguments = dict(steps_per_epoch=4, scheduler="cosine_decay", milestones=[2, 12])
    arguments |= dict(warmup_factor=0.1) | cut
    rates = create_scheduler(**arguments)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert all(word in caplog.text for word in words), caplog.text
    caplog.clear()
    whole = create_scheduler(**{**arguments, "num_epochs": 30})
    assert rates == whole[: len(rates)] and len(rates) == 4 * cut["num_epochs"]
    assert not caplog.records


def test_a_stair_that_begins_with_rate_0_is_a_warning(caplog):
    rates = create_scheduler(2, "cosine_decay", lr_epoch_stair=True, warmup_factor=0.0)
    assert (
        rates[:2] == [0.0, 0.0] and rates[2] > 0 and "first epoch trains at rate 0" in caplog.text
    )


def test_decay_that_just_fits_gives_no_warning(caplog):
    assert len(create_scheduler(2, "cosine_decay", warmup_epochs=3, num_epochs=13)) == 26
    assert not caplog.records


def test_what_the_config_admits_can_be_built_and_never_leaves_zero_to_peak():
    """Only steps of warm-up and cycles of cyclic have to wait for the number of steps."""
    draw = random.Random(0)
    built = dict.fromkeys(SCHEDULES, 0)
    for _ in range(6000):
        config = Config(
            scheduler=draw.choice(tuple(SCHEDULES)),
            lr=0.1,
            min_lr=draw.choice((1e-6, 0.01, 0.2)),
            epoch_size=draw.randint(1, 12),
            warmup_epochs=draw.choice((0, 0, 1, 3, 12)),
            warmup_factor=draw.choice((0.01, 0.5)),
            decay_epochs=draw.choice((None, 1, 3, 8)),
            decay_rate=draw.choice((0.5, 0.9, 1.5)),
            multi_step_decay_milestones=draw.choice(((1,), (2, 4), (4, 2))),
            lr_epoch_stair=draw.choice((True, False)),
            num_cycles=draw.choice((1, 1, 2, 4)),
            cycle_decay=draw.choice((1.0, 0.5, 0.1)),
            decay_shape=draw.choice(("linear", "cosine", "1-sqrt")),
        )
        if list(schedule_contradictions(config)):
            continue
        steps = draw.choice((8, 9))
        rates = build_schedule(config, steps)
        assert len(rates) == config.epoch_size * steps
        assert all(0.0 < rate <= 0.1 + 1e-12 for rate in rates), config
        built[config.scheduler] += 1
    assert min(built.values()) > 30, built


@pytest.mark.parametrize(
    "options, steps, words",
    [
        (
            dict(scheduler="wsd", warmup_steps=7, epoch_size=9, decay_epochs=8),
            3,
            ["warmup_steps 7", "decay_epochs 8"],
        ),
        (
            dict(scheduler="cyclic", warmup_epochs=0, num_cycles=20, epoch_size=9),
            3,
            ["20 cycles", "27"],
        ),
        (dict(num_cycles=40, epoch_size=9, warmup_steps=7), 3, ["40 cycles", "20 steps"]),
    ],
)
def test_what_only_the_data_can_refuse_is_a_config_error_before_training(options, steps, words):
    config = load_config(overrides=options, rules=schedule_contradictions)
    with pytest.raises(ConfigError) as error:
        build_schedule(config, steps)
    for word in (config.scheduler, *words):
        assert word in str(error.value)


def test_the_name_of_a_schedule_is_taken_in_any_case():
    assert create_scheduler(2, "Cosine_Decay") == create_scheduler(2, "cosine_decay")


def test_import_of_the_scheduler_imports_no_mindspore():
    code = "import sys, mindcv.scheduler; sys.exit('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
