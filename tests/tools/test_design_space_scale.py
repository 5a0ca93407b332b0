"""`design-space scale` gives pycls' scaled networks, their costs, and a recipe that trains them."""

import argparse
import json

import pytest
from conftest import ROOT

from mindcv.config import load_config, settings_of
from mindcv.design_space import SETTINGS, complexity, plan_model
from mindcv.errors import ConfigError
from mindcv.tools.design_space import scale

GOLDEN = json.loads((ROOT / "tests/golden/design_space.json").read_text(encoding="utf-8"))


def run(*words) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    scale.add_arguments(parser)
    scale.run(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize("row", GOLDEN["scaled"], ids=lambda row: f"{row[0]} {row[2]} x{row[3]}")
def test_a_scaled_network_is_that_of_pycls(row):
    _, setting, by, factor, depths, widths, groups, size = row
    names = ("w_a", "w_0", "w_m", "d", "group_w", "bot_mul")
    plan = plan_model("regnet", **dict(zip(names, setting)))
    scaled, image_size = scale.scale(plan, 224, scale.scaling(by), factor)
    found = [list(each) for each in (scaled.depths, scaled.widths, scaled.group_widths)]
    assert (*found, image_size) == (depths, widths, groups, size)


def test_the_compound_rule_widens_most_and_costs_least_activations():
    plan = SETTINGS["regnet_y_4_0gf"].plan()
    costs = {}
    for by in ("d", "wg", "r", "dwgr", "dWr"):
        scaled, size = scale.scale(plan, 224, scale.scaling(by), 4)
        costs[by] = complexity(scaled, size)
        assert 3.4 < costs[by].macs / complexity(plan).macs < 4.8, by
    # Section 4: activations grow with the factor for d and r, with its root for w.
    assert costs["r"].activations > 3.5 * complexity(plan).activations
    assert costs["wg"].activations < 2.2 * complexity(plan).activations
    assert costs["dWr"].activations < costs["dwgr"].activations
    assert scale.scaling("dWr") == scale.scaling("d1_w8_g8_r1")


def test_it_prints_costs_before_and_after_and_writes_what_train_py_takes(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: regnet_y_400mf\nimage_resize: 160\nlr: 0.25\nnum_classes: 7\n")
    path = tmp_path / "scaled.yaml"
    run("--config", recipe, "--factor", 2, "--write", path)
    config = load_config(str(path))
    plan = plan_model("anynet", num_classes=7, **settings_of(config))
    assert (config.lr, config.num_classes, config.model) == (0.25, 7, "anynet")
    assert plan.se_ratio == 0.25 and config.image_resize == 164
    printed = capsys.readouterr().out
    before = complexity(SETTINGS["regnet_y_400mf"].plan(num_classes=7), 160)
    after = complexity(plan, 164)
    for costs in (before, after):
        assert f"{costs.macs:,}" in printed and f"{costs.params:,}" in printed
    assert f"{after.macs / before.macs:.2f}" in printed.splitlines()[3]

    shape = tmp_path / "shape.yaml"
    text = "depths=[1,1], widths=[16,32], bot_muls=[1,0.5], stem_w=8, activation=silu"
    run("--model", "anynet", "--anynet", text, "--factor", 3, "--by", "d", "--write", shape)
    assert [line.split(":")[0] for line in shape.read_text().splitlines()] == [
        *("model", "anynet", "image_resize"),
    ]
    settings = settings_of(load_config(str(shape)))
    assert settings["depths"] == [3, 3] and settings["activation"] == "silu"
    assert settings["bot_muls"] == [1.0, 0.5] and settings["stem_w"] == 8


@pytest.mark.parametrize("text", ["dd", "x", "g", "d0_w0", "d1_d2", "d1_w", "", "Wdr"])
def test_what_is_no_scaling_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        scale.scaling(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "resnet50"], "resnet50"),
        ([], "--model NAME is missing"),
        (["--model", "regnet"], "add --regnet SETTINGS"),
        (["--model", "regnet_x_200mf", "--regnet", "d=1"], "model is regnet_x_200mf"),
        (["--model", "regnet_x_200mf", "--write", "a.txt"], "ending in .yaml"),
    ],
)
def test_what_cannot_be_scaled_is_told(words, said):
    with pytest.raises(ConfigError) as caught:
        run("--factor", 2, *words)
    assert said in str(caught.value)
