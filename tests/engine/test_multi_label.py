"""The evaluation and the loss of images with several labels."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindcv import create_loss, engine
from mindcv.config import load_config
from mindcv.engine.evaluation import logits_of_mean, probabilities
from mindcv.engine.multi_label import (
    LabelOutcomes,
    average_precision_of,
    evaluate_labels,
    label_figures,
)
from mindcv.errors import ConfigError, DataError, NonFiniteLossError
from mindcv.task import MULTI_LABEL

GOLDEN = np.load(Path(__file__).parents[1] / "golden/multi_label.npz")
LOGITS, SHOWN = GOLDEN["logits"], GOLDEN["shown"]
NAMES = tuple("abcdef")


class Batches:
    """A loader whose images are the logits that the network, an identity, gives."""

    def __init__(self, logits, labels, size=7):
        self.parts = [(logits[i : i + size], labels[i : i + size]) for i in range(0, 60, size)]
        self.parts = [part for part in self.parts if len(part[0])]

    def create_tuple_iterator(self, **_):
        return iter(self.parts)


class Alone:
    """A process of a run of several: what it gathers, the test puts together."""

    is_main, world_size = True, 1

    def gather(self, values):
        return np.asarray(values, np.float32)[None]

    def sum_over_ranks(self, values):
        return values


def measured(logits=LOGITS, labels=SHOWN, runtime=None):
    step = engine.EvaluationStep(ms.nn.Identity(), 6)
    return evaluate_labels(step, Batches(logits, labels), 7, runtime or Alone())


def test_average_precision_equals_scikit_learns_with_equal_scores():
    found = average_precision_of(LOGITS, SHOWN > 0)
    assert np.isnan(found).tolist() == [False, False, False, True, False, False]
    np.testing.assert_allclose(found[~np.isnan(found)], GOLDEN["average precision"], rtol=1e-14)


def test_figures_of_classes_equal_scikit_learns():
    found = label_figures(NAMES, LOGITS, SHOWN > 0)
    for name, expected in zip(("precision", "recall", "f1", "support"), GOLDEN["classes"]):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-14)
    assert found.rows()[3]["average_precision"] is None  # NaN is no JSON
    assert found.describe()[-1] == "without images: d"


def test_an_evaluation_counts_each_image_once_and_says_which_classes_are_left_out():
    found = measured()
    assert (found.images, found.classes_without_images) == (60, 1)
    assert found.score == found.map == pytest.approx(100 * GOLDEN["mAP"], rel=1e-14)
    assert found.micro_f1 == pytest.approx(100 * GOLDEN["micro F1"], rel=1e-14)
    assert found.macro_f1 == pytest.approx(100 * GOLDEN["macro F1"], rel=1e-14)
    assert found.loss == pytest.approx(float(GOLDEN["loss mean"]), rel=1e-12)
    assert str(found).endswith("on 60 images; 1 class without images left out")
    assert list(found.figures()) == ["loss", "map", "micro_f1", "macro_f1"]


def test_a_bad_image_does_not_count():
    labels = SHOWN.copy()
    labels[[0, 59]] = -1
    found, kept = measured(labels=labels), slice(1, 59)
    assert found.images == 58
    expected = np.nanmean(average_precision_of(LOGITS[kept], SHOWN[kept] > 0))
    assert found.map == pytest.approx(100 * expected)


def test_outcomes_of_all_processes_come_together():
    class Two(Alone):
        def gather(self, values):
            return np.stack(sent) if len(values) > 1 else np.array([[40.0], [20.0]])

    sent, parts = [], [LabelOutcomes(6), LabelOutcomes(6)]
    for part, rows in zip(parts, (slice(0, 40), slice(40, 60))):
        part(LOGITS[rows], SHOWN[rows])
        own = np.full((40, 12), -1, np.float32)
        own[: len(LOGITS[rows])] = np.concatenate([SHOWN[rows], LOGITS[rows]], 1)
        sent.append(own.ravel())
    for part in parts:
        logits, shown = part.of_all_ranks(Two())
        np.testing.assert_array_equal(logits, LOGITS)
        np.testing.assert_array_equal(shown, SHOWN > 0)


def test_logits_that_are_no_numbers_and_labels_without_any_class_are_refused():
    logits = LOGITS.copy()
    logits[3, 2] = np.nan
    with pytest.raises(NonFiniteLossError, match="for 1 of 60"):
        measured(logits)
    with pytest.raises(DataError, match="no image shows any class"):
        measured(labels=np.zeros_like(SHOWN))


def test_the_loss_and_its_gradient_equal_torchs():
    for reduction in ("mean", "sum"):
        loss = create_loss("BCE", reduction=reduction)
        value, gradient = ms.value_and_grad(loss)(Tensor(LOGITS), Tensor(SHOWN))
        np.testing.assert_allclose(value.asnumpy(), GOLDEN[f"loss {reduction}"], rtol=1e-6)
        expected = GOLDEN[f"gradient {reduction}"]
        np.testing.assert_allclose(gradient.asnumpy(), expected, rtol=1e-5, atol=1e-7)


def test_several_views_give_the_mean_probability_of_each_class():
    views = [LOGITS, LOGITS[::-1] * 30, np.float32(-80) + LOGITS]
    mean = np.mean([1 / (1 + np.exp(-view.astype(np.float64))) for view in views], 0)
    found = probabilities(MULTI_LABEL, logits_of_mean(MULTI_LABEL, views))
    np.testing.assert_allclose(found, mean, rtol=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("loss: CE", "dataset multi_label takes BCE or asl_multi_label"),
        ("loss: jsd", "dataset multi_label takes BCE or asl_multi_label"),
        ("loss: asl_single_label", "dataset multi_label takes BCE or asl_multi_label"),
        ("loss: BCE\nlabel_smoothing: 0.1", "label_smoothing"),
    ],
)
def test_other_losses_and_smoothing_are_refused_before_any_work(tmp_path, changed, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"dataset: multi_label\nmodel: regnet_x_200mf\n{changed}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(str(recipe))
