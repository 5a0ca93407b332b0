"""Losses of one yes or no for each class."""

import math

from mindspore import ops

from .base import GAMMA_NEGATIVE, GAMMA_POSITIVE, TrainingLoss
from .softmax import exponential, logarithm

MARGIN = 0.05  # probability up to which a negative counts as certain
SMALLEST = 1e-8  # probability that a logarithm is taken of
SMALLEST_BASE = 1e-12  # of the focus; to the power of 4 it is 0


class BinaryCrossEntropy(TrainingLoss):
    """`-weight * (target * log(p) + (1 - target) * log(1 - p))`, p the sigmoid of the logit.

    Wightman et al., ResNet strikes back (2021), and timm `loss/binary_cross_entropy.py`, whose
    mixup smooths the mixed labels as it is done here.
    """

    def __init__(
        self,
        weight=None,
        reduction="mean",
        label_smoothing=0.0,
        aux_factor=0.0,
        target_threshold=None,
    ):
        super().__init__(reduction, aux_factor)
        self.weight, self.label_smoothing = weight, label_smoothing
        self.target_threshold = target_threshold

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        target = self.probabilities(labels, num_classes)
        target = target * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes
        if self.target_threshold is not None:
            target = ops.cast(target > self.target_threshold, logits.dtype)
        losses = binary_cross_entropy(logits, target)
        return self.reduce(losses if self.weight is None else losses * self.weight)


class AsymmetricMultiLabel(TrainingLoss):
    """`-weight * (t * (1 - p) * log(p) + (1 - t) * q ** 4 * log(1 - q))`, q = max(p - 0.05, 0).

    For a target t between 0 and 1 base and power of the focus are interpolated (timm
    `loss/asymmetric_loss.py`).
    """

    def __init__(self, weight=None, reduction="mean", label_smoothing=0.0, aux_factor=0.0):
        super().__init__(reduction, aux_factor)
        self.weight, self.label_smoothing = weight, label_smoothing

    def of_one(self, logits, labels):
        target = self.probabilities(labels, logits.shape[1])
        target = target * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        positive = ops.minimum(binary_cross_entropy(logits, self.on), -math.log(SMALLEST))
        wrong = ops.maximum(ops.sigmoid(logits) - MARGIN, 0.0)
        negative = -ops.log1p(-wrong)
        base = target * ops.sigmoid(-logits) + (1.0 - target) * wrong
        power = GAMMA_POSITIVE * target + GAMMA_NEGATIVE * (1.0 - target)
        # A power by its logarithm; `pow` has another last bit in each run, see `logarithm`.
        focus = exponential(power * logarithm(ops.maximum(base, SMALLEST_BASE)))
        losses = (target * positive + (1.0 - target) * negative) * focus
        return self.reduce(losses if self.weight is None else losses * self.weight)


def binary_cross_entropy(logits, target):
    """Return `max(x, 0) - x * target + log(1 + e ** -|x|)`; its gradient is `sigmoid(x) - target`.

    MindSpore's own has another last bit where an element stands in another place, see `logarithm`.
    The gradient is written out: those of the parts have no value of their own at x = 0.
    """
    x = ops.stop_gradient(logits)
    losses = ops.maximum(x, 0.0) - x * target + ops.log1p(exponential(-ops.abs(x)))
    return losses + (ops.sigmoid(x) - target) * (logits - x)
