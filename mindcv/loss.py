"""Training losses by name."""

from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype


def create_loss(
    name: str = "CE",
    weight: Tensor | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    aux_factor: float = 0.0,
) -> nn.Cell:
    """Return a loss Cell that maps (logits, labels) to a scalar.

    Args:
        name: CE, cross entropy.
        weight: weight of each class, (num_classes,); None: equal.
        reduction: mean, sum or none.
        label_smoothing: share of the target spread evenly over the classes.
        aux_factor: weight of the auxiliary logits of a network that returns a tuple.

    Raises:
        ValueError: unknown loss or reduction.
    """
    if name.lower() != "ce":
        raise ValueError(f"loss {name!r} is unknown; expected CE")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; expected mean, sum or none")
    return CrossEntropy(weight, reduction, label_smoothing, aux_factor)


class CrossEntropy(nn.Cell):
    """Softmax cross entropy, always computed in float32.

    Labels are class indices, (N,) int32, or probabilities, (N, num_classes). Logits are
    (N, num_classes), or a tuple whose first element is the main output.
    """

    def __init__(self, weight=None, reduction="mean", label_smoothing=0.0, aux_factor=0.0):
        super().__init__()
        self.cross_entropy = nn.CrossEntropyLoss(
            weight=weight, reduction=reduction, label_smoothing=label_smoothing
        )
        self.aux_factor = aux_factor

    def construct(self, logits, labels):
        if isinstance(logits, tuple):
            loss = self.of_one(logits[0], labels)
            if self.aux_factor > 0.0:
                for auxiliary in logits[1:]:
                    loss = loss + self.aux_factor * self.of_one(auxiliary, labels)
            return loss
        return self.of_one(logits, labels)

    def of_one(self, logits, labels):
        return self.cross_entropy(ops.cast(logits, mstype.float32), labels)
