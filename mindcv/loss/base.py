"""What all losses share: auxiliary outputs, float32, reduction."""

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

# The focusing of the asymmetric losses, of the certain negatives harder than of the positives: the
# powers of timm and MindCV.
GAMMA_POSITIVE, GAMMA_NEGATIVE = 1.0, 4.0


class TrainingLoss(nn.Cell):
    """Map (logits, labels) to a loss; a subclass says in `of_one` how for one float32 output."""

    def __init__(self, reduction: str, aux_factor: float):
        super().__init__()
        self.reduction, self.aux_factor = reduction, aux_factor
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

    def reduce(self, losses):
        if self.reduction == "mean":
            return losses.mean()
        if self.reduction == "sum":
            return losses.sum()
        return losses
