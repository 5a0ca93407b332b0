"""The width rule and the costs equal pycls' figures exactly, from plain arithmetic."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindcv.design_space import SETTINGS as PUBLISHED
from mindcv.design_space import (
    NetworkPlan,
    adjust_block_compatibility,
    complexity,
    generate_regnet,
)
from mindcv.design_space.complexity import complexities
from mindcv.design_space.plan import adjust_all, generate_regnets

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
TABLE = json.loads((GOLDEN / "complexity.json").read_text())
SIZES = "200mf 400mf 600mf 800mf 1_6gf 3_2gf 4_0gf 6_4gf 8_0gf 12gf 16gf 32gf".split()
MODELS = [f"regnet_{family}_{size}" for family in "xy" for size in SIZES]

# w_a, w_0, w_m, depth, group width: typed from the paper's figures 15 and 16 as pycls ships them,
# apart from the package's own table.
SETTINGS = {
    "regnet_x_200mf": (36.44, 24, 2.49, 13, 8),
    "regnet_x_400mf": (24.48, 24, 2.54, 22, 16),
    "regnet_x_600mf": (36.97, 48, 2.24, 16, 24),
    "regnet_x_800mf": (35.73, 56, 2.28, 16, 16),
    "regnet_x_1_6gf": (34.01, 80, 2.25, 18, 24),
    "regnet_x_3_2gf": (26.31, 88, 2.25, 25, 48),
    "regnet_x_4_0gf": (38.65, 96, 2.43, 23, 40),
    "regnet_x_6_4gf": (60.83, 184, 2.07, 17, 56),
    "regnet_x_8_0gf": (49.56, 80, 2.88, 23, 120),
    "regnet_x_12gf": (73.36, 168, 2.37, 19, 112),
    "regnet_x_16gf": (55.59, 216, 2.1, 22, 128),
    "regnet_x_32gf": (69.86, 320, 2.0, 23, 168),
    "regnet_y_200mf": (36.44, 24, 2.49, 13, 8),
    "regnet_y_400mf": (27.89, 48, 2.09, 16, 8),
    "regnet_y_600mf": (32.54, 48, 2.32, 15, 16),
    "regnet_y_800mf": (38.84, 56, 2.4, 14, 16),
    "regnet_y_1_6gf": (20.71, 48, 2.65, 27, 24),
    "regnet_y_3_2gf": (42.63, 80, 2.66, 21, 24),
    "regnet_y_4_0gf": (31.41, 96, 2.24, 22, 64),
    "regnet_y_6_4gf": (33.22, 112, 2.27, 25, 72),
    "regnet_y_8_0gf": (76.82, 192, 2.19, 17, 56),
    "regnet_y_12gf": (73.36, 168, 2.37, 19, 112),
    "regnet_y_16gf": (106.23, 200, 2.48, 18, 112),
    "regnet_y_32gf": (115.89, 232, 2.53, 20, 232),
}


# Networks that are not in pycls' zoo; their rows are made by golden/make_more_models.py.
MORE_MODELS = (
    "regnet_x_400mf_tv",
    "regnet_y_800mf_tv",
    "regnet_y_8_0gf_tv",
    "regnet_y_128gf",
    "regnet_z_500mf",
    "regnet_z_4_0gf",
)


def random_settings():
    golden = json.loads((GOLDEN / "regnet_vectors.json").read_text())
    return [dict(zip(golden["columns"], row)) for row in golden["vectors"]]


def plan_of(setting, ratio=1.0, se_ratio=0.0) -> NetworkPlan:
    w_a, w_0, w_m, depth, group = setting
    widths, depths = generate_regnet(w_a, w_0, w_m, depth)
    ratios = [ratio] * len(widths)
    widths, groups = adjust_block_compatibility(widths, ratios, [group] * len(widths))
    return NetworkPlan(
        widths=tuple(widths),
        depths=tuple(depths),
        strides=(2,) * len(widths),
        bottleneck_ratios=tuple(ratios),
        group_widths=tuple(groups),
        se_ratio=se_ratio,
    )


def bias_additions(plan: NetworkPlan) -> int:
    """Count what pycls' flops include beyond multiply-accumulates: the biases of fc and SE."""
    total, width = plan.num_classes, plan.stem_width
    for out_width, depth, ratio in zip(plan.widths, plan.depths, plan.bottleneck_ratios):
        for _ in range(depth):
            if plan.se_ratio:
                total += round(width * plan.se_ratio) + round(out_width * ratio)
            width = out_width
    return total


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_published_widths_depths_groups_and_costs(name):
    golden = TABLE[name]
    plan = plan_of(SETTINGS[name], se_ratio=0.25 if "_y_" in name else 0.0)
    assert plan == PUBLISHED[name].plan()
    check(plan, golden)


@pytest.mark.parametrize("name", MORE_MODELS)
def test_torchvisions_and_classyvisions_networks_have_the_sizes_of_their_modules(name):
    check(PUBLISHED[name].plan(), TABLE[name])


def check(plan: NetworkPlan, golden: dict):
    assert list(plan.widths) == golden["stage_widths"]
    assert list(plan.depths) == golden["stage_depths"]
    assert list(plan.group_widths) == golden["stage_group_widths"]
    assert list(plan.groups) == golden["stage_groups"]
    cost = complexity(plan)
    assert (cost.params, cost.macs, cost.activations) == (
        golden["params"],
        golden["macs"],
        golden["acts"],
    )


def test_the_golden_table_lists_every_published_setting():
    assert set(PUBLISHED) == set(MODELS) | set(MORE_MODELS)
    assert {name for name in TABLE if not name.startswith("_")} == set(PUBLISHED)


def test_torchvision_rounds_only_three_of_its_networks_otherwise():
    """Names and widths as on its hub; both rules give the same regnet_y_128gf."""
    sizes = {"x": "400mf 800mf 1_6gf 3_2gf 8_0gf 16gf 32gf", "y": "400mf 800mf 1_6gf 3_2gf 8_0gf"}
    sizes["y"] += " 16gf 32gf 128gf"
    shared = [f"regnet_{family}_{size}" for family in "xy" for size in sizes[family].split()]
    others = {}
    for name in shared:
        setting = PUBLISHED[name]
        widths = replace(setting, rounding="torchvision").plan().widths
        if widths != setting.plan().widths:
            others[name] = widths
    assert others == {
        "regnet_x_400mf": (32, 64, 160, 400),
        "regnet_y_800mf": (64, 144, 320, 784),
        "regnet_y_8_0gf": (224, 448, 896, 2016),
    }


def test_torchvisions_rounding_goes_up_at_halves_and_below_nine_tenths():
    def adjusted(width, rounding):
        return adjust_block_compatibility([width], [1.0], [16], rounding)[0][0]

    # 104 is 6.5 groups; 56 is 3.5; 38 is 2.4, and 32 would be 0.84 of it; 36 is 2.25, 0.89
    wanted = (104, 56, 38, 36, 35)
    assert [adjusted(width, "pycls") for width in wanted] == [96, 64, 32, 32, 32]
    assert [adjusted(width, "torchvision") for width in wanted] == [112, 64, 48, 48, 32]


def test_the_activation_costs_nothing_and_no_classes_save_the_classifier():
    plan = PUBLISHED["regnet_y_400mf"].plan()
    assert complexity(replace(plan, activation="silu")) == complexity(plan)
    bare, whole = complexity(replace(plan, num_classes=0)), complexity(plan)
    assert whole.params - bare.params == 441 * 1000
    assert whole.macs - bare.macs == 440 * 1000
    assert whole.activations == bare.activations


def test_200_random_settings_get_the_widths_and_depths_of_pycls():
    settings = random_settings()
    assert len(settings) == 200
    for s in settings:
        widths, depths = generate_regnet(s["w_a"], s["w_0"], s["w_m"], s["d"])
        assert (widths, depths) == (s["ws"], s["ds"]), s
        stages = len(widths)
        adjusted = adjust_block_compatibility(widths, [s["bot_mul"]] * stages, [s["g"]] * stages)
        assert adjusted == (s["adj_ws"], s["adj_gs"]), s


def test_200_random_settings_cost_what_pycls_counts():
    for s in random_settings():
        setting = (s["w_a"], s["w_0"], s["w_m"], s["d"], s["g"])
        plan = plan_of(setting, s["bot_mul"], se_ratio=0.25 if s["se"] else 0.0)
        cost = complexity(plan)
        assert cost.params == s["params"], s
        assert cost.activations + plan.num_classes == s["acts"], s  # pycls counts fc's output
        assert cost.macs + bias_additions(plan) == s["flops"], s


@pytest.mark.parametrize("has_se", [False, True])
def test_many_networks_at_once_are_shaped_and_cost_what_pycls_counts(has_se):
    rows = [row for row in random_settings() if bool(row["se"]) == has_se]
    values = {key: np.array([row[key] for row in rows]) for key in rows[0] if key[-1] != "s"}
    widths, depths = generate_regnets(*(values[key] for key in ("w_a", "w_0", "w_m", "d")))
    shape = widths.shape
    ratios, groups = (np.repeat(values[k][:, None], shape[1], axis=1) for k in ("bot_mul", "g"))
    adjusted, groups = adjust_all(np.maximum(widths, 1), ratios.astype(float), groups)
    like = NetworkPlan((8,), (1,), (2,), (1.0,), (8,), se_ratio=0.25 if has_se else 0.0)
    stages = dict(widths=adjusted, depths=depths, ratios=ratios, groups=groups)
    costs = complexities(like, **stages)
    headed = complexities(replace(like, head_width=96), **stages)
    assert costs.params.dtype == np.int64
    for place, s in enumerate(rows):
        exists = depths[place] > 0
        found = (each[place][exists].tolist() for each in (widths, depths, adjusted, groups))
        assert list(found) == [s["ws"], s["ds"], s["adj_ws"], s["adj_gs"]], s
        assert costs.params[place] == s["params"], s
        assert costs.activations[place] + 1000 == s["acts"], s
        setting = (s["w_a"], s["w_0"], s["w_m"], s["d"], s["g"])
        plan = plan_of(setting, s["bot_mul"], se_ratio=0.25 if has_se else 0.0)
        assert costs.macs[place] + bias_additions(plan) == s["flops"], s
        # Feature maps of networks with other numbers of stages have other sizes.
        alone = complexity(replace(plan, head_width=96))
        assert [costs[place] for costs in vars(headed).values()] == list(vars(alone).values())


def test_the_24_models_at_once_cost_what_the_oracle_counts():
    for family, se_ratio in (("x", 0.0), ("y", 0.25)):
        names = [name for name in MODELS if f"_{family}_" in name]
        plans = [PUBLISHED[name].plan() for name in names]
        names_of = dict(widths="widths", depths="depths", groups="group_widths")
        names_of["ratios"] = "bottleneck_ratios"
        stages = {
            key: np.array([getattr(plan, name) for plan in plans]) for key, name in names_of.items()
        }
        like = NetworkPlan((8,), (1,), (2,), (1.0,), (8,), se_ratio=se_ratio)
        costs = complexities(like, **stages)
        for key, column in {"params": costs.params, "macs": costs.macs}.items():
            assert column.tolist() == [TABLE[name][key] for name in names]
        assert costs.activations.tolist() == [TABLE[name]["acts"] for name in names]


def test_the_costs_of_the_24_are_those_that_the_paper_prints():
    """Figures 15 and 16: flops in billions, params and activations in millions."""
    printed = json.loads((GOLDEN / "paper_tables.json").read_text())["figures_15_16"]
    assert set(printed) == set(MODELS)
    for name, figures in printed.items():
        cost = complexity(PUBLISHED[name].plan())
        counted = cost.macs / 1e9, cost.params / 1e6, cost.activations / 1e6
        assert [round(value, 1) for value in counted] == figures, name


def test_an_unknown_rounding_is_refused():
    with pytest.raises(ValueError, match="timm.*pycls, torchvision"):
        adjust_block_compatibility([64], [1.0], [16], "timm")


def test_widths_are_plain_integers_that_json_takes():
    widths, depths = generate_regnet(*SETTINGS["regnet_x_200mf"][:4])
    adjusted = adjust_block_compatibility(widths, [1.0] * 4, [8] * 4)
    for values in (widths, depths, *adjusted):
        assert all(type(value) is int for value in values)


def test_a_flat_line_gives_one_stage():
    assert generate_regnet(0, 64, 2.0, 7) == ([64], [7])


def test_widths_round_half_to_even_multiples():
    # 24 * 2.5 = 60 is 7.5 quanta: 8 even, 64; 8 * 2.5 = 20 is 2.5 quanta: 2 even, 16.
    assert generate_regnet(36, 24, 2.5, 2)[0] == [24, 64]
    assert generate_regnet(12, 8, 2.5, 2)[0] == [8, 16]


def test_a_group_wider_than_its_bottleneck_shrinks_to_it():
    assert adjust_block_compatibility([64, 128], [1.0, 0.25], [96, 48]) == ([64, 128], [64, 32])


def test_costs_grow_with_the_image_and_parameters_do_not():
    plan = plan_of(SETTINGS["regnet_y_400mf"], se_ratio=0.25)
    small, large = complexity(plan, 112), complexity(plan, 224)
    assert small.params == large.params
    assert 3.5 < large.macs / small.macs < 4.5
    assert 3.5 < large.activations / small.activations < 4.5


def test_an_odd_image_is_counted_with_padded_convolutions():
    # 1x1 convolutions only would be size**2; 225 halves to 113, 57, 29, 15, 8.
    plan = plan_of(SETTINGS["regnet_x_200mf"])
    stem = 113**2 * 32
    first = 113**2 * 24 + 57**2 * (24 + 24 + 24)
    second = 57**2 * 56 + 29**2 * (56 + 56 + 56)
    third = 29**2 * 152 + 15**2 * (3 * 152) + 3 * 15**2 * (3 * 152)
    fourth = 15**2 * 368 + 8**2 * (3 * 368) + 6 * 8**2 * (3 * 368)
    assert complexity(plan, 225).activations == stem + first + second + third + fourth


@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 24, 2.5, 13),
        (36, 0, 2.5, 13),
        (36, -24, 2.5, 13),
        (36, 25, 2.5, 13),
        (36, 24, 1.0, 13),
        (36, 24, 0.5, 13),
        (36, 24, 2.5, 0),
        (float("nan"), 24, 2.5, 13),
        (36, 24, float("nan"), 13),
        (float("inf"), 24, 2.5, 13),
    ],
)
def test_a_setting_outside_the_range_is_refused(arguments):
    with pytest.raises(ValueError, match="w_a"):
        generate_regnet(*arguments)


@pytest.mark.parametrize("quantum", [0, -8])
def test_a_quantum_that_is_not_positive_is_refused(quantum):
    with pytest.raises(ValueError, match="quantum"):
        generate_regnet(36, 24, 2.5, 13, quantum)


@pytest.mark.parametrize(
    "arguments",
    [
        ([64, 128], [1.0], [16, 16]),
        ([64], [1.0], [16, 16]),
        ([0], [1.0], [16]),
        ([64], [0.0], [16]),
        ([64], [-1.0], [16]),
        ([64], [1.0], [0]),
        ([64], [1.5], [16]),
    ],
)
def test_widths_and_groups_that_cannot_be_adjusted_are_refused(arguments):
    with pytest.raises(ValueError):
        adjust_block_compatibility(*arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"block_type": "resnet_block"},
        {"stem_type": "patchify"},
        {"activation": "gelu"},
        {"widths": (24, 56)},
    ],
)
def test_counting_an_unknown_plan_is_refused(change):
    plan = plan_of(SETTINGS["regnet_x_200mf"])
    with pytest.raises(ValueError):
        complexity(NetworkPlan(**{**vars(plan), **change}))


def test_the_design_space_imports_no_framework():
    code = (
        "import sys, mindcv.design_space; "
        "print([name for name in ('mindspore', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
