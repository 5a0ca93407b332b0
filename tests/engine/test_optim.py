"""Optimizers: 100-step trajectories of torch and timm in float64, made by make_optimizers.py."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from small_net import (
    EXEMPT,
    KEPT,
    LAYER_DECAY,
    OPTIMIZERS,
    SHAPES,
    STEPS,
    VARIANTS,
    WEIGHT_DECAY,
    batch,
    rates,
    start,
)

import mindcv
from mindcv.config import OPTIONS, Config
from mindcv.engine import build_step as recipe
from mindcv.errors import ConfigError
from mindcv.optim import OPTIMIZERS as NAMES
from mindcv.optim import create_optimizer
from mindcv.optim.groups import layer_scales

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "optimizers.npz")
BATCHES = [tuple(map(Tensor, batch(step))) for step in range(STEPS)]


pytestmark = pytest.mark.usefixtures("pynative_mode")  # for speed


def make_parameters() -> list[Parameter]:
    return [Parameter(Tensor(value), name=name) for name, value in start().items()]


class SmallNet(nn.Cell):
    """The loss of small_net.py."""

    def __init__(self):
        super().__init__()
        self.weights = ms.ParameterTuple(make_parameters())

    def construct(self, x, target):
        stem, gamma, beta, scale, branch, head, bias = self.weights
        h = gamma * ops.matmul(x, stem.T) + beta
        h = h + scale * ops.square(ops.matmul(h, branch.T))
        return ops.square(ops.matmul(h, head.T) + bias - target).mean() * 0.5


def walk(label: str, steps: int = STEPS, loss_scale: float = 1.0, **options) -> list:
    """Return the weights, flattened into a row, after each step of KEPT."""
    case = {**OPTIMIZERS, **VARIANTS}[label]
    arguments = {name: value for name, value in case.items() if name != "peak"}
    network = SmallNet()
    optimizer = create_optimizer(
        network, lr=rates(case["peak"]), loss_scale=loss_scale, **arguments, **options
    )
    step = nn.TrainOneStepCell(network, optimizer, sens=loss_scale).set_train()
    kept = []
    for number in range(steps):
        step(*BATCHES[number])
        if number + 1 in KEPT:
            kept.append(np.concatenate([w.asnumpy().ravel() for w in network.weights]))
    return kept


def assert_equals_reference(kept: list[np.ndarray], key: str) -> None:
    """Rounding moves the reference itself by `gap`; ours adds up in another order."""
    for ours, expected, gap in zip(kept, GOLDEN[key], GOLDEN[f"{key}/gap"]):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=4 * gap)


SLOW_VARIANTS = [pytest.param(label, marks=pytest.mark.slow) for label in VARIANTS]


@pytest.mark.parametrize("label", [*OPTIMIZERS, *SLOW_VARIANTS])
def test_trajectory_with_weight_decay_equals_torch_and_timm(label):
    ms.set_context(mode=ms.GRAPH_MODE)
    kept = walk(label, weight_decay=WEIGHT_DECAY, weight_decay_filter="auto")
    assert len(kept) == 3
    assert_equals_reference(kept, f"{label}/auto")


# The loss scale of the others is tested below; rates of layers come from the frame of all of them.
LAYERED = [
    pytest.param(
        name, marks=() if name in ("sgd", "nadam", "lion", "rmsprop") else pytest.mark.slow
    )
    for name in OPTIMIZERS
]


@pytest.mark.parametrize("label", LAYERED)
def test_trajectory_with_layer_decay_and_loss_scale_equals_torch_and_timm(label):
    ms.set_context(mode=ms.GRAPH_MODE)
    kept = walk(label, loss_scale=128.0, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY)
    assert len(kept) == 3
    assert_equals_reference(kept, f"{label}/layers")


IN_PYNATIVE = [
    pytest.param(name, marks=() if name in ("momentum", "adamw") else pytest.mark.slow)
    for name in ("momentum", "adam", "adamw", "adan", "lamb")
]


@pytest.mark.parametrize("label", IN_PYNATIVE)
def test_ten_steps_in_pynative_mode_with_a_loss_scale_equal_torch_and_timm(label):
    kept = walk(label, 10, 128.0, weight_decay=WEIGHT_DECAY, weight_decay_filter="norm_and_bias")
    assert len(kept) == 2
    assert_equals_reference(kept, f"{label}/norm_and_bias")


@pytest.mark.parametrize("opt", NAMES)
@pytest.mark.parametrize("rule", EXEMPT)
def test_weight_decay_filter_exempts_exactly_these_names(opt, rule):
    optimizer = create_optimizer(
        make_parameters(), opt, weight_decay=WEIGHT_DECAY, weight_decay_filter=rule
    )
    decays = dict(zip([p.name for p in optimizer.parameters], decay_values(optimizer)))
    exempt = {name for name, decay in decays.items() if decay == 0.0}
    assert exempt == set(EXEMPT[rule])
    assert {d for n, d in decays.items() if n not in exempt} == {float(np.float32(WEIGHT_DECAY))}
    assert set(decays) == set(SHAPES)


def decay_values(optimizer) -> list[float]:
    return [float(value.asnumpy()) for value in optimizer.weight_decay]


def rate_values(optimizer) -> list[float]:
    """Return the present rate of each parameter."""
    rates = optimizer.get_lr()
    return [float(rate.asnumpy()) for rate in rates]


def test_filter_reads_the_names_and_shapes_of_a_network():
    net = nn.SequentialCell(nn.Conv2d(3, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.Dense(4, 2))
    optimizer = create_optimizer(net, "momentum", weight_decay=0.1, weight_decay_filter="auto")
    exempt = {
        p.name for p, decay in zip(optimizer.parameters, decay_values(optimizer)) if decay == 0.0
    }
    assert exempt == {"1.gamma", "1.beta"}
    assert len(optimizer.parameters) == 6  # not the moving statistics


class Listing(nn.SequentialCell):
    def no_weight_decay(self) -> set[str]:
        return {"1.weight"}


@pytest.mark.parametrize("options", [{"weight_decay_filter": "auto"}, {"layer_decay": 1.0}])
def test_a_network_lists_parameters_without_decay(options):
    network = Listing(nn.Conv2d(3, 4, 3), nn.Dense(4, 2))
    if "layer_decay" in options:
        network.layer_groups = lambda: [[network[0]], [network[1]]]
    optimizer = create_optimizer(network, "momentum", weight_decay=0.1, **options)
    decays = dict(zip([p.name for p in optimizer.parameters], decay_values(optimizer)))
    assert (decays["0.weight"], decays["1.weight"]) == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("rule", EXEMPT)
def test_parameters_keep_the_order_of_the_network_in_spite_of_the_groups(rule, layer_decay):
    """A training loop of one's own takes gradients of `net.trainable_params()`."""
    network = SmallNet()
    optimizer = create_optimizer(
        network, weight_decay=0.1, weight_decay_filter=rule, layer_decay=layer_decay
    )
    names = [p.name for p in network.trainable_params()]
    assert [p.name for p in optimizer.parameters] == names


def test_frozen_parameters_of_a_network_are_left_out():
    net = nn.SequentialCell(nn.Dense(4, 3), nn.Dense(3, 2))
    net[0].weight.requires_grad = False
    optimizer = create_optimizer(net, "adamw")
    assert [p.name for p in optimizer.parameters] == ["0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("opt", NAMES)
def test_groups_given_by_the_caller_keep_their_own_decay_and_rate(opt):
    parameters = make_parameters()[:3]
    groups = [
        {"params": parameters[:1], "weight_decay": 0.5, "lr": 0.125},
        {"params": parameters[1:]},
    ]
    optimizer = create_optimizer(
        groups, opt, lr=0.25, weight_decay=0.0625, weight_decay_filter="norm_and_bias"
    )
    assert decay_values(optimizer) == [0.5] + [0.0625] * (len(parameters) - 1)
    assert rate_values(optimizer) == [0.125] + [0.25] * (len(parameters) - 1)
    before = parameters[0].asnumpy().copy()
    optimizer(tuple(Tensor(np.zeros_like(p.asnumpy())) for p in parameters))
    gradient = 0.5 * before  # the decay's
    mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (step * 0.004)) for step in (1, 2))
    step = {
        "nesterov": 1.9 * gradient,
        "adam": np.sign(before),
        "nadam": np.sign(before) * (1 + 0.1 * mu_next / (1 - mu * mu_next)),
        "adan": gradient / (1 + 0.125 * 0.5),
        "lamb": before,  # the gradient, rescaled to the weight's norm
        "adagrad": gradient / np.sqrt(0.1 + gradient**2),
        "rmsprop": gradient / np.sqrt(0.9 + 0.1 * gradient**2),
    }.get(opt, gradient)
    np.testing.assert_allclose(parameters[0].asnumpy(), before - 0.125 * step, atol=1e-6)


@pytest.mark.parametrize("opt", ["momentum", "adamw"])
def test_a_single_rate_beside_a_list_of_rates_is_exact(opt):
    """MindSpore's own computes rate + 1.0 - 1.0, which is 2.98e-8 here."""
    parameters = make_parameters()
    groups = [{"params": parameters[:1], "lr": 3.3e-8}, {"params": parameters[1:]}]
    optimizer = create_optimizer(groups, opt, lr=[0.25, 0.5])
    assert rate_values(optimizer)[:2] == [float(np.float32(3.3e-8)), 0.25]


def test_lists_of_rates_of_different_length_are_refused():
    parameters = make_parameters()
    groups = [{"params": parameters[:1], "lr": [0.1] * 3}, {"params": parameters[1:]}]
    with pytest.raises(ValueError, match=r"\[2, 3\] steps"):
        create_optimizer(groups, lr=[0.25, 0.5])


def test_layers_of_a_regnet_have_the_rates_of_timm():
    network = mindcv.create_model("regnet_x_200mf")
    scales = layer_scales(network, 0.75)
    assert scales == layer_scales(list(network.get_parameters()), 0.75)  # by their names
    trainable = {p.name for p in network.trainable_params()}
    expected = dict(zip(GOLDEN["layer_names"].tolist(), GOLDEN["layer_scales"].tolist()))
    assert {n: s for n, s in scales.items() if n in trainable} == pytest.approx(expected)
    assert len(set(expected.values())) == 15  # stem, 13 blocks, head
    # The layers are counted before any is frozen.
    for parameter in network.stem.trainable_params():
        parameter.requires_grad = False
    optimizer = create_optimizer(network, "lion", lr=2.0, layer_decay=0.75)
    names = [p.name for p in optimizer.parameters]
    assert dict(zip(names, rate_values(optimizer))) == pytest.approx(
        {n: 2 * s for n, s in expected.items() if not n.startswith("stem.")}
    )


def test_the_last_layer_of_a_network_without_a_head_has_the_full_rate():
    network = mindcv.create_model("regnet_x_200mf", num_classes=0)
    scales = layer_scales(network, 0.75)
    assert max(scales.values()) == 1.0
    assert scales == layer_scales(list(network.get_parameters()), 0.75)


def test_layer_decay_keeps_one_list_of_rates_for_all_layers():
    optimizer = create_optimizer(SmallNet(), "adamw", lr=rates(0.1), layer_decay=0.5)
    lists = [p for p in optimizer.get_parameters() if p.shape == (STEPS,)]
    assert [p.name for p in lists] == ["learning_rate"]


def test_layer_decay_of_a_network_without_layers_is_a_config_error():
    with pytest.raises(ConfigError, match="stages.N.blocks.N.*weight"):
        create_optimizer(nn.Dense(4, 3), layer_decay=0.5)
    with pytest.raises(ValueError, match="layer_decay and parameter groups"):
        create_optimizer([{"params": make_parameters()}], layer_decay=0.5)


@pytest.mark.parametrize("opt", ["adam", "adamw"])
def test_adam_divides_by_eps_after_the_bias_correction(opt):
    """With gradients far below eps the first step is lr * gradient / eps."""
    weight = Parameter(Tensor(np.zeros(3, np.float32)), name="weight")
    optimizer = create_optimizer([weight], opt, lr=0.1, eps=1e-3)
    tiny = np.array([1e-7, -2e-7, 5e-8], np.float32)
    optimizer((Tensor(tiny),))
    np.testing.assert_allclose(weight.asnumpy(), -0.1 * tiny / 1e-3, rtol=1e-3)


@pytest.mark.parametrize("opt", ["adamw", "rmsprop"])
def test_fused_kernels_update_every_element_of_a_large_weight(opt):
    """Kernels divide a weight among threads and into vectors, with a rest at the end of each."""
    rng, size, eps, lr, decay = np.random.default_rng(5), 200_003, 1e-3, 0.01, 0.1
    start, gradient = rng.normal(0, 1, (2, size))
    weight = Parameter(Tensor(start.astype(np.float32)), name="weight")
    optimizer = create_optimizer([weight], opt, lr=lr, eps=eps, weight_decay=decay)
    optimizer((Tensor(gradient.astype(np.float32)),))
    if opt == "adamw":
        expected = start * (1 - lr * decay) - lr * gradient / (np.abs(gradient) + eps)
    else:
        total = gradient + decay * start
        expected = start - lr * total / np.sqrt(0.9 + 0.1 * total**2 + eps)
    np.testing.assert_allclose(weight.asnumpy(), expected, rtol=0, atol=1e-6)


def test_lamb_moves_a_weight_of_zero():
    weight = Parameter(Tensor(np.zeros(3, np.float32)), name="weight")
    optimizer = create_optimizer([weight], "lamb", lr=0.1, weight_decay=0.1)
    optimizer((Tensor(np.array([1.0, -2.0, 0.0], np.float32)),))
    np.testing.assert_allclose(weight.asnumpy(), [-0.1, 0.1, 0.0], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(opt="lars"), ["'lars'", *NAMES]),
        (dict(opt="lion", nesterov=True), ["Nesterov", "lion"]),
        (dict(model_or_params=[]), ["no parameters", "trainable_params()"]),
        (dict(weight_decay_filter="norm"), ["'norm'", "disable", "auto", "norm_and_bias"]),
    ],
)
def test_unknown_or_contradicting_names_are_value_errors(arguments, words):
    with pytest.raises(ValueError) as error:
        create_optimizer(**{"model_or_params": make_parameters(), **arguments})
    for word in words:
        assert word in str(error.value)


def test_a_group_setting_without_effect_is_a_warning(caplog):
    create_optimizer([{"params": make_parameters(), "grad_centralization": True}], "lion")
    assert "Lion does not centralize gradients" in caplog.text


@pytest.mark.parametrize("opt", NAMES)
def test_train_takes_the_optimizer_of_the_config(opt):
    expected = create_optimizer(SmallNet(), opt, lr=rates(0.1))
    optimizer = recipe.build_optimizer(Config(opt=opt), SmallNet(), rates(0.1))
    assert type(optimizer) is type(expected)
    names = [p.name for p in expected.get_parameters()]
    assert [p.name for p in optimizer.get_parameters()] == names


def test_train_gives_the_optimizer_the_numbers_of_the_config():
    config = Config(
        opt="rmsprop",
        momentum=0.25,
        weight_decay=0.5,
        weight_decay_filter="norm_and_bias",
        layer_decay=0.5,
        eps=0.125,
    )
    optimizer = recipe.build_optimizer(config, SmallNet(), [2.0, 1.0])
    assert (optimizer.momentum.asnumpy(), optimizer.eps.asnumpy()) == (0.25, 0.125)
    assert decay_values(optimizer) == [0.0 if n in EXEMPT["norm_and_bias"] else 0.5 for n in SHAPES]
    assert rate_values(optimizer) == [0.5] * 3 + [1.0] * 2 + [2.0] * 2
    assert recipe.build_optimizer(Config(opt="sgd", use_nesterov=True), SmallNet(), [1.0]).nesterov


def test_the_config_offers_every_optimizer():
    assert OPTIONS["opt"].metadata["choices"] == tuple(NAMES)
