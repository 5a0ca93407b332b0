"""Losses of one distribution over the classes."""

from mindspore import ops

from .base import TrainingLoss


class CrossEntropy(TrainingLoss):
    """`-sum(target * weight * log(softmax))`.

    The mean is over the images, for class indices weighted by their classes' weights (as torch).
    """

    def __init__(self, weight=None, reduction="mean", label_smoothing=0.0, aux_factor=0.0):
        super().__init__(reduction, aux_factor)
        self.weight, self.label_smoothing = weight, label_smoothing

    def of_one(self, logits, labels):
        truth = self.probabilities(labels, logits.shape[1])
        log_p = log_softmax(logits)
        weighted = log_p if self.weight is None else log_p * self.weight
        losses = -(truth * weighted).sum(-1)
        if self.label_smoothing > 0.0:
            # Apart: a sum over the many small terms of the smoothing alone loses fewer digits.
            losses = losses + self.label_smoothing * (-weighted.mean(-1) - losses)
        if self.weight is not None and self.reduction == "mean" and labels.ndim == 1:
            return losses.sum() / (truth * self.weight).sum()
        return self.reduce(losses)


class JensenShannon(TrainingLoss):
    """Cross entropy of the clean images plus alpha x the divergence of all copies (AugMix).

    The divergence is the mean over the copies of KL(copy's softmax || mean softmax), the mean
    softmax at least 1e-7. For training only: an evaluation has no copies (timm `loss/jsd.py`).
    """

    def __init__(
        self,
        weight=None,
        reduction="mean",
        label_smoothing=0.0,
        aux_factor=0.0,
        num_splits=3,
        alpha=12.0,
    ):
        super().__init__(reduction, aux_factor)
        self.cross_entropy = CrossEntropy(weight, reduction, label_smoothing)
        self.num_splits, self.alpha = num_splits, alpha

    def of_one(self, logits, labels):
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


class AsymmetricSingleLabel(TrainingLoss):
    """`-sum(target * focus * log(p))`, focus `1 - p` of the true class, `p ** 4` of the others.

    The other classes count only with label smoothing. Labels are indices or one-hot (timm
    `loss/asymmetric_loss.py`).
    """

    def __init__(self, reduction="mean", label_smoothing=0.0, aux_factor=0.0):
        super().__init__(reduction, aux_factor)
        self.label_smoothing = label_smoothing

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        truth = self.probabilities(labels, num_classes)
        log_p = log_softmax(logits)
        p = ops.exp(log_p)
        # Not p ** gamma with 1 - (1 - p): that rounds small p to 0.
        focus = truth * (1.0 - p) + (1.0 - truth) * ops.square(ops.square(p))
        target = truth * (1.0 - self.label_smoothing) + self.label_smoothing / num_classes
        return self.reduce(-(target * focus * log_p).sum(-1))


def log_softmax(logits):
    """Return the log of the softmax over the last axis.

    MindSpore's own (2.10, CPU) is off by 4e-6 where this one is off by 1e-6. The sum is at least 1.
    """
    logits = logits - ops.stop_gradient(ops.amax(logits, -1, True))
    return logits - ops.log1p(ops.sum(ops.exp(logits), -1, True) - 1.0)


def logarithm(x):
    """Return the natural logarithm of x > 0, the same in each run.

    MindSpore's `log` on CPU (2.10) has two ways of computing it, one for eights of elements and one
    for what is left of them. How many threads share the elements is found out by measuring times,
    so its last bit differs from run to run; that of `pow` does as well.
    """
    smaller, larger = ops.minimum(x, 1.0), ops.maximum(x, 1.0)
    return ops.log1p(larger - 1.0) - ops.log1p(1.0 / smaller - 1.0)


def exponential(x):
    """Return e ** x for x <= 0, off by 1e-7 of 1; MindSpore's `exp` (2.10, CPU) is by 2e-6.

    The gradient is the value itself; that of `expm1` would be MindSpore's `exp` again.
    """
    value = ops.stop_gradient(ops.expm1(x) + 1.0)
    return value + value * (x - ops.stop_gradient(x))
