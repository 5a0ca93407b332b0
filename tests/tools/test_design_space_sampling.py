"""Populations: the spaces' ranges and constraints, exact costs, and the same models anywhere."""

import json

import pytest

from mindcv.config import load_config, settings_of
from mindcv.design_space import complexity, plan_model
from mindcv.tools.design_space.sampling import sample
from mindcv.tools.design_space.spaces import SPACES

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
