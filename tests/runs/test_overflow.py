"""Overflow in values, as most chips show it, and in a status register, as the first 910 does."""

import inspect

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from mindcv import create_loss, create_optimizer, engine
from mindcv.engine.nonfinite import OverflowCheck

LIMIT = 1e4  # what the saturating chip below can compute


class Register(nn.Cell):
    """The status register of a made-up chip, and MindSpore's question to it, which clears it."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.status = Parameter(Tensor(0.0, ms.float32), name="status", requires_grad=False)

    def saturate(self, x):
        """Return what the chip computes in place of x."""
        over = ops.cast(ops.abs(x).max() > LIMIT, ms.float32)
        x = ops.depend(x, ops.assign(self.status, ops.maximum(self.status, over)))
        return ops.clamp(x, -LIMIT, LIMIT)

    def construct(self, values):
        status = ops.depend(self.status, values) * 1.0
        cleared = ops.assign(self.status, ops.depend(Tensor(0.0, ms.float32), status))
        return ops.depend(ops.equal(status, 0.0), cleared)


class Net(nn.Cell):
    """A network on the made-up chip, or on one whose values overflow."""

    def __init__(self, register: Register | None):
        super().__init__()
        self.register = register
        self.conv = nn.Conv2d(3, 4, 3, stride=4, pad_mode="same", weight_init="ones")
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Dense(4, 5, "ones", "zeros")

    def construct(self, x):
        x = self.conv(x)
        if self.register is not None:
            x = self.register.saturate(x)
        else:
            x = x / (1.0 - ops.cast(ops.abs(x) > LIMIT, ms.float32))  # infinite
        return self.fc(ops.relu(self.bn(x)).mean((2, 3)))


@pytest.fixture(params=["values", "register"])
def chip(request) -> str:
    return request.param


def build(chip: str, **options) -> engine.TrainStep:
    register = Register() if chip == "register" else None
    network = Net(register)
    optimizer = create_optimizer(network, "momentum", lr=0.1, momentum=0.9)
    step = engine.TrainStep(network, create_loss(), optimizer, **options)
    if register is not None:
        step.overflow.all_finite = register
    return step


def batch(pixel: float = 0.0) -> tuple[Tensor, Tensor]:
    images = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    images[1, 0, 4, 4] += pixel
    return Tensor(images), Tensor([0, 1, 2, 3], ms.int32)


TOO_LARGE = 10 * LIMIT


def state(step) -> dict[str, np.ndarray]:
    parameters = [*step.network.get_parameters(), *step.own_state]
    return {p.name: p.asnumpy().copy() for p in parameters if p.name != "status"}


def changed(before: dict, step) -> list[str]:
    after = state(step)
    return [name for name in before if before[name].tobytes() != after[name].tobytes()]


def test_an_overflow_is_skipped_and_nothing_else_is(mode, chip):
    step = build(chip, skip_overflow=True)
    plain = build(chip, skip_overflow=True)
    for pixel in (0.0, TOO_LARGE, TOO_LARGE, 0.0):
        before = state(step)
        loss, applied = step(*batch(pixel))
        assert bool(applied.asnumpy()) == (pixel == 0.0)
        assert pixel == 0.0 or changed(before, step) == []
        assert np.isfinite(loss.asnumpy()) or chip == "values"
    for _ in range(2):
        plain(*batch())
    assert changed(state(plain), step) == []


def test_what_overflowed_before_the_step_does_not_count(mode):
    """An evaluation between two epochs, or the update of the step before."""
    step = build("register", skip_overflow=True)
    register = step.network.register
    for _ in range(2):
        register.saturate(Tensor([TOO_LARGE], ms.float32))
        register.status.set_data(Tensor(1.0, ms.float32))
        _, applied = step(*batch())
        assert bool(applied.asnumpy()) and register.status.asnumpy() == 0.0


def test_a_dynamic_scale_falls_and_an_update_of_two_batches_is_skipped_whole(chip):
    ms.set_context(mode=ms.GRAPH_MODE)
    step = build(chip, dynamic=True, loss_scale=8.0, accumulation=2)
    start = state(step)
    pixels = [(TOO_LARGE, 0.0), (0.0, TOO_LARGE), (0.0, 0.0)]
    done = [[bool(step(*batch(pixel))[1].asnumpy()) for pixel in pair] for pair in pixels[:2]]
    assert done == [[True, False], [True, False]]
    assert float(step.scaler.scale_value.asnumpy()) == 2.0
    assert not [name for name in changed(start, step) if not name.startswith(("accum", "bn.mov"))]
    assert all(np.isfinite(values).all() for values in state(step).values())
    assert all(bool(step(*batch(pixel))[1].asnumpy()) for pixel in pixels[2])
    assert "fc.weight" in changed(start, step)


class Others:
    """What the other processes add to this one's flag."""

    def __init__(self, flags: float):
        self.flags, self.own = flags, []

    def __call__(self, flag):
        self.own.append(float(flag.asnumpy()))
        return flag + self.flags


@pytest.mark.parametrize("bad_others", [0.0, 1.0, 7.0])
def test_all_processes_skip_where_one_overflows_by_flags_of_0_and_1(chip, bad_others):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    step = build(chip, skip_overflow=True)
    step.overflow.all_reduce = others = Others(bad_others)
    before = state(step)
    for pixel, bad in ((0.0, bad_others > 0), (TOO_LARGE, True)):
        loss, applied = step(*batch(pixel))
        assert bool(applied.asnumpy()) == (not bad)
        assert pixel or np.isfinite(loss.asnumpy())
    assert others.own == [0.0, 1.0]
    assert (changed(before, step) == []) == (bad_others > 0)


def test_an_empty_group_of_values_is_finite():
    check = OverflowCheck()
    assert bool(check(Tensor(1.0), (), (Tensor([1.0]),)).asnumpy())
    assert not bool(check(Tensor(1.0), (), (Tensor([float("inf")]),)).asnumpy())
    assert not bool(check(Tensor(float("nan")), ()).asnumpy())


def test_mindspores_check_reads_the_status_of_an_ascend_910_and_clears_it():
    """`OverflowCheck.begin` depends on the second; this cannot run here, so it is read."""
    source = inspect.getsource(ms.amp)
    body = source[source.index("def _all_finite(") : source.index("def all_finite(")]
    assert "_ascend_910a_target()" in body
    assert 0 < body.index("NPUGetFloatStatus") < body.index("NPUClearFloatStatus")
