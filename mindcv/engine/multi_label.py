"""The evaluation of images with several labels: average precision and F1 of each class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore.dataset as ds
import numpy as np

from ..data.datasets import dataset_task
from ..errors import DataError
from ..names import plural
from ..process.signals import StopSignal
from ..task import MULTI_LABEL, SINGLE_LABEL
from .device import Runtime
from .evaluation import AugmentedStep, EvaluationStep, Measured, evaluate
from .results import ClassFigures, Outcomes, rows_of_all_ranks


@dataclass(frozen=True)
class MultiLabelAccuracy(Measured):
    """The loss is the binary cross entropy, a mean over the classes.

    Attributes:
        map: mean over the classes of their average precisions.
        micro_f1, macro_f1: of all answers, and mean over the classes, at probability 0.5.
        classes_without_images: left out of `map`.
    """

    task = MULTI_LABEL
    map: float
    micro_f1: float
    macro_f1: float
    classes_without_images: int = 0

    def __str__(self) -> str:
        left_out = plural(self.classes_without_images, "class")
        note = f"; {left_out} without images left out" if self.classes_without_images else ""
        return super().__str__() + note

    def as_dict(self) -> dict[str, float]:
        """Return the figures as fractions, as `Accuracy` does."""
        percent = {"mAP": self.map, "micro_F1": self.micro_f1, "macro_F1": self.macro_f1}
        return {name: value / 100 for name, value in percent.items()} | {"loss": self.loss}


class LabelOutcomes:
    """Collects labels and logits of an evaluation; pass it to `evaluate` as `watch`."""

    def __init__(self, num_classes: int):
        self._batches = [np.zeros((0, 2 * num_classes), np.float32)]

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self._batches.append(np.concatenate([labels, logits], 1))

    def of_all_ranks(self, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and labels, (N, classes), of the intact images of every process.

        Every process must call it.
        """
        rows = rows_of_all_ranks(np.concatenate(self._batches), runtime)
        labels, logits = np.split(rows, 2, axis=1)
        return logits, labels > 0


def label_figures(names: Sequence[str], logits: np.ndarray, shown: np.ndarray) -> ClassFigures:
    """Compare logits with what images show, both (N, classes).

    Raises:
        DataError: no image shows any class.
    """
    if not shown.any():
        raise DataError("no image shows any class, so there is no average precision")
    said = logits >= 0  # a probability from 0.5 on
    counts = (part.sum(0) for part in (shown, said, shown & said))
    return ClassFigures(
        tuple(names), *counts, average_precision=average_precision_of(logits, shown)
    )


def average_precision_of(scores: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the average precision of each class; NaN where no image shows it.

    The sum, over the distinct scores from the highest down, of the recall gained times the
    precision (source: scikit-learn, `average_precision_score`).

    Args:
        scores, shown: (N, classes).
    """
    found = np.full(scores.shape[1], np.nan)
    for index in np.flatnonzero(shown.any(0)):
        order = np.argsort(-scores[:, index])
        ranked = scores[order, index]
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
        hits = shown[order, index].cumsum()[last]
        found[index] = (np.diff(hits, prepend=0) * hits / (last + 1)).sum() / hits[-1]
    return found


def evaluate_labels(
    step: EvaluationStep | AugmentedStep,
    loader: ds.Dataset | None,
    batch_size: int,
    runtime: Runtime,
    stop: StopSignal | None = None,
    watch: LabelOutcomes | None = None,
) -> MultiLabelAccuracy:
    """Evaluate images of several labels, otherwise as `evaluate`."""
    watch = watch or LabelOutcomes(step.num_classes)
    evaluate(step, loader, batch_size, runtime, stop=stop, watch=watch)
    logits, shown = watch.of_all_ranks(runtime)
    figures = label_figures(tuple(map(str, range(step.num_classes))), logits, shown)
    means, exact = figures.means(), logits.astype(np.float64)
    answers = figures.support.sum() + figures.predicted.sum()
    return MultiLabelAccuracy(
        len(logits),
        loss=float((np.logaddexp(0, exact) - exact * shown).mean()),
        map=100.0 * means["average_precision"],
        micro_f1=100.0 * float(2 * figures.hits.sum() / answers),
        macro_f1=100.0 * means["f1"],
        classes_without_images=int((figures.support == 0).sum()),
    )


@dataclass(frozen=True)
class Evaluator:
    """How the outputs for a task are evaluated."""

    evaluate: Callable[..., Measured]
    outcomes: Callable[[int], Outcomes | LabelOutcomes]  # of so many classes
    figures: Callable[..., ClassFigures]  # of names, and of what `outcomes` has of all ranks


_EVALUATORS = {
    SINGLE_LABEL: Evaluator(evaluate, lambda num_classes: Outcomes(), ClassFigures.of),
    MULTI_LABEL: Evaluator(evaluate_labels, LabelOutcomes, label_figures),
}


def evaluator_of(dataset: str) -> Evaluator:
    return _EVALUATORS[dataset_task(dataset)]
