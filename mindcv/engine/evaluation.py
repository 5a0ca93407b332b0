"""Accuracy that counts every image exactly once, for any number of images and processes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..data.failure import pipeline_failures_as_data_errors
from ..errors import DataError, NonFiniteLossError, WeightsError
from ..loss import create_loss
from ..names import plural
from ..process.signals import StopSignal
from ..task import SINGLE_LABEL, Task
from .compile_cache import CachedGraph
from .device import Runtime

_logger = logging.getLogger(__name__)


class EvaluationStopped(Exception):
    """A signal interrupted the evaluation."""


@dataclass(frozen=True)
class Measured:
    """Result of an evaluation; subclasses hold the figures of their task, in percent."""

    task: ClassVar[Task]
    images: int
    loss: float  # mean over the images, without label smoothing

    @property
    def score(self) -> float:
        return getattr(self, self.task.score)

    def figures(self) -> dict[str, float | None]:
        """Return the loss and the figures of the task, as metrics.csv calls them."""
        return {name: getattr(self, name) for name in ("loss", *self.task.figures)}

    def __str__(self) -> str:
        found = {title: getattr(self, name) for name, title in self.task.figures.items()}
        shown = [f"{title} {value:.3f} %" for title, value in found.items() if value is not None]
        return ", ".join([*shown, f"loss {self.loss:.4f} on {plural(self.images, 'image')}"])


@dataclass(frozen=True)
class Accuracy(Measured):
    """The loss is the cross entropy; `top5` is None below 5 classes."""

    task = SINGLE_LABEL
    top1: float
    top5: float | None

    def as_dict(self) -> dict[str, float]:
        """Return the figures under MindCV's names, the accuracies as fractions like MindCV's."""
        percent = {"Top_1_Accuracy": self.top1, "Top_5_Accuracy": self.top5}
        hits = {k: round(v * self.images / 100) for k, v in percent.items() if v is not None}
        return {name: count / self.images for name, count in hits.items()} | {"loss": self.loss}


class EvaluationStep(CachedGraph):
    """Map a batch to sums over its counted images, and to its logits, float32 (N, classes).

    The sums are [loss, top-1 hits, top-5 hits, not finite]. `network` maps images to logits. An
    image is not finite if its loss or a logit is NaN or infinite.
    """

    def __init__(self, network: nn.Cell, num_classes: int, normalize: nn.Cell | None = None):
        super().__init__(auto_prefix=False)
        self.network, self.normalize, self.num_classes = network, normalize, num_classes
        self.has_top5 = num_classes >= 5
        self.cross_entropy = create_loss("CE", reduction="none")

    def construct(self, image, label, counted):
        """Images (N, C, H, W), labels (N,) int32, counted (N,) bool; False for padding."""
        if self.normalize is not None:
            image = self.normalize(image)
        logits = self.network(image)
        if isinstance(logits, tuple):
            logits = logits[0]
        logits = ops.cast(logits, mstype.float32)
        loss = ops.where(counted, self.cross_entropy(logits, label), Tensor(0.0, mstype.float32))
        # For NaN, argmax answers class 0, which is right for some images.
        finite = ops.logical_and(ops.isfinite(logits).all(1), ops.isfinite(loss))
        broken = ops.logical_and(ops.logical_not(finite), counted)
        top1 = ops.logical_and(ops.argmax(logits, 1) == label, counted)
        top5 = top1
        if self.has_top5:
            _, best = ops.topk(logits, 5)
            hits = ops.cast(best == label.reshape((-1, 1)), mstype.float32).sum(1) > 0
            top5 = ops.logical_and(hits, counted)
        sums = [ops.cast(value, mstype.float32).sum() for value in (loss, top1, top5, broken)]
        return ops.stack(sums), logits


class AugmentedStep:
    """An `EvaluationStep` with test-time augmentation: the mean probabilities of several views.

    An image counts once, however many views it has (source: Krizhevsky et al. 2012, section 4.1,
    "averaging the predictions made by the network's softmax layer"). The logits that it returns
    are those of the mean.

    Args:
        flip: also take the mirror image of each view.
    """

    def __init__(self, step: EvaluationStep, *, flip: bool, task: Task = SINGLE_LABEL):
        self.step, self.flip, self.num_classes, self.task = step, flip, step.num_classes, task
        self.has_top5 = step.has_top5
        self.counting = EvaluationStep(nn.Identity(), step.num_classes)

    def set_train(self, mode: bool = True) -> "AugmentedStep":
        self.step.set_train(mode)
        self.counting.set_train(mode)
        return self

    def __call__(self, image: Tensor, label: Tensor, counted: Tensor):
        """Images (N, H, W, C), or (N, crops, H, W, C); else as an `EvaluationStep`."""
        pixels = image.asnumpy()
        views = [pixels] if pixels.ndim == 4 else list(pixels.swapaxes(0, 1))
        if self.flip:
            views += [view[:, :, ::-1] for view in views]
        found = [self.step(Tensor(np.ascontiguousarray(v)), label, counted)[1] for v in views]
        with np.errstate(invalid="ignore"):  # what is not finite stays so, and is counted
            mean = logits_of_mean(self.task, [logits.asnumpy() for logits in found])
        return self.counting(Tensor(mean.astype(np.float32)), label, counted)


def evaluate(
    step: EvaluationStep | AugmentedStep,
    loader: ds.Dataset | None,
    batch_size: int,
    runtime: Runtime,
    stop: StopSignal | None = None,
    watch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Accuracy:
    """Evaluate this process's share of the images, and add up the results of all processes.

    The last partial batch is padded to `batch_size` without counting the padding, so that one graph
    serves all batches.

    Args:
        loader: batches of exact shards (see `create_evaluation_loader`), including the last partial
            one; an image with the label -1 does not count. None if this process has no images.
        stop: interrupts the evaluation of a single process. Several processes finish it, since they
            add up their results together.
        watch: called with logits (n, classes) and labels (n,) of each batch of this process,
            without padding; a label is (classes,) of an image of several; -1: of a bad image.

    Raises:
        EvaluationStopped: `stop` received a signal.
        DataError: there is no image, one cannot be read, or a label lies outside the classes.
        NonFiniteLossError: an output of any process is NaN or infinite; raised in every process.
    """
    step.set_train(False)
    totals = np.zeros(6, np.float64)
    for image, label in padded_batches(loader, batch_size, step.num_classes):
        if stop is not None and stop.received and runtime.world_size == 1:
            raise EvaluationStopped
        sums, logits = _evaluate_batch(step, image, label)
        if watch is not None:
            watch(logits.asnumpy()[: len(label)], label)
        counted = is_counted(label)
        totals += (*sums, counted.sum(), (~counted).sum())
    loss, top1, top5, broken, images, bad = runtime.sum_over_ranks(totals)
    if bad and runtime.is_main:
        _logger.warning("%d of %d images are bad and left out", bad, images + bad)
    if not images:
        raise DataError("no image to evaluate")
    if broken:
        raise NonFiniteLossError(
            f"the network's outputs are NaN or infinite for {broken:.0f} of {images:.0f} "
            "validation images, so it has no accuracy: the weights have diverged, or float16 "
            "overflows; check the weights, evaluate in float32 (amp_level O0), or train with a "
            "lower lr"
        )
    return Accuracy(
        images=int(images),
        loss=float(loss / images),
        top1=float(100.0 * top1 / images),
        top5=float(100.0 * top5 / images) if step.has_top5 else None,
    )


def padded_batches(
    loader: ds.Dataset | None, batch_size: int, num_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images of each batch, padded to `batch_size`, and the labels without padding.

    Raises:
        DataError: an image cannot be read, or a label lies outside the classes.
    """
    if loader is None:
        return
    with pipeline_failures_as_data_errors(loader):
        for image, label in loader.create_tuple_iterator(num_epochs=1, output_numpy=True):
            largest = label.max() if label.ndim == 1 else label.shape[1] - 1
            if largest >= num_classes:
                raise DataError(f"label {largest} lies outside the {num_classes} classes")
            padding = np.zeros((batch_size - len(label), *image.shape[1:]), image.dtype)
            yield np.concatenate([image, padding]) if len(padding) else image, label


def _evaluate_batch(
    step: EvaluationStep | AugmentedStep, image: np.ndarray, label: np.ndarray
) -> tuple[np.ndarray, Tensor]:
    # Of several labels the step finds only what is not finite.
    label = label if label.ndim == 1 else is_counted(label).astype(np.int32) - 1
    padding = np.full(len(image) - len(label), -1, label.dtype)
    label = np.concatenate([label, padding])
    counted = label >= 0
    label = np.where(counted, label, 0)
    sums, logits = step(Tensor(image), Tensor(label), Tensor(counted))
    return sums.asnumpy(), logits


def is_counted(labels: np.ndarray) -> np.ndarray:
    """Return which images count, (N,); labels (N,) or (N, classes) are -1 where they do not."""
    return (labels if labels.ndim == 1 else labels[:, 0]) >= 0


def require_finite(outputs: np.ndarray) -> None:
    """Raise a WeightsError if a value that a network computed is not finite."""
    if not np.isfinite(outputs).all():
        raise WeightsError(
            "the network's outputs are not finite numbers: the training diverged before these "
            "weights were written, or they belong to other preprocessing"
        )


def probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits (N, classes), or the sigmoid of several labels, float64.

    Raises:
        WeightsError: a logit is not finite.
    """
    require_finite(logits)
    if task is SINGLE_LABEL:
        return np.exp(log_softmax(logits))
    return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))


def logits_of_mean(task: Task, logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return logits of the mean probabilities of several views, float64."""
    if task is SINGLE_LABEL:
        return np.logaddexp.reduce([log_softmax(one) for one in logits]) - np.log(len(logits))
    no, yes = (
        np.logaddexp.reduce([-np.logaddexp(0, sign * one.astype(np.float64)) for one in logits])
        for sign in (1, -1)
    )
    return yes - no


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities, float64; NaN where logits are not finite."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
