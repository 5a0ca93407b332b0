"""Optimizers in MindSpore's `Model`, and from a saved state."""

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from small_net import rates, start

from mindcv.errors import ConfigError
from mindcv.loss import create_loss
from mindcv.optim import OPTIMIZERS, create_optimizer

pytestmark = pytest.mark.usefixtures("pynative_mode")  # for speed


def make_parameters() -> list[Parameter]:
    return [Parameter(Tensor(value), name=name) for name, value in start().items()]


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


def test_an_optimizer_of_our_own_trains_inside_a_model():
    ms.set_context(mode=ms.GRAPH_MODE)
    net = tiny_net()
    optimizer = create_optimizer(net, "adan", lr=0.05, weight_decay=0.01, loss_scale=128.0)
    scale = ms.FixedLossScaleManager(128.0, drop_overflow_update=False)
    model = ms.Model(net, create_loss(), optimizer, amp_level="O2", loss_scale_manager=scale)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    before = float(create_loss()(net(first_images()), first_labels()).asnumpy())
    ms.set_context(mode=ms.GRAPH_MODE)
    data = ds.GeneratorDataset(lambda: batches(12), ["image", "label"], shuffle=False)
    model.train(2, data, dataset_sink_mode=False)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    after = float(create_loss()(net(first_images()), first_labels()).asnumpy())
    assert int(optimizer.global_step.asnumpy()[0]) == 24
    assert after < 0.8 * before


def first_images() -> Tensor:
    return Tensor(next(batches(1))[0])


def first_labels() -> Tensor:
    return Tensor(next(batches(1))[1])


@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_a_run_goes_on_from_its_saved_state_to_the_last_bit(opt, tmp_path):
    parameters = make_parameters()[:2]
    first = create_optimizer(parameters, opt, lr=rates(0.01), weight_decay=0.1)
    apply(first, parameters, range(3))
    names = [p.name for p in first.get_parameters()]
    assert len(set(names)) == len(names)
    path = str(tmp_path / "state.ckpt")
    ms.save_checkpoint(first, path)
    copies = [Parameter(p.asnumpy(), name=p.name) for p in parameters]
    second = create_optimizer(copies, opt, lr=rates(0.01), weight_decay=0.1, checkpoint_path=path)
    for one, other in zip(first.get_parameters(), second.get_parameters(), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())
    apply(first, parameters, range(3, 5))
    apply(second, copies, range(3, 5))
    for one, other in zip(parameters, copies):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


def apply(optimizer, parameters, steps) -> None:
    for step in steps:
        rng = np.random.default_rng(step)
        optimizer(tuple(Tensor(rng.normal(0, 1, p.shape).astype(np.float32)) for p in parameters))


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("lr", [0.002, [0.1, 0.2, 0.3, 0.004, 0.5, 0.6, 0.7]])
def test_a_saved_state_leaves_the_callers_rates_and_their_position(lr, layer_decay, tmp_path):
    shared = {"layer_decay": layer_decay}
    names = ("stages.0.blocks.0.weight", "head.weight")
    given = [Parameter(Tensor([1.0]), name=name) for name in names]
    first = create_optimizer(given, "sgd", lr=rates(0.5) if isinstance(lr, list) else 0.5, **shared)
    for _ in range(3):
        first((Tensor([0.0]), Tensor([0.0])))
    path = str(tmp_path / "state.ckpt")
    ms.save_checkpoint(first, path)
    copies = [Parameter(Tensor([5.0]), name=name) for name in names]
    second = create_optimizer(copies, "sgd", lr=lr, momentum=0.0, checkpoint_path=path, **shared)
    second((Tensor([1.0]), Tensor([1.0])))
    rate = lr[3] if isinstance(lr, list) else lr
    expected = [1 - (layer_decay or 1) * rate, 1 - rate]  # the weights are the file's
    np.testing.assert_allclose([float(p.asnumpy()[0]) for p in copies], expected, atol=1e-6)


def test_optimizer_state_of_another_optimizer_is_refused(tmp_path):
    path = str(tmp_path / "state.ckpt")
    ms.save_checkpoint(create_optimizer(make_parameters(), "momentum"), path)
    with pytest.raises(ConfigError, match="no entry for"):
        create_optimizer(make_parameters(), "adamw", checkpoint_path=path)
    with pytest.raises(ConfigError, match="missing.ckpt"):
        create_optimizer(make_parameters(), "adamw", checkpoint_path=str(tmp_path / "missing.ckpt"))
