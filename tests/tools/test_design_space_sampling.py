"""Populations: the spaces' ranges and constraints, exact costs, and the same models anywhere."""

import json
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from mindcv.config import load_config, settings_of
from mindcv.design_space import complexity, plan_model
from mindcv.design_space.plan import generate_regnet, generate_regnets
from mindcv.errors import ConfigError
from mindcv.tools.design_space.sampling import _levels, sample, sample_population
from mindcv.tools.design_space.spaces import SPACES, Sampler, find_space

GOLDEN = json.loads((ROOT / "tests/golden/design_space.json").read_text(encoding="utf-8"))
# Of models 0, 19, 20, 40 and 59, the same with NumPy 1.26.4 and 2.3.5, with AVX-512 and without.
IDS = ["1cecf8c75084", "fa715803ab3d", "c6e6c477c942", "8560948e7a3e", "779ceced660d"]
WINDOW = {"macs": (10e6, 12e6)}


def plan_of(line: dict):
    return plan_model(line["model"]["name"], num_classes=10, **line["model"]["arguments"])


@pytest.mark.parametrize("name", SPACES)
def test_a_line_tells_the_network_that_train_py_builds_and_its_exact_costs(name):
    lines = sample(SPACES[name], 20, image_size=64, num_classes=10, limits={"macs": (1e6, 2e8)})
    for place, line in enumerate(lines):
        assert json.loads(json.dumps(line)) == line and line["index"] == place
        plan, costs = plan_of(line), complexity(plan_of(line), 64)
        assert [list(plan.widths), list(plan.depths)] == [line["widths"], line["depths"]]
        assert [list(plan.group_widths), list(plan.bottleneck_ratios)] == [
            line["group_ws"],
            line["bot_muls"],
        ]
        counted = [line["params"], line["macs"], line["activations"]]
        assert counted == [costs.params, costs.macs, costs.activations]
        assert 1e6 <= costs.macs <= 2e8
        model = line["model"]["name"]
        config = load_config(None, {"model": model, model: line["model"]["arguments"]})
        assert plan_model(model, num_classes=10, **settings_of(config)) == plan
    assert len({line["id"] for line in lines}) == 20
    assert len({json.dumps(line["model"]) for line in lines}) == 20


def test_every_space_keeps_its_ranges_ties_and_orders():
    found = {name: sample(SPACES[name], 60, limits=WINDOW, image_size=64) for name in SPACES}
    for name, lines in found.items():
        for line in lines:
            values = line["parameters"]
            assert 10e6 <= line["macs"] <= 12e6
            if name.startswith("anynet"):
                assert len(line["depths"]) == 4
                assert all(1 <= d <= 16 for d in line["depths"])
                widths = [value for key, value in values.items() if key[0] == "w"]
                assert all(width % 8 == 0 and 8 <= width <= 1024 for width in widths)
                assert {1 / ratio for ratio in line["bot_muls"]} <= {1, 2, 4}
                assert {v for k, v in values.items() if k[0] == "g"} <= {1, 2, 4, 8, 16, 32}
            else:
                assert len(line["depths"]) == 4 and values["d"] == sum(line["depths"]) < 64
                assert values["w_0"] < 257 and values["w_a"] < 257 and 1.5 <= values["w_m"] <= 3
    ordered = lambda row: row == sorted(row)  # noqa: E731
    is_ordered = {
        name: (
            all(ordered(line["widths"]) for line in lines),
            all(ordered(line["depths"]) for line in lines),
            all(len(set(line["bot_muls"])) == 1 for line in lines),
            all(sum(key[0] == "g" for key in line["parameters"]) == 1 for line in lines),
        )
        for name, lines in found.items()
        if name.startswith("anynet")
    }
    assert list(is_ordered.values()) == [
        (False, False, False, False),
        (False, False, True, False),
        (False, False, True, True),
        (True, False, True, True),
        (True, True, True, True),
    ]
    for family in "xy":
        for line in found[f"regnet_{family}_section5"]:
            values, at_224 = line["parameters"], complexity(plan_model(**named(line)), 224)
            assert 12 <= values["d"] <= 28 and values["w_m"] >= 2 and values["bot_mul"] == 1
            assert line["params"] <= 3e6 + 5.5e-3 * at_224.macs
            assert at_224.activations <= 6.5e6 * (at_224.macs / 1e9) ** 0.5
    assert all(line["model"]["arguments"]["se_r"] == 0.25 for line in found["regnet_y"])


def named(line: dict) -> dict:
    return {"name": line["model"]["name"], **line["model"]["arguments"]}


@pytest.mark.parametrize("row", GOLDEN["samples"], ids=lambda row: f"{row[0]} {row[1]}-{row[2]}")
def test_a_sampler_draws_each_value_as_often_as_pycls(row):
    kind, low, high, step, shares = row
    sampler = Sampler(kind.replace("power2_uniform", "power2"), (low, high), step)
    count = 200_000
    uniform = np.random.default_rng(1).random((sampler.draws, count))
    values, counts = np.unique(np.round(sampler.draw(*uniform), 9), return_counts=True)
    ours = dict(zip(values.tolist(), (counts / count).tolist()))
    theirs = {float(value): share for value, share in shares.items()}
    for value in ours.keys() | theirs.keys():
        expected = theirs.get(value, 0)
        deviation = (2 * max(expected, 1e-4) / count) ** 0.5
        assert abs(ours.get(value, 0) - expected) < 5 * deviation, value


def test_the_width_rule_of_many_networks_is_that_of_pycls():
    rows = [row for row in GOLDEN["rules"] if row[0] or row[3] == 1]
    columns = [np.array(column) for column in zip(*(row[:4] for row in rows))]
    widths, depths = generate_regnets(*columns)
    levels = _levels(dict(zip(("w_a", "w_0", "w_m", "d"), columns)))
    for place, (*_, ws, ds, stages, reached) in enumerate(rows):
        exists = depths[place] > 0
        assert (widths[place][exists].tolist(), depths[place][exists].tolist()) == (ws, ds)
        assert (exists.sum(), levels[place]) == (stages, reached)


def test_a_seed_gives_the_same_population_anywhere():
    study = types.SimpleNamespace(
        spaces=["anynet_x_a", "anynet_x_e", "regnet_x"],
        count=20,
        seed=0,
        image_size=64,
        num_classes=10,
        limits=WINDOW,
    )
    ids = [line["id"] for line in sample_population(study)]
    assert [ids[0], ids[19], ids[20], ids[40], ids[59]] == IDS
    study.spaces = ["regnet_x"]
    assert [line["id"] for line in sample_population(study)] == ids[40:]  # whatever is beside it
    study.seed, study.count = 1, 5
    assert not {line["id"] for line in sample_population(study)} & set(ids)


def test_sampling_imports_no_framework():
    code = (
        "import sys, mindcv.tools.design_space.sampling, mindcv.tools.design_space.scale; "
        "print([name for name in ('mindspore', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


MINE = {
    "name": "mine",
    "base": "regnet_x",
    "parameters": {
        "d": [6, 10],
        "w_m": {"values": [2.0, 2.5]},
        "group_w": {"range": [4, 16], "sampler": "power2"},
        "bot_mul": 1,
        "w_a": {"range": [8, 64], "sampler": "uniform", "step": 8},
        "stem_w": 8,
        "se_r": 0.25,
    },
    "constraints": ["w_0 <= 32", "params < 3e5"],
    "limits": {"macs": [1e6, 2e7]},
}


def test_an_own_space_changes_a_known_one_by_its_declaration():
    space = find_space(MINE)
    lines = sample(space, 15, image_size=64, num_classes=10, limits={"macs": (0, 1)})
    for line in lines:
        values, arguments = line["parameters"], line["model"]["arguments"]
        assert 6 <= values["d"] <= 10 and values["w_m"] in (2, 2.5) and values["w_0"] <= 32
        assert values["group_w"] in (4, 8, 16) and values["w_a"] % 8 == 0 and values["w_a"] <= 64
        assert arguments["stem_w"] == 8 and arguments["se_r"] == 0.25 and values["bot_mul"] == 1
        assert line["params"] < 3e5 and line["macs"] <= 2e7
        assert plan_of(line).stem_width == 8
    assert len({line["parameters"]["d"] for line in lines}) > 1
    lean = {"name": "lean", "base": "regnet_x", "constraints": ["activations_224 <= 2e6"]}
    for line in sample(find_space(lean), 10, image_size=64):
        assert complexity(plan_model(**named(line)), 224).activations <= 2e6
    small = find_space(
        {
            "name": "three",
            "base": "anynet_x_c",
            "parameters": {"g1": [1, 2], "g3": [4, 8], "d4": 1, "b": 0.25},
        }
    )
    line = sample(small, 1, image_size=64)[0]
    assert line["depths"][3] == 1 and set(line["bot_muls"]) == {4.0}
    assert line["parameters"]["g3"] in (4, 8)
    assert line["group_ws"][3] == line["parameters"]["g"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("regnet_z", "'regnet_z' is unknown; known: anynet_x_a"),
        ({"name": "regnet_x"}, "'regnet_x' does not name an own space"),
        ({"base": "resnet"}, "'resnet' is unknown"),
        ({"base": None}, "mine: base: '' is unknown; known: anynet_x_a"),
        ({"parameters": {"d": "x"}}, "mine: d: expected numbers, got 'x'"),
        ({"parameters": {"d": ["a", 3]}}, "expected numbers, got 'a', 3, 1"),
        ({"limits": {"macs": [None, 5]}}, "mine: limits: macs: expected [low, high]"),
        ({"ranges": {}}, "unknown key 'ranges'; known: name, base"),
        ({"parameters": {"depth": [1, 2]}}, "regnet does not take 'depth'; it takes w_a, w_0"),
        ({"parameters": {"depth": 3}}, "regnet does not take 'depth'; it takes w_a, w_0"),
        ({"base": "anynet_x_a", "parameters": {"w6": 8}, "constraints": []}, "d5, d6, w5 missing"),
        ({"parameters": {"se_r": "much"}}, "space mine: "),
        (
            {"parameters": {"stem_type": "conv"}},
            "space mine: stem_type 'conv' is unknown; expected",
        ),
        ({"parameters": {"d": [9, 3]}}, "range [9, 3] with step 1 is none of uniform"),
        ({"parameters": {"w_0": [0, 8]}}, "expected 0 < low <= high"),
        ({"parameters": {"d": {"range": [1, 2], "sampler": "normal"}}}, "'normal' is not one of"),
        ({"parameters": {"d": {"from": 1}}}, "expected a value, [low, high]"),
        ({"parameters": {"group_w": [3, 8]}}, "at powers of two"),
        ({"parameters": [1]}, "parameters: expected a mapping"),
        ({"constraints": ["w_1 <= 8"]}, "unknown 'w_1'; known: d, w_0"),
        ({"constraints": ["small"]}, "'small' is no comparison"),
        ({"limits": {"flops": [1, 2]}}, "'flops' is unknown; known: params, macs"),
        ({"limits": {"macs": "12"}}, "macs: expected [low, high], got 12"),
        ({"constraints": [3]}, "constraint 3 is no comparison"),
        ({"parameters": {"d": [1, 2, 3]}}, "d: expected a value, [low, high]"),
        ({"parameters": {"d": 0}}, "d: expected numbers above 0, got 0"),
        ({"parameters": {"se_r": [1, 2]}}, "se_r: expected a number, got '[1, 2]'"),
        ({"limits": {"macs": [3, 2]}}, "macs: expected [low, high]"),
        ({"limits": {"macs": {1: 2, 3: 4}}}, "macs: expected [low, high], got {1: 2, 3: 4}"),
        ({"parameters": {8: {"range": [1, 2]}}}, "mine: '8' is the same for all networks"),
        ({"parameters": {"w_m": [1, 1.5]}}, "w_m: expected numbers above 1, got 1"),
        ({"constraints": ["1.2.3 <= w_0"]}, "mine: constraint '1.2.3 <= w_0' is no comparison"),
    ],
)
def test_a_declaration_that_is_wrong_is_told_with_what_is_right(change, said):
    declared = change if isinstance(change, str) else {**MINE, **change}
    with pytest.raises(ConfigError) as caught:
        find_space(declared)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("base", "parameters", "said"),
    [
        ("regnet_x", {"w_0": 12}, "w_0=12, .* w_0 a positive multiple of 8"),
        (
            "regnet_x",
            {"w_0": {"range": [8, 64], "sampler": "uniform", "step": 1}},
            "w_0 a positive multiple of 8",
        ),
        (
            "regnet_x",
            {"bot_mul": {"range": [0.5, 2], "sampler": "uniform", "step": 0.25}},
            "a whole number for a ratio above 1",
        ),
        (
            "anynet_x_a",
            {"d1": {"range": [0, 3], "sampler": "uniform"}},
            "d1: expected numbers above 0, got 0",
        ),
        ("regnet_x", {"stem_type": "simple"}, "stem_type 'simple' is unknown; expected simple_"),
        ("regnet_x", {"activation": "gelu"}, "activation 'gelu' is unknown; expected relu, silu"),
        ("regnet_x", {"rounding": "up"}, "rounding 'up' is unknown; expected pycls"),
        ("anynet_x_a", {"strides": 2}, "one value per stage; got 4, 4, 1"),
        ("anynet_x_a", {"bot_muls": 2}, "'bot_muls' follows from the parameters that are drawn"),
    ],
)
def test_a_space_that_allows_what_is_no_network_is_refused(base, parameters, said):
    """A population holds nothing that `run` would stop at, also beyond its first model."""
    study = types.SimpleNamespace(
        spaces=[{"name": "mine", "base": base, "parameters": parameters}],
        count=20,
        seed=0,
        image_size=64,
        num_classes=10,
        limits={"macs": (1e6, 2e8)},
    )
    with pytest.raises(ConfigError, match=f"^space mine: .*{said}"):
        list(sample_population(study))


def test_strides_of_a_space_are_those_of_its_networks():
    own = {"name": "mine", "base": "anynet_x_a", "parameters": {"strides": [1, 2, 2, 1]}}
    for line in sample(find_space(own), 5, image_size=64, num_classes=10):
        costs = complexity(plan_of(line), 64)
        assert plan_of(line).strides == (1, 2, 2, 1)
        assert [line["params"], line["macs"]] == [costs.params, costs.macs]


def test_widths_take_memory_by_blocks_not_by_powers():
    """At w_m = 1 + 1e-11 the powers reach 10^11; a weight file may ask for it."""
    for ratio in (1.0000001, 1 + 1e-11, 1 + 2.0**-52):
        widths, depths = generate_regnet(24, 48, ratio, 20)
        assert widths == [48 + 24 * block for block in range(20)] and depths == [1] * 20


def test_limits_that_nothing_meets_end_with_a_message(monkeypatch):
    monkeypatch.setattr("mindcv.tools.design_space.sampling._MOST", 1 << 16)
    with pytest.raises(ConfigError, match=r"regnet_x: 0 of 3 .* 65,536 candidates \(macs 1 to 2,"):
        sample(SPACES["regnet_x"], 3, limits={"macs": (1, 2)})


def test_only_networks_that_are_new_are_checked_as_train_py_does(monkeypatch):
    """Reading settings takes a hundred times as long as drawing them again."""
    checked = []
    monkeypatch.setattr("mindcv.tools.design_space.sampling._MOST", 1 << 15)
    monkeypatch.setattr(
        "mindcv.tools.design_space.sampling.read_settings", lambda *words: checked.append(words)
    )
    shape = {"d": 8, "w_0": 24, "w_a": 24, "w_m": 2, "group_w": 8, "bot_mul": [0.5, 1]}
    few = {"name": "few", "base": "regnet_x_section4", "parameters": shape}
    few = replace(find_space(few), constraints=())
    with pytest.raises(ConfigError, match="few: 2 of 3 networks found among 32,768 candidates"):
        sample(few, 3)
    assert len(checked) == 2


def test_the_sizes_of_the_spaces_are_those_of_table_1():
    """The paper divides by 4! for each order, which leaves ties out; `size` counts them."""
    sizes = {name: SPACES[name].size() for name in SPACES if name.startswith("anynet")}
    free, tied = 16 * 128, {"w": 11_716_640, "d": 3_876}  # multisets of 4 of 128, of 16
    assert sizes == {
        "anynet_x_a": (free * 3 * 6) ** 4,
        "anynet_x_b": (free * 6) ** 4 * 3,
        "anynet_x_c": free**4 * 3 * 6,
        "anynet_x_d": 16**4 * tied["w"] * 3 * 6,
        "anynet_x_e": tied["d"] * tied["w"] * 3 * 6,
    }
    printed = {"a": 1.8e18, "b": 6.8e16, "c": 3.2e14, "d": 1.3e13, "e": 5.5e11}
    for letter, value in printed.items():
        orders = {"d": 1, "e": 2}.get(letter, 0)
        strict = sizes["anynet_x_c"] / 24**orders if orders else sizes[f"anynet_x_{letter}"]
        assert float(f"{strict:.1e}") == value
        assert value * 0.9 < sizes[f"anynet_x_{letter}"] < value * 1.6
    two = {"name": "m", "base": "anynet_x_d", "parameters": {"w1": [8, 16], "d": 1}}
    assert find_space(two).size() == 2 * 128**3 * 3 * 6


@pytest.mark.parametrize("name", SPACES)
def test_a_sampler_has_as_many_values_as_it_says(name):
    uniform = np.random.default_rng(0).random((2, 200_000))
    for key, sampler in SPACES[name].samplers.items():
        if key != "w_a":  # 2,480 values, of which some are drawn too seldom
            drawn = sampler.draw(*uniform[: sampler.draws])
            assert len(np.unique(drawn)) == sampler.count(), key
