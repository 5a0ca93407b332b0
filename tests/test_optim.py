"""Optimizers: 60-step trajectories of torch in float64, made by make_optimizers.py."""

import sys
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from mindcv.errors import ConfigError
from mindcv.loss import create_loss
from mindcv.optim import create_optimizer

sys.path.insert(0, str(Path(__file__).parent / "golden"))
from quadratic import (  # noqa: E402
    CASES,
    EXEMPT,
    SHAPES,
    STEPS,
    WEIGHT_DECAY,
    gradient,
    rates,
    start,
)

GOLDEN = np.load(Path(__file__).parent / "golden" / "optimizers.npz")


@pytest.fixture(autouse=True)
def graph_mode_afterwards():
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def make_parameters() -> list[Parameter]:
    return [Parameter(Tensor(value), name=name) for name, value in start().items()]


def walk(optimizer, parameters, steps=STEPS, loss_scale=1.0) -> dict[int, np.ndarray]:
    """Run the steps; return the weights after 1, 10 and 60 of them, flattened into one vector."""
    kept = {}
    for step in range(steps):
        gradients = [gradient(p.name, p.asnumpy(), step) for p in parameters]
        optimizer(tuple(Tensor(g * np.float32(loss_scale)) for g in gradients))
        if step + 1 in (1, 10, STEPS):
            kept[step + 1] = np.concatenate([p.asnumpy().ravel() for p in parameters])
    return kept


def assert_equals_torch(kept: dict[int, np.ndarray], key: str) -> None:
    for step, weights in kept.items():
        np.testing.assert_allclose(weights, GOLDEN[f"{key}/{step}"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("rule", EXEMPT)
@pytest.mark.parametrize("label", CASES)
def test_trajectory_with_weight_decay_equals_torch(label, rule):
    ms.set_context(mode=ms.GRAPH_MODE)
    parameters = make_parameters()
    optimizer = create_optimizer(
        parameters, lr=rates(), weight_decay=WEIGHT_DECAY, weight_decay_filter=rule, **CASES[label]
    )
    assert_equals_torch(walk(optimizer, parameters), f"{label}/{rule}")


@pytest.mark.parametrize("label", CASES)
def test_trajectory_without_weight_decay_equals_torch(label):
    ms.set_context(mode=ms.GRAPH_MODE)
    parameters = make_parameters()
    optimizer = create_optimizer(parameters, lr=rates(), **CASES[label])
    kept = walk(optimizer, parameters)
    assert_equals_torch({STEPS: kept[STEPS]}, f"{label}/no decay")


@pytest.mark.parametrize("label", ["nesterov", "momentum", "adam", "adamw"])
def test_trajectory_in_pynative_mode_equals_torch(label):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    parameters = make_parameters()
    optimizer = create_optimizer(
        parameters,
        lr=rates(),
        weight_decay=WEIGHT_DECAY,
        weight_decay_filter="auto",
        **CASES[label],
    )
    assert_equals_torch(walk(optimizer, parameters), f"{label}/auto")


@pytest.mark.parametrize("rule", ["disable", "auto"])
@pytest.mark.parametrize("label", ["sgd", "nesterov", "momentum", "adam", "adamw"])
def test_scaled_gradients_with_loss_scale_give_the_same_trajectory(label, rule):
    ms.set_context(mode=ms.GRAPH_MODE)
    parameters = make_parameters()
    optimizer = create_optimizer(
        parameters,
        lr=rates(),
        weight_decay=WEIGHT_DECAY,
        weight_decay_filter=rule,
        loss_scale=128.0,
        **CASES[label],
    )
    assert_equals_torch(walk(optimizer, parameters, loss_scale=128.0), f"{label}/{rule}")


@pytest.mark.parametrize("opt", ["sgd", "momentum", "nesterov", "adam", "adamw"])
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


def test_filter_reads_the_names_and_shapes_of_a_network():
    net = nn.SequentialCell(nn.Conv2d(3, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.Dense(4, 2))
    optimizer = create_optimizer(net, "momentum", weight_decay=0.1, weight_decay_filter="auto")
    exempt = {
        p.name for p, decay in zip(optimizer.parameters, decay_values(optimizer)) if decay == 0.0
    }
    assert exempt == {"0.bias", "1.gamma", "1.beta", "2.bias"}
    assert len(optimizer.parameters) == 6  # not the moving statistics


def test_parameters_keep_the_order_of_the_network_in_spite_of_the_filter():
    """A training loop of one's own takes gradients of `net.trainable_params()`."""
    net = tiny_net()
    for rule in EXEMPT:
        optimizer = create_optimizer(net, weight_decay=0.1, weight_decay_filter=rule)
        names = [p.name for p in net.trainable_params()]
        assert [p.name for p in optimizer.parameters] == names


def test_frozen_parameters_of_a_network_are_left_out():
    net = nn.SequentialCell(nn.Dense(4, 3), nn.Dense(3, 2))
    net[0].weight.requires_grad = False
    optimizer = create_optimizer(net, "adamw")
    assert [p.name for p in optimizer.parameters] == ["0.bias", "1.weight", "1.bias"]


def test_groups_given_by_the_caller_keep_their_own_decay_and_rate():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    for opt in ("sgd", "momentum", "adam", "adamw"):
        parameters = make_parameters()
        groups = [
            {"params": parameters[:1], "weight_decay": 0.5, "lr": 0.125},
            {"params": parameters[1:]},
        ]
        optimizer = create_optimizer(
            groups, opt, lr=0.25, weight_decay=0.0625, weight_decay_filter="norm_and_bias"
        )
        assert decay_values(optimizer) == [0.5] + [0.0625] * (len(parameters) - 1)
        lr_values = [float(p.asnumpy()) for p in optimizer.learning_rate]
        assert lr_values == [0.125] + [0.25] * (len(parameters) - 1)
        before = parameters[0].asnumpy().copy()
        optimizer(tuple(Tensor(np.zeros_like(p.asnumpy())) for p in parameters))
        if opt in ("sgd", "momentum", "adamw"):
            expected = before * (1 - 0.125 * 0.5)
            np.testing.assert_allclose(parameters[0].asnumpy(), expected, rtol=1e-6)


def test_adamw_divides_by_eps_after_the_bias_correction():
    """With gradients far below eps the first step is lr * gradient / eps."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    weight = Parameter(Tensor(np.zeros(3, np.float32)), name="weight")
    optimizer = create_optimizer([weight], "adamw", lr=0.1, eps=1e-3)
    tiny = np.array([1e-7, -2e-7, 5e-8], np.float32)
    optimizer((Tensor(tiny),))
    np.testing.assert_allclose(weight.asnumpy(), -0.1 * tiny / 1e-3, rtol=1e-3)


class TinyNet(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, has_bias=True)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Dense(4, 3)

    def construct(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def tiny_net() -> TinyNet:
    net, rng = TinyNet(), np.random.default_rng(0)
    for p in net.trainable_params():
        p.set_data(Tensor(rng.uniform(-0.4, 0.4, p.shape).astype(np.float32)))
    return net


def batches(count: int):
    rng = np.random.default_rng(3)
    for _ in range(count):
        label = rng.integers(0, 3, 8)
        image = rng.normal(0, 0.3, (8, 3, 6, 6)) + np.eye(3)[label][..., None, None]
        yield image.astype(np.float32), label.astype(np.int32)


@pytest.mark.parametrize("opt", ["sgd", "nesterov", "momentum", "adam", "adamw"])
def test_train_one_step_cell_lowers_the_loss_alike_in_both_modes(opt):
    losses = {}
    rate = [0.02 if opt.startswith("adam") else 0.3]
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        net = tiny_net()
        optimizer = create_optimizer(
            net, opt, lr=rate * 20, weight_decay=0.01, weight_decay_filter="auto"
        )
        step = nn.TrainOneStepCell(nn.WithLossCell(net, create_loss()), optimizer).set_train()
        losses[mode] = [float(step(Tensor(x), Tensor(y)).asnumpy()) for x, y in batches(20)]
    np.testing.assert_allclose(losses[ms.GRAPH_MODE], losses[ms.PYNATIVE_MODE], rtol=1e-4)
    assert np.mean(losses[ms.GRAPH_MODE][-5:]) < 0.8 * np.mean(losses[ms.GRAPH_MODE][:5])


@pytest.mark.parametrize("mode, level", [(ms.GRAPH_MODE, "O2"), (ms.PYNATIVE_MODE, "O0")])
def test_adamw_trains_inside_a_model(mode, level):
    ms.set_context(mode=mode)
    net = tiny_net()
    optimizer = create_optimizer(net, "adamw", lr=0.05, weight_decay=0.01, loss_scale=128.0)
    scale = ms.FixedLossScaleManager(128.0, drop_overflow_update=False)
    model = ms.Model(net, create_loss(), optimizer, amp_level=level, loss_scale_manager=scale)
    before = float(create_loss()(net(first_images()), first_labels()).asnumpy())
    data = ds.GeneratorDataset(lambda: batches(12), ["image", "label"], shuffle=False)
    model.train(2, data, dataset_sink_mode=False)
    after = float(create_loss()(net(first_images()), first_labels()).asnumpy())
    assert int(optimizer.global_step.asnumpy()[0]) == 24
    assert after < 0.8 * before


def first_images() -> Tensor:
    return Tensor(next(batches(1))[0])


def first_labels() -> Tensor:
    return Tensor(next(batches(1))[1])


def test_optimizer_state_is_restored_from_a_checkpoint(tmp_path):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    parameters = make_parameters()
    first = create_optimizer(parameters, "adamw", lr=rates())
    walk(first, parameters, steps=5)
    path = str(tmp_path / "state.ckpt")
    ms.save_checkpoint(first, path)
    parameters = make_parameters()
    second = create_optimizer(parameters, "adamw", lr=rates(), checkpoint_path=path)
    for one, other in zip(first.get_parameters(), second.get_parameters()):
        assert one.name == other.name
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def test_optimizer_state_of_another_optimizer_is_refused(tmp_path):
    path = str(tmp_path / "state.ckpt")
    ms.save_checkpoint(create_optimizer(make_parameters(), "momentum"), path)
    with pytest.raises(ConfigError, match="lacks"):
        create_optimizer(make_parameters(), "adamw", checkpoint_path=path)
    with pytest.raises(ConfigError, match="missing.ckpt"):
        create_optimizer(make_parameters(), "adamw", checkpoint_path=str(tmp_path / "missing.ckpt"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(opt="lion"), ["'lion'", "sgd", "adamw"]),
        (dict(opt="SGD"), ["'SGD'", "sgd"]),
        (dict(weight_decay_filter="norm"), ["'norm'", "disable", "auto", "norm_and_bias"]),
        (dict(layer_decay=0.7), ["layer_decay 0.7"]),
    ],
)
def test_unknown_name_is_a_value_error_that_lists_the_known_ones(arguments, words):
    with pytest.raises(ValueError) as error:
        create_optimizer(make_parameters(), **arguments)
    for word in words:
        assert word in str(error.value)
