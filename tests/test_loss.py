"""Cross entropy: values and gradients of torch in float64, made by make_losses.py."""

import itertools
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindcv.loss import create_loss

GOLDEN = np.load(Path(__file__).parent / "golden" / "losses.npz")
CASES = list(
    itertools.product(
        ("logits", "large", "half"),
        ("labels", "soft"),
        (False, True),
        ("mean", "sum", "none"),
        (0.0, 0.1),
    )
)


@pytest.fixture(autouse=True)
def graph_mode_afterwards():
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    return request.param


def given(name: str) -> Tensor:
    return Tensor(GOLDEN[name])


def loss_and_gradient(loss, logits, labels):
    """Return the loss and the gradient of its sum; rows are weighted where it is a vector."""

    def scalar(logits):
        rows = loss(logits, labels)
        return (rows * given("upstream")).sum() if rows.ndim else rows

    return loss(logits, labels).asnumpy(), ms.grad(scalar)(logits).asnumpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_value_and_gradient_equal_torch(case):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    logits, target, weighted, reduction, smoothing = case
    weight = given("weight") if weighted else None
    loss = create_loss("CE", weight, reduction, smoothing)
    value, gradient = loss_and_gradient(loss, given(logits), given(target))
    name = "/".join(map(str, case))
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, GOLDEN[f"{name}/loss"], rtol=2e-6, atol=2e-6)
    # The gradient returns through the cast, in the type of the logits.
    atol = 1e-3 if logits == "half" else 1e-6
    np.testing.assert_allclose(gradient, GOLDEN[f"{name}/gradient"], rtol=1e-5 + atol, atol=atol)


@pytest.mark.parametrize("target", ["labels", "soft"])
def test_graph_and_pynative_mode_equal_torch(mode, target):
    loss = create_loss("CE", given("weight"), "mean", 0.1)
    value = loss(given("logits"), given(target)).asnumpy()
    expected = GOLDEN[f"logits/{target}/True/mean/0.1/loss"]
    np.testing.assert_allclose(value, expected, rtol=2e-6)


def test_certain_prediction_has_a_loss_of_zero_and_a_wrong_one_its_margin():
    logits = Tensor(np.array([[200.0, 0.0, -200.0]], np.float32))
    loss = create_loss("CE")
    assert loss(logits, Tensor([0], ms.int32)).asnumpy() == 0.0
    assert loss(logits, Tensor([2], ms.int32)).asnumpy() == 400.0


def test_float16_logits_beyond_its_exponent_range_give_a_finite_loss():
    """The row's exponentials overflow float16, whose largest number is 65504."""
    logits = Tensor(np.full((2, 1000), 11.0, np.float16))
    value = create_loss("CE", label_smoothing=0.1)(logits, Tensor([3, 4], ms.int32)).asnumpy()
    assert value == pytest.approx(np.log(1000), rel=1e-6)


@pytest.mark.parametrize("target", ["labels", "soft"])
def test_auxiliary_logits_are_added_with_their_factor(mode, target):
    loss = create_loss("CE", aux_factor=0.3)
    plain = create_loss("CE")
    main, auxiliary, labels = given("logits"), given("auxiliary"), given(target)
    value = loss((main, auxiliary, auxiliary), labels).asnumpy()
    single = plain(auxiliary, labels).asnumpy()
    np.testing.assert_allclose(value, plain(main, labels).asnumpy() + 0.6 * single, rtol=1e-6)


def test_auxiliary_logits_without_a_factor_change_nothing(mode):
    main, auxiliary, labels = given("logits"), given("auxiliary"), given("labels")
    value = create_loss("CE")((main, auxiliary), labels).asnumpy()
    assert value == create_loss("CE")(main, labels).asnumpy()


def test_one_hot_targets_equal_indices():
    one_hot = Tensor(np.eye(5, dtype=np.float32)[GOLDEN["labels"]])
    for smoothing in (0.0, 0.2):
        loss = create_loss("CE", label_smoothing=smoothing)
        hard = loss(given("logits"), given("labels")).asnumpy()
        assert loss(given("logits"), one_hot).asnumpy() == pytest.approx(hard, rel=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(name="BCE"), ["'BCE'", "CE"]),
        (dict(reduction="average"), ["'average'", "mean", "sum", "none"]),
    ],
)
def test_unknown_name_or_reduction_is_a_value_error(arguments, words):
    with pytest.raises(ValueError) as error:
        create_loss(**arguments)
    for word in words:
        assert word in str(error.value)


def test_name_is_case_insensitive():
    assert type(create_loss("ce")) is type(create_loss("CE"))
