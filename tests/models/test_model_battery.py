"""One set of tests for every registered model; those of the large ones are slow.

Each network is built once for all of its tests, so only one is in memory. The largest comes first,
and its gradients last, since MindSpore keeps and reuses the memory it once had.
"""

import gc
import hashlib
import json
import math
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from golden.fill import fill, images
from mindspore import ops

from mindcv import create_model, list_models
from mindcv.models import FeatureNet, load_weights

pytestmark = pytest.mark.xdist_group("large")
GOLDEN = Path(__file__).parents[1] / "golden"
TABLE = json.loads((GOLDEN / "complexity.json").read_text())
MORE_LOGITS = json.loads((GOLDEN / "more_logits.json").read_text())
BIG = 3e8  # multiply-accumulates: by default, one network of X and one of Y


def models_big_ones_slow():
    return [
        pytest.param(name, marks=pytest.mark.slow if TABLE[name]["macs"] > BIG else ())
        for name in sorted(list_models(), key=lambda name: -TABLE[name]["params"])
    ]


@pytest.fixture(scope="module", params=models_big_ones_slow())
def network(request):
    ms.set_seed(1)
    yield create_model(request.param)
    gc.collect()


@pytest.fixture
def golden(request):
    return TABLE[request.node.callspec.params["network"]]


def test_parameters_stages_and_costs_are_the_golden_ones(network, golden):
    plan, cost = network.plan, network.complexity()
    assert sum(math.prod(p.shape) for p in network.trainable_params()) == golden["params"]
    assert (cost.params, cost.macs, cost.activations) == (
        golden["params"],
        golden["macs"],
        golden["acts"],
    )
    assert list(plan.widths) == golden["stage_widths"]
    assert list(plan.depths) == golden["stage_depths"]
    for stage, depth, groups in zip(network.stages, plan.depths, golden["stage_groups"]):
        assert [block.f.b.group for block in stage.blocks] == [groups] * depth


def test_logits_and_features_have_the_told_shapes_at_two_sizes(network, golden):
    features = FeatureNet(network).set_train(False)
    assert features.channels == (32, *golden["stage_widths"])
    for height, width in ((32, 32), (64, 32)):
        maps = features(ms.Tensor(images((1, 3, height, width))))
        shapes = [
            (1, i.channels, height // i.reduction, width // i.reduction)
            for i in features.feature_info
        ]
        assert [one.shape for one in maps] == shapes
    network.set_train(False)
    logits = network(ms.Tensor(images((1, 3, 64, 32)))).asnumpy()
    assert logits.shape == (1, 1000) and np.isfinite(logits).all()
    assert np.array_equal(logits, network.forward_head(maps[-1]).asnumpy())


def test_saved_weights_come_back_to_the_last_bit(network, tmp_path):
    path = str(tmp_path / "weights.ckpt")
    ms.save_checkpoint(network, path)
    saved = digests(network)  # a copy of the largest network would take another 2.6 GB
    for parameter in network.get_parameters():
        parameter.set_data(ms.Tensor(np.full(parameter.shape, 7, np.float32)))
    load_weights(network, path, new_head=False)
    assert digests(network) == saved


def digests(network) -> dict[str, str]:
    parameters = network.parameters_dict().items()
    return {name: hashlib.sha1(p.asnumpy().tobytes()).hexdigest() for name, p in parameters}


def test_gradients_reach_every_parameter(network):
    network.set_train(True)
    parameters, target = network.trainable_params(), ms.Tensor([1, 2], ms.int32)

    def loss(batch):
        return ops.cross_entropy(network(batch), target)

    batch = ms.Tensor(images((2, 3, 64, 64)))
    gradients = ms.grad(loss, None, parameters)(batch)
    assert len(gradients) == len(parameters)
    for parameter, gradient in zip(parameters, gradients):
        values = gradient.asnumpy()
        assert np.isfinite(values).all() and values.any(), parameter.name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if TABLE[name]["macs"] > BIG else ())
        for name in MORE_LOGITS
        if "_z_" in name  # test_identity.py has those of torchvision
    ],
)
def test_classyvisions_networks_give_their_logits(name):
    """Weights and images are functions of names: see golden/make_more_models.py."""
    expected, network = MORE_LOGITS[name], create_model(name)
    parameters = list(network.get_parameters())
    assert len(parameters) == expected["parameters"]
    for parameter in parameters:
        parameter.set_data(ms.Tensor(fill(parameter.name, parameter.shape)))
    logits = network.set_train(False)(ms.Tensor(images((2, 3, 64, 96)))).asnumpy()[-1]
    scale = expected["max_abs"]
    assert np.abs(logits[:8] - expected["first"]).max() <= 5e-6 * scale
    assert abs(np.abs(logits).max() - scale) <= 5e-6 * scale
    assert abs(logits.astype(np.float64).sum() - expected["sum"]) <= 5e-6 * scale * math.sqrt(1000)
