"""Losses: values and gradients of torch and timm in float64, made by make_losses.py."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from loss_cases import CLASSES, SPLITS, Case, cases
from mindspore import Tensor

from mindcv.config import OPTIONS, Config
from mindcv.engine import build_step as recipe
from mindcv.loss import LOSSES, AsymmetricLossMultilabel, AsymmetricLossSingleLabel, create_loss

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "losses.npz")
EXPECTED = dict(zip(cases(), np.split(GOLDEN["values"], np.cumsum(GOLDEN["lengths"])[:-1])))


pytestmark = pytest.mark.usefixtures("pynative_mode")  # for speed


def given(name: str) -> Tensor:
    return Tensor(GOLDEN[name])


def build(case: Case):
    weight = given(case.weight) if case.weight else None
    if case.loss == "asl_multi_label":
        return AsymmetricLossMultilabel(
            weight=weight, reduction=case.reduction, smoothing=case.smoothing
        )
    return create_loss(
        case.loss,
        weight,
        case.reduction,
        case.smoothing,
        bce_target_thresh=case.threshold,
        num_splits=SPLITS,
    ).set_train()


def loss_and_gradient(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss and the gradient of its sum, weighted by `upstream` where it is no scalar."""
    loss, logits = build(case), given(case.logits)
    labels = given(case.labels)[: len(logits)]
    upstream = given("upstream")

    def weighted_sum(logits):
        losses = loss(logits, labels)
        if losses.ndim == 0:
            return losses, losses
        weights = upstream if losses.ndim == 2 else upstream[: len(losses), 0]
        return (losses * weights).sum(), losses

    (_, losses), gradient = ms.value_and_grad(weighted_sum, 0, has_aux=True)(logits)
    return losses.asnumpy(), gradient.asnumpy()


def assert_equals_reference(case: Case) -> None:
    value, gradient = loss_and_gradient(case)
    expected = EXPECTED[case]
    assert value.dtype == np.float32
    assert value.size + gradient.size == expected.size
    assert_close(value.ravel(), expected[: value.size])
    # The gradient returns through the cast, in the type of the logits.
    rounding = 1e-3 if gradient.dtype == np.float16 else 1e-6
    assert_close(gradient.ravel(), expected[value.size :], rounding)


def assert_close(values, expected, rtol=1e-6):
    """1e-6 of the largest one; of 1 for losses near 0, the logarithms of a p near 1."""
    scale = max(np.abs(expected).max(), 1.0 if rtol == 1e-6 else 0.0)
    np.testing.assert_allclose(values, expected, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("case", EXPECTED, ids=str)
def test_value_and_gradient_equal_torch_and_timm(case):
    assert_equals_reference(case)


@pytest.mark.parametrize("name", LOSSES)
def test_graph_mode_equals_torch_and_timm(name):
    ms.set_context(mode=ms.GRAPH_MODE)
    labels = "index" if name in ("CE", "jsd", "asl_single_label") else "soft"
    weight = "" if name == "asl_single_label" else "weight"
    assert_equals_reference(Case(name, "logits", labels, weight, "none", 0.1))


def test_the_binary_threshold_works_in_graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    assert_equals_reference(Case("BCE", "logits", "soft", "", "sum", 0.6, threshold=0.2))


def test_certain_prediction_has_a_loss_of_zero_and_a_wrong_one_its_margin():
    logits = Tensor(np.array([[200.0, 0.0, -200.0]], np.float32))
    loss = create_loss("CE")
    assert loss(logits, Tensor([0], ms.int32)).asnumpy() == 0.0
    assert loss(logits, Tensor([2], ms.int32)).asnumpy() == 400.0


@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE])
@pytest.mark.parametrize("name", ["CE", "BCE", "asl_multi_label"])
def test_a_column_of_class_numbers_is_refused_instead_of_paired_with_every_class(name, mode):
    ms.set_context(mode=mode)
    logits = Tensor(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="no soft ones"):
        create_loss(name)(logits, Tensor([[1], [2]], ms.int32))


@pytest.mark.parametrize("name", ["CE", "jsd"])
def test_float16_logits_beyond_its_exponent_range_give_a_finite_loss(name):
    """The row's exponentials overflow float16, whose largest number is 65504."""
    logits = Tensor(np.full((2, 1000), 11.0, np.float16))
    loss = create_loss(name, label_smoothing=0.1, num_splits=2)
    assert loss(logits, Tensor([3, 4], ms.int32)).asnumpy() == pytest.approx(np.log(1000), rel=1e-6)


@pytest.mark.parametrize("name", ["BCE", "asl_multi_label"])
def test_an_element_has_the_same_bits_wherever_it_stands(name):
    """Which part of a tensor a thread computes, MindSpore finds out by measuring times."""
    loss = build(Case(name, reduction="none"))
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (120, 9)).astype(np.float32)
    labels = rng.uniform(0, 1, (120, 9)).astype(np.float32)
    whole = loss(Tensor(logits), Tensor(labels)).asnumpy()
    for cut in (1, 3, 37, 119):
        parts = [
            loss(Tensor(logits[rows]), Tensor(labels[rows])).asnumpy()
            for rows in (slice(cut), slice(cut, None))
        ]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def jsd(**options):
    return create_loss("jsd", **{"num_splits": SPLITS, **options}).set_train()


def test_outside_of_training_jsd_is_the_cross_entropy_of_all_images():
    loss, labels = jsd(label_smoothing=0.1), given("index")
    expected = create_loss("CE", label_smoothing=0.1)(given("logits"), labels).asnumpy()
    assert loss(given("logits"), labels).asnumpy() != expected
    assert loss.set_train(False)(given("logits"), labels).asnumpy() == expected


@pytest.mark.parametrize("weight", ["", "weight"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_image_of_label_minus_100_does_not_count(weight, smoothing):
    """As in torch and MindSpore; its gradient is 0."""
    loss = build(Case("CE", weight=weight, smoothing=smoothing))
    kept = [0, 1, 3, 5]
    labels = np.where(np.isin(np.arange(6), kept), GOLDEN["index"], -100).astype(np.int32)
    expected = loss(Tensor(GOLDEN["logits"][kept]), Tensor(labels[kept])).asnumpy()
    value, gradient = ms.value_and_grad(loss)(given("logits"), Tensor(labels))
    assert value.asnumpy() == pytest.approx(expected, rel=1e-6)
    assert not gradient.asnumpy()[[2, 4]].any() and gradient.asnumpy()[kept].all()


def test_the_multi_label_loss_is_a_sum_without_smoothing(caplog):
    expected = build(Case("asl_multi_label", labels="soft", reduction="sum"))
    value = expected(given("logits"), given("soft")).asnumpy()
    loss = recipe.build_loss(Config(loss="asl_multi_label"))
    assert loss(given("logits"), given("soft")).asnumpy() == value
    for options in ({}, dict(label_smoothing=0.1), dict(reduction="none")):
        caplog.clear()
        loss = create_loss("asl_multi_label", **options)
        assert loss(given("logits"), given("soft")).asnumpy() == value
        assert len(caplog.records) == bool(options)


def test_equal_copies_of_an_image_have_no_divergence():
    logits = Tensor(np.tile(GOLDEN["single"], (SPLITS, 1)))
    labels = Tensor([2], ms.int32)
    value = jsd()(logits, labels).asnumpy()
    assert value == pytest.approx(create_loss("CE")(logits[:1], labels).asnumpy(), rel=1e-6)


@pytest.mark.parametrize("repeated", [True, False])
def test_labels_of_the_copies_are_not_read(repeated):
    images = len(GOLDEN["logits"]) // SPLITS
    labels = GOLDEN["index"][:images]
    if repeated:
        labels = np.tile(labels, SPLITS)
    value = jsd()(given("logits"), Tensor(labels)).asnumpy()
    expected = EXPECTED[Case("jsd", smoothing=0.0)][0]
    assert value == pytest.approx(expected, rel=1e-6)


def test_the_divergence_counts_as_often_as_alpha_says():
    loss = [jsd(jsd_alpha=alpha)(given("logits"), given("index")) for alpha in (0.0, 1.0, 5.0)]
    clean, once, fivefold = (float(value.asnumpy()) for value in loss)
    assert once > clean
    assert fivefold - clean == pytest.approx(5 * (once - clean), rel=1e-5)


def test_a_batch_that_is_no_multiple_of_the_copies_is_refused(mode):
    with pytest.raises(ValueError, match="does not divide into num_splits copies"):
        jsd(num_splits=4)(given("logits"), given("index"))


@pytest.mark.parametrize("name", LOSSES)
def test_auxiliary_logits_are_added_with_their_factor(name):
    loss, plain = create_loss(name, aux_factor=0.3), create_loss(name)
    main, auxiliary, labels = given("logits"), given("auxiliary"), given("index")
    value = loss((main, auxiliary, auxiliary), labels).asnumpy()
    single = plain(auxiliary, labels).asnumpy()
    np.testing.assert_allclose(value, plain(main, labels).asnumpy() + 0.6 * single, rtol=1e-6)
    assert plain((main, auxiliary), labels).asnumpy() == plain(main, labels).asnumpy()


@pytest.mark.parametrize("factor", [0.0, 0.3])
def test_auxiliary_logits_in_graph_mode(factor):
    main, auxiliary, labels = given("logits"), given("auxiliary"), given("soft")
    single = create_loss("CE")(auxiliary, labels).asnumpy()
    expected = create_loss("CE")(main, labels).asnumpy() + factor * single
    ms.set_context(mode=ms.GRAPH_MODE)
    value = create_loss("CE", aux_factor=factor)((main, auxiliary), labels).asnumpy()
    assert value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_targets_equal_indices(name):
    for smoothing in (0.0, 0.2):
        loss = create_loss(name, label_smoothing=smoothing)
        hard = loss(given("logits"), given("index")).asnumpy()
        assert loss(given("logits"), given("one-hot")).asnumpy() == pytest.approx(hard, rel=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(name="focal"), ["'focal'", *LOSSES]),
        (dict(reduction="average"), ["'average'", "mean", "sum", "none"]),
        (dict(name="asl_multi_label", reduction="avg"), ["'avg'", "mean", "sum", "none"]),
        (dict(name="CE", bce_target_thresh=0.2), ["bce_target_thresh", "BCE", "CE"]),
        (dict(name="jsd", num_splits=1), ["num_splits 1", "2 copies"]),
        (dict(name="asl_single_label", weight=Tensor([1.0] * CLASSES)), ["class weights"]),
    ],
)
def test_unknown_name_or_useless_argument_is_a_value_error(arguments, words):
    with pytest.raises(ValueError) as error:
        create_loss(**arguments)
    for word in words:
        assert word in str(error.value)


def test_a_loss_takes_no_argument_that_it_does_not_use():
    with pytest.raises(TypeError, match="weight"):
        AsymmetricLossSingleLabel(weight=[1.0] * CLASSES)


def test_name_is_case_insensitive():
    assert type(create_loss("ce")) is type(create_loss("CE"))
    assert type(create_loss("JSD")) is type(create_loss("jsd"))


@pytest.mark.parametrize(
    "options, case",
    [
        (dict(loss="BCE"), Case("BCE", labels="soft")),
        (
            dict(loss="BCE", label_smoothing=0.6, reduction="sum", bce_target_thresh=0.2),
            Case("BCE", labels="soft", reduction="sum", smoothing=0.6, threshold=0.2),
        ),
        (
            dict(loss="asl_single_label", label_smoothing=0.1),
            Case("asl_single_label", smoothing=0.1),
        ),
        (dict(loss="jsd", aug_splits=SPLITS), Case("jsd")),
    ],
    ids=lambda value: value.get("loss") if isinstance(value, dict) else "",
)
def test_train_takes_the_loss_of_the_config(options, case):
    loss = recipe.build_loss(Config(**options)).set_train()
    value = loss(given(case.logits), given(case.labels)).asnumpy()
    assert value == pytest.approx(EXPECTED[case][0], rel=1e-6)


def test_train_adds_the_auxiliary_outputs_of_the_config():
    logits, labels = given("logits"), given("index")
    single = create_loss("CE")(logits, labels).asnumpy()
    value = recipe.build_loss(Config(aux_factor=0.5))((logits, logits), labels).asnumpy()
    assert value == pytest.approx(1.5 * single, rel=1e-6)


def test_the_config_offers_every_loss():
    assert OPTIONS["loss"].metadata["choices"] == tuple(LOSSES)


def test_class_weights_may_be_a_plain_list():
    logits, weight = given("logits"), given("weight")
    labels = Tensor(np.arange(len(logits)) % CLASSES, ms.int32)
    for name in ("CE", "BCE"):
        expected = create_loss(name, weight)(logits, labels).asnumpy()
        for given_as in (weight.asnumpy().tolist(), weight.asnumpy().astype(np.float64)):
            assert create_loss(name, given_as)(logits, labels).asnumpy() == expected
