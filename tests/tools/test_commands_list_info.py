"""`list` and `info`: exact costs, whatever is known of any model, and a plot that fits."""

import argparse
import importlib
import json
from types import SimpleNamespace

import pytest
from commands import call, registered
from conftest import ROOT
from mindspore import nn

from mindcv.__main__ import _module_of
from mindcv.design_space import SETTINGS, fit_widths
from mindcv.design_space.complexity import Complexity, complexity_by_part
from mindcv.models import AnyNet
from mindcv.tools import COMMANDS, DOORS, NAMES_ELSEWHERE
from mindcv.tools.info import draw_widths
from mindcv.tools.list import table
from mindcv.weights import Preprocessing

GOLDEN = json.loads((ROOT / "tests/golden/complexity.json").read_text(encoding="utf-8"))
GOLDEN = {name: costs for name, costs in GOLDEN.items() if not name.startswith("_")}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """A table of published weights of two rows, whatever is published at the time."""

    def row(source, top1):
        return SimpleNamespace(
            model="regnet_x_200mf",
            source=source,
            top1=top1,
            top5=None,
            preprocessing=Preprocessing(),
        )

    rows = (row("first", 68.5), row("second", 69.25))

    def fake(model=""):
        return tuple(row for row in rows if model in ("", row.model))

    for module in ("list", "info"):
        monkeypatch.setattr(f"mindcv.tools.{module}.published_weights", fake)


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {*DOORS}))
def test_a_tilde_in_a_path_of_a_command_is_the_users_home(command, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    parser = argparse.ArgumentParser()
    importlib.import_module(_module_of(command)).add_arguments(parser)
    places = {"FILE", "FOLDER", "DIR", "RUN_DIR", "SRC", "OUT", "IN", "CKPT", "IMAGE"}
    for action in parser._actions:
        if action.metavar in places or action.dest == "import_module":
            assert action.type("~/x.ckpt") == "/home/somebody/x.ckpt", action.dest


def linear(num_classes=1000, in_channels=3):
    return nn.Dense(in_channels, num_classes)


def plain_anynet(num_classes=1000, in_channels=3):
    return AnyNet(
        depths=[1, 2],
        widths=[8, 16],
        strides=[2, 2],
        block_type="vanilla_block",
        num_classes=num_classes,
        in_channels=in_channels,
    )


@pytest.mark.parametrize(
    "words, meant",
    [
        (["predict", "a.png", "--weights", "x.ckpt"], "did you mean --ckpt_path or --pretrained?"),
        (["predict", "a.png", "--imgsz", "64"], "did you mean --image_size?"),
        (["predict", "a.png", "--topk=3"], "did you mean --top_k?"),
        (["export", "--checkpoint", "x.ckpt", "--output", "x.onnx"], "did you mean --ckpt_path?"),
        (["val", "--model", "x"], "did you mean validate? known: train, validate"),
        (["fit"], "did you mean train?"),
        (["classify", "a.png"], "did you mean predict?"),
        (["infos"], "did you mean info"),
    ],
)
def test_what_other_programs_call_it_is_understood_as_a_question(words, meant, capsys):
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "") and meant in err


def test_other_programs_names_are_none_of_ours():
    names = [name for names in NAMES_ELSEWHERE.values() for name in names.split()]
    assert not {*names} & {*COMMANDS}
    assert len(names) == len({*names})


def test_list_shows_the_exact_costs_of_the_papers_models(capsys):
    code, out, _ = call(capsys, "list", "--json")
    found = {row["model"]: row for row in json.loads(out)}
    assert code == 0
    for name, costs in GOLDEN.items():
        row = found[name]
        assert (row["params"], row["macs"], row["activations"]) == (
            costs["params"],
            costs["macs"],
            costs["acts"],
        )
        assert row["image_size"] == 224
    assert found["regnet_x_200mf"]["weights"] == ["first", "second"]
    assert found["regnet_x_200mf"]["top1"] == 69.25
    assert (found["regnet_y_32gf"]["weights"], found["regnet_y_32gf"]["top1"]) == ([], None)


def test_list_is_an_aligned_table_in_natural_order(capsys):
    code, out, _ = call(capsys, "list", "regnet_x*gf")
    lines = out.splitlines()
    assert code == 0
    names = [line.split()[0] for line in lines[1:]]
    paper = [name for name in names if name in GOLDEN]
    assert paper == [f"regnet_x_{s}gf" for s in "1_6 3_2 4_0 6_4 8_0 12 16 32".split()]
    # Numbers end where their heading ends.
    for heading in ("params (M)", "MACs (G)", "acts (M)", "input", "top-1"):
        end = lines[0].index(heading) + len(heading)
        assert all(line[end - 1] != " " and line[end : end + 1] in ("", " ") for line in lines)
    assert lines[1].split()[:5] == ["regnet_x_1_6gf", "9.19", "1.60", "7.93", "224"]


def test_part_of_a_name_is_a_pattern_too(capsys):
    _, out, _ = call(capsys, "list", "y_400")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["regnet_y_400mf"]


def test_list_costs_are_of_the_image_size_given(capsys):
    _, small, _ = call(capsys, "list", "regnet_x_200mf", "--json")
    _, large, _ = call(capsys, "list", "regnet_x_200mf", "--json", "--image_size", 448)
    small, large = (
        next(row for row in json.loads(text) if row["model"] == "regnet_x_200mf")
        for text in (small, large)
    )
    assert small["params"] == large["params"]
    classifier = 368 * 1000
    assert 4 * (small["macs"] - classifier) == large["macs"] - classifier
    assert large["image_size"] == 448


def test_unknown_costs_are_dashes():
    row = {"model": "mine", "params": 5, "macs": None, "activations": None}
    row |= {"image_size": 224, "top1": None, "weights": []}
    lines = table([row])
    assert lines[1].split() == ["mine", "0.00", "-", "-", "224", "-", "-"]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_stages_add_up_to_the_network(name):
    parts = complexity_by_part(SETTINGS[name].plan())
    total = GOLDEN[name]
    assert [part.name for part in parts] == ["stem", *(f"stage {i}" for i in (1, 2, 3, 4)), "head"]
    assert [part.image_size for part in parts] == [112, 56, 28, 14, 7, 1]
    for field, golden in (("params", "params"), ("macs", "macs"), ("activations", "acts")):
        assert sum(getattr(part.complexity, field) for part in parts) == total[golden]


def test_info_shows_the_rule_the_stages_and_the_weights(capsys):
    code, out, _ = call(capsys, "info", "regnet_y_400mf")
    lines = out.splitlines()
    assert code == 0
    assert "w_a 27.89   w_0 48   w_m 2.09   depth 16   group width 8" in out
    row = next(line for line in lines if line.startswith("stage 2"))
    assert row.split()[2:9] == ["28x28", "3", "104", "13", "8", "2", "12,26"]
    total = next(line for line in lines if line.startswith("total")).replace(",", "").split()
    costs = GOLDEN["regnet_y_400mf"]
    assert total[1:] == ["16", *(str(costs[key]) for key in ("params", "macs", "acts"))]
    assert "published weights: none known" in out
    assert "first" in call(capsys, "info", "regnet_x_200mf")[1]


def test_a_rule_that_is_known_is_not_looked_for(capsys, monkeypatch):
    monkeypatch.setattr("mindcv.tools.info.fit_widths", None)
    for words in (["regnet_x_200mf"], ["regnet", "--regnet", "d=3,w_a=8,w_0=8,w_m=2,group_w=8"]):
        assert "w_0 " in call(capsys, "info", *words)[1]


def test_costs_that_a_model_of_ones_own_counts_are_listed(capsys):
    def counting(num_classes=1000, in_channels=3):
        network = linear(num_classes, in_channels)
        network.complexity = lambda size: SimpleNamespace(params=1, macs=size, activations=3)
        return network

    with registered(counting):
        (row,) = json.loads(call(capsys, "list", "counting", "--json")[1])
    assert (row["params"], row["macs"], row["activations"]) == (1, 224, 3)


def test_info_of_a_networks_other_name_is_that_of_the_network(capsys):
    assert call(capsys, "info", "regnetx_002") == call(capsys, "info", "regnet_x_200mf")


def test_info_of_a_model_of_ones_own_says_what_is_not_known(capsys):
    with registered(linear, plain_anynet):
        code, out, _ = call(capsys, "info", "linear")
        assert code == 0
        assert "4,000 parameters" in out and "not known" in out
        code, out, _ = call(capsys, "info", "plain_anynet", "--image_size", 32)
        assert code == 0
        fit = fit_widths(plain_anynet().plan.widths, plain_anynet().plan.depths)
        assert f"w_a {fit.w_a:.4g}   w_0 {fit.w_0}" in out and f"e_fit {fit.e_fit:.3f}" in out
        network = plain_anynet()
        assert f"{network.complexity(32).macs:,}" in out
        assert "= width" in out and "line w_0" in out
        code, out, _ = call(capsys, "list", "linear", "--json")
        assert json.loads(out)[0] | {"weights": []} == {
            "model": "linear",
            "params": 4000,
            "macs": None,
            "activations": None,
            "image_size": 224,
            "top1": None,
            "weights": [],
        }


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_plot_fits_80_columns_and_shows_every_width(name, scale):
    setting, plan = SETTINGS[name], SETTINGS[name].plan()
    lines = draw_widths(plan.widths, plan.depths, (setting.w_0, setting.w_a), scale)
    assert max(map(len, lines)) <= 80
    plot = [line for line in lines if "|" in line]
    heights = []
    for column in zip(*(line.split("|")[1].ljust(70) for line in reversed(plot))):
        heights += [row for row, sign in enumerate(column) if sign in "=@"]
    assert heights == sorted(heights) and heights[-1] > heights[0]
    assert (
        str(len([w for w, d in zip(plan.widths, plan.depths) for _ in range(d)]) - 1) in lines[-2]
    )


def test_the_plot_puts_the_line_where_the_rule_says():
    lines = draw_widths([8, 16], [1, 3], (8, 4))
    plot = [line.split("|")[1].ljust(16) for line in reversed(lines[:20])]
    marks = {
        (row, column) for row in range(20) for column in range(16) if plot[row][column] in "o@"
    }
    # u = 8, 12, 16, 20: equal steps to the right and upwards, the highest at the top.
    assert {column for _, column in marks} == {0, 4, 8, 12}
    assert sorted(row for row, _ in marks) == [0, 6, 13, 19]
    assert plot[0][0] == "@" and plot[19][12] == "o"


@pytest.mark.parametrize("depth", [1, 68, 69, 200])
def test_the_plot_takes_any_depth(depth):
    assert max(map(len, draw_widths([8, 24], [1, depth], (8, 1.5)))) <= 80
    assert max(map(len, draw_widths([8], [depth], (8, 0.0)))) <= 80


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["list", "resnet*"], "no model matches 'resnet*'"),
        (["list", "--image_size", "4"], "'4' is not a whole number of at least 8"),
        (["info", "regnet_x_201mf"], "did you mean regnet_x_200mf"),
        (["info"], "NAME"),
        (["info", "regnet_x_200mf", "--scale", "cubic"], "cubic"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(capsys, words, fragment):
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert fragment in err and err.count("\n") == 1


def test_costs_of_parts_are_counted_without_a_classifier():
    plan = SETTINGS["regnet_x_200mf"].plan(num_classes=0)
    assert complexity_by_part(plan)[-1].complexity == Complexity(0, 0, 0)
