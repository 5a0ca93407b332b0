"""The training losses: of one distribution over the classes, or of a yes or no for each class."""

import math

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

# Focusing powers of the asymmetric losses, as in timm and MindCV: easy negatives count less than
# easy positives.
GAMMA_POSITIVE, GAMMA_NEGATIVE = 1.0, 4.0
MARGIN = 0.05  # probability up to which a negative counts as certain
SMALLEST = 1e-8  # lower bound of a probability whose logarithm is taken
SMALLEST_BASE = 1e-12  # lower bound of the focus's base; to the power of 4 it is 0


class TrainingLoss(nn.Cell):
    """Maps (logits, labels) to a loss; subclasses compute it `of_one` float32 output."""

    def __init__(self, weight=None, reduction="mean", label_smoothing=0.0, aux_factor=0.0):
        super().__init__()
        self.weight, self.reduction = weight, reduction
        self.label_smoothing, self.aux_factor = label_smoothing, aux_factor
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
        return ops.cast(labels, mstype.float32)

    def smooth(self, target, num_values: int):
        """Spread the share `label_smoothing` of the target evenly over `num_values`."""
        return target * (1.0 - self.label_smoothing) + self.label_smoothing / num_values

    def reduce(self, losses):
        if self.reduction == "mean":
            return losses.mean()
        if self.reduction == "sum":
            return losses.sum()
        return losses


class CrossEntropy(TrainingLoss):
    """`-sum(target * weight * log(softmax))`.

    The mean is over images, weighted by class weights if the labels are indices, as in torch.
    """

    def of_one(self, logits, labels):
        truth = self.probabilities(labels, logits.shape[1])
        log_p = log_softmax(logits)
        weighted = log_p if self.weight is None else log_p * self.weight
        losses = -(truth * weighted).sum(-1)
        if self.label_smoothing > 0.0:
            # Separately: a sum over only the many small smoothing terms loses fewer digits.
            losses = losses + self.label_smoothing * (-weighted.mean(-1) - losses)
        if self.weight is not None and self.reduction == "mean" and labels.ndim == 1:
            return losses.sum() / (truth * self.weight).sum()
        return self.reduce(losses)


class JensenShannon(TrainingLoss):
    """Cross entropy of the clean images plus alpha * the divergence of all copies (AugMix).

    The divergence is the mean over the copies of KL(copy's softmax || mean softmax), with a mean
    softmax of at least 1e-7. For training only, since an evaluation has no copies (timm
    `loss/jsd.py`).
    """

    def __init__(self, num_splits=3, jsd_alpha=12.0, **shared):
        super().__init__(**shared)
        self.cross_entropy = CrossEntropy(**{**shared, "aux_factor": 0.0})
        self.num_splits, self.alpha = num_splits, jsd_alpha

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
    """`-sum(target * focus * log(p))`; focus: `1 - p` for the true class, `p ** 4` for the others.

    The others count only with label smoothing. Labels are indices or one-hot (timm
    `loss/asymmetric_loss.py`).
    """

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        truth = self.probabilities(labels, num_classes)
        log_p = log_softmax(logits)
        p = ops.exp(log_p)
        # Not via 1 - (1 - p), which rounds small p to 0.
        focus = truth * (1.0 - p) + (1.0 - truth) * ops.square(ops.square(p))
        target = self.smooth(truth, num_classes)
        return self.reduce(-(target * focus * log_p).sum(-1))


class BinaryCrossEntropy(TrainingLoss):
    """`-weight * (target * log(p) + (1 - target) * log(1 - p))`, p the sigmoid of the logit.

    Wightman et al., ResNet strikes back (2021), and timm `loss/binary_cross_entropy.py`; mixed
    labels are smoothed here, in timm by its mixup.
    """

    def __init__(self, bce_target_thresh=None, **shared):
        super().__init__(**shared)
        self.target_threshold = bce_target_thresh

    def of_one(self, logits, labels):
        num_classes = logits.shape[1]
        target = self.probabilities(labels, num_classes)
        target = self.smooth(target, num_classes)
        if self.target_threshold is not None:
            target = ops.cast(target > self.target_threshold, logits.dtype)
        losses = binary_cross_entropy(logits, target)
        return self.reduce(losses if self.weight is None else losses * self.weight)


class AsymmetricMultiLabel(TrainingLoss):
    """`-weight * (t * (1 - p) * log(p) + (1 - t) * q ** 4 * log(1 - q))`, q = max(p - 0.05, 0).

    For targets t between 0 and 1, base and power of the focus are interpolated (timm
    `loss/asymmetric_loss.py`).
    """

    def of_one(self, logits, labels):
        target = self.probabilities(labels, logits.shape[1])
        target = self.smooth(target, 2)  # yes and no
        positive = ops.minimum(binary_cross_entropy(logits, self.on), -math.log(SMALLEST))
        wrong = ops.maximum(ops.sigmoid(logits) - MARGIN, 0.0)
        negative = -ops.log1p(-wrong)
        base = target * ops.sigmoid(-logits) + (1.0 - target) * wrong
        power = GAMMA_POSITIVE * target + GAMMA_NEGATIVE * (1.0 - target)
        # Via the logarithm, since the last bit of `pow` differs from run to run, see `logarithm`.
        focus = exponential(power * logarithm(ops.maximum(base, SMALLEST_BASE)))
        losses = (target * positive + (1.0 - target) * negative) * focus
        return self.reduce(losses if self.weight is None else losses * self.weight)


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
