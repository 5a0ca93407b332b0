"""The training losses: of one distribution over the classes, or of a yes or no for each class."""

import math

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..process import environment  # noqa: F401

SMALLEST_BASE = 1e-12  # lower bound of the focus's base; to the power of 4 it is 0
IGNORED = -100  # label of an image that counts in no way, MindSpore's and torch's default


class TrainingLoss(nn.Cell):
    """Maps (logits, labels) to a loss; subclasses compute it `of_one` float32 output."""

    def __init__(self, smoothing=0.0, aux_factor=0.0, reduction="mean", weight=None):
        super().__init__()
        check_reduction(reduction)
        self.smoothing, self.aux_factor, self.reduction = smoothing, aux_factor, reduction
        self.weight = _class_weights(weight)
        self.one_hot = ops.OneHot()
        self.on, self.off = Tensor(1.0, mstype.float32), Tensor(0.0, mstype.float32)

    def construct(self, logits, labels):
        if isinstance(logits, tuple):
            loss = self.of_one(ops.cast(logits[0], mstype.float32), labels)
            if self.aux_factor > 0.0:
                for auxiliary in logits[1:]:
                    output = ops.cast(auxiliary, mstype.float32)
                    loss = loss + self.aux_factor * self.of_one(output, labels)
            return loss
        return self.of_one(ops.cast(logits, mstype.float32), labels)

    def probabilities(self, labels, num_classes: int):
        """Return labels as float32 (N, num_classes), one-hot where they are indices."""
        if labels.ndim == 1:
            return self.one_hot(labels, num_classes, self.on, self.off)
        if labels.shape[1] != num_classes:  # (N, 1) would be paired with every class
            raise ValueError("labels are no class numbers (N,) and no soft ones (N, num_classes)")
        return ops.cast(labels, mstype.float32)

    def smooth(self, target, num_values: int):
        """Spread the share `smoothing` of the target evenly over `num_values`."""
        return target * (1.0 - self.smoothing) + self.smoothing / num_values

    def reduce(self, losses):
        if self.reduction == "mean":
            return losses.mean()
        if self.reduction == "sum":
            return losses.sum()
        return losses


class CrossEntropySmooth(TrainingLoss):
    """`-sum(target * weight * log(softmax))`.

    The mean is over images, weighted by class weights if the labels are indices, as in torch. An
    image of label -100 has loss 0 and does not count in the mean.
    """

    def of_one(self, logits, labels):
        truth = self.probabilities(labels, logits.shape[1])
        log_p = log_softmax(logits)
        weighted = log_p if self.weight is None else log_p * self.weight
        losses = -(truth * weighted).sum(-1)
        if self.smoothing > 0.0:
            # Separately: a sum over only the many small smoothing terms loses fewer digits.
            losses = losses + self.smoothing * (-weighted.mean(-1) - losses)
        if labels.ndim == 1:
            counts = ops.cast(labels != IGNORED, mstype.float32)
            if self.weight is not None and self.reduction == "mean":
                return (losses * counts).sum() / (truth * self.weight).sum()
            if self.reduction == "mean":  # exactly 1 where all images count
                counts = counts * (labels.shape[0] / counts.sum())
            losses = losses * counts
        return self.reduce(losses)


class JSDCrossEntropy(TrainingLoss):
    """Cross entropy of the clean images plus alpha * the divergence of all copies (AugMix).

    The divergence is the mean over the copies of KL(copy's softmax || mean softmax), with a mean
    softmax of at least 1e-7 (timm `loss/jsd.py`). Outside of training (`set_train`) there are no
    copies, and the loss is the cross entropy.
    """

    def __init__(
        self,
        num_splits=3,
        alpha=12.0,
        smoothing=0.1,
        weight=None,
        reduction="mean",
        aux_factor=0.0,
    ):
        super().__init__(smoothing, aux_factor, reduction, weight)
        if num_splits < 2:
            raise ValueError(
                f"jsd compares 2 copies of an image or more, not num_splits {num_splits}"
            )
        self.cross_entropy = CrossEntropySmooth(smoothing, 0.0, reduction, weight)
        self.num_splits, self.alpha = num_splits, alpha

    def of_one(self, logits, labels):
        if not self.training:
            return self.cross_entropy(logits, labels)
        rows, num_classes = logits.shape
        if rows % self.num_splits != 0:
            raise ValueError("jsd: the batch does not divide into num_splits copies of its images")
        images = rows // self.num_splits
        loss = self.cross_entropy(logits[:images], labels[:images])
        copies = ops.softmax(logits, -1).reshape((self.num_splits, images, num_classes))
        mixture = ops.maximum(copies.mean(0), 1e-7)
        # The logarithm of the ratio, not log p - log mixture: exactly 0 for equal copies.
        ratio = ops.maximum(copies / mixture, 1e-12)
        divergence = (copies * logarithm(ratio)).sum(-1).mean(0)
        return loss + self.alpha * self.reduce(divergence)


class AsymmetricLossSingleLabel(TrainingLoss):
    """`-sum(target * focus * log(p))`; focus: `1 - p` for the true class, `p ** 4` for the others.

    The others count only with smoothing. Labels are indices or one-hot (Ridnik et al., 2021; timm
    `loss/asymmetric_loss.py`). The powers are `gamma_pos` and `gamma_neg`; `eps` has no effect, as
    in MindCV, where `smoothing` took its place.
    """

    def __init__(
        self, gamma_pos=1, gamma_neg=4, eps=0.1, reduction="mean", smoothing=0.1, aux_factor=0.0
    ):
        super().__init__(smoothing, aux_factor, reduction)
        self.gamma_pos, self.gamma_neg = gamma_pos, gamma_neg

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        truth = self.probabilities(labels, num_classes)
        log_p = log_softmax(logits)
        p = ops.exp(log_p)
        # Not via 1 - (1 - p), which rounds small p to 0.
        base = truth * (1.0 - p) + (1.0 - truth) * p
        focus = power(base, truth * self.gamma_pos + (1.0 - truth) * self.gamma_neg)
        target = self.smooth(truth, num_classes)
        return self.reduce(-(target * focus * log_p).sum(-1))


class BinaryCrossEntropySmooth(TrainingLoss):
    """`-weight * (pos_weight * target * log(p) + (1 - target) * log(1 - p))`, p the sigmoid.

    Wightman et al., ResNet strikes back (2021), and timm `loss/binary_cross_entropy.py`; mixed
    labels are smoothed here, in timm by its mixup.
    """

    def __init__(
        self,
        smoothing=0.0,
        aux_factor=0.0,
        reduction="mean",
        weight=None,
        pos_weight=None,
        target_threshold=None,
    ):
        super().__init__(smoothing, aux_factor, reduction, weight)
        self.pos_weight, self.target_threshold = _class_weights(pos_weight), target_threshold

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        target = self.probabilities(labels, num_classes)
        target = self.smooth(target, num_classes)
        if self.target_threshold is not None:
            target = ops.cast(target > self.target_threshold, logits.dtype)
        losses = binary_cross_entropy(logits, target)
        if self.pos_weight is not None:
            positive = binary_cross_entropy(logits, self.on)
            losses = losses + (self.pos_weight - 1.0) * target * positive
        return self.reduce(losses if self.weight is None else losses * self.weight)


class AsymmetricLossMultilabel(TrainingLoss):
    """`-weight * (t * (1 - p) * log(p) + (1 - t) * q ** 4 * log(1 - q))`, q = max(p - 0.05, 0).

    For targets t between 0 and 1, base and power of the focus are interpolated (Ridnik et al.,
    2021; timm `loss/asymmetric_loss.py`).

    Args:
        gamma_neg, gamma_pos: powers of the focus: easy negatives count less than easy positives.
        clip: probability up to which a negative counts as certain.
        eps: lower bound of a probability whose logarithm is taken.
        smoothing: moves each class's target this share of the way to 1/2.
    """

    def __init__(self, gamma_neg=4, gamma_pos=1, clip=0.05, eps=1e-8, reduction="sum", **shared):
        super().__init__(reduction=reduction, **shared)
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip
        self.most = -math.log(eps)

    def of_one(self, logits, labels):
        target = self.probabilities(labels, logits.shape[1])
        target = self.smooth(target, 2)  # yes and no
        positive = ops.minimum(binary_cross_entropy(logits, self.on), self.most)
        wrong = ops.sigmoid(logits)
        if self.clip > 0:
            wrong = ops.maximum(wrong - self.clip, 0.0)
            negative = -ops.log1p(-wrong)
        else:
            negative = ops.minimum(binary_cross_entropy(logits, self.off), self.most)
        base = target * ops.sigmoid(-logits) + (1.0 - target) * wrong
        focus = power(base, self.gamma_pos * target + self.gamma_neg * (1.0 - target))
        losses = (target * positive + (1.0 - target) * negative) * focus
        return self.reduce(losses if self.weight is None else losses * self.weight)


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; expected mean, sum or none")


def _class_weights(weight) -> Tensor | None:
    if weight is None or isinstance(weight, Tensor):
        return weight
    return Tensor(np.asarray(weight, np.float32))


def power(base, exponent):
    """Return base ** exponent for a base from 0 to 1.

    Via the logarithm, since the last bit of MindSpore's `pow` differs from run to run, see
    `logarithm`.
    """
    return exponential(exponent * logarithm(ops.maximum(base, SMALLEST_BASE)))


def binary_cross_entropy(logits, target):
    """Return `max(x, 0) - x * target + log(1 + e ** -|x|)`; its gradient is `sigmoid(x) - target`.

    The last bit of MindSpore's own depends on an element's position, see `logarithm`. The gradient
    is written out, since the parts have none at x = 0.
    """
    x = ops.stop_gradient(logits)
    losses = ops.maximum(x, 0.0) - x * target + ops.log1p(exponential(-ops.abs(x)))
    return losses + (ops.sigmoid(x) - target) * (logits - x)


def log_softmax(logits):
    """Return the log softmax over the last axis, off by 1e-6; MindSpore 2.10 is by 4e-6 on CPU."""
    logits = logits - ops.stop_gradient(ops.amax(logits, -1, True))
    # The sum is at least 1, since the largest logit is now 0.
    return logits - ops.log1p(ops.sum(ops.exp(logits), -1, True) - 1.0)


def logarithm(x):
    """Return the natural logarithm of x > 0, the same in each run.

    MindSpore's `log` on CPU (2.10) computes full groups of eight elements in one way and the
    remainder in another. How many threads share the elements depends on measured times, so the last
    bit differs from run to run, as does that of `pow`.
    """
    smaller, larger = ops.minimum(x, 1.0), ops.maximum(x, 1.0)
    return ops.log1p(larger - 1.0) - ops.log1p(1.0 / smaller - 1.0)


def exponential(x):
    """Return e ** x for x <= 0, off by 1e-7; MindSpore's `exp` (2.10, CPU) is off by 2e-6.

    The gradient is the value itself; that of `expm1` would be MindSpore's `exp` again.
    """
    value = ops.stop_gradient(ops.expm1(x) + 1.0)
    return value + value * (x - ops.stop_gradient(x))
