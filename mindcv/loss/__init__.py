"""Training losses by name; the command line reads the table, which needs no MindSpore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..names import canonical

if TYPE_CHECKING:
    from mindspore import Tensor, nn


@dataclass(frozen=True)
class LossRow:
    where: str  # name of its class in `losses`
    takes: tuple[str, ...] = ("weight",)  # arguments of `create_loss` that not every loss has
    mixes: bool = True  # it is defined for the labels of mixed images
    splits: bool = False  # it compares the copies of an image that aug_splits makes


LOSSES = {
    "CE": LossRow("CrossEntropy"),
    "BCE": LossRow("BinaryCrossEntropy", takes=("weight", "bce_target_thresh")),
    "asl_single_label": LossRow("AsymmetricSingleLabel", takes=(), mixes=False),
    "asl_multi_label": LossRow("AsymmetricMultiLabel"),
    "jsd": LossRow(
        "JensenShannon", takes=("weight", "num_splits", "jsd_alpha"), mixes=False, splits=True
    ),
}


def create_loss(
    name: str = "CE",
    weight: Tensor | Sequence[float] | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    aux_factor: float = 0.0,
    bce_target_thresh: float | None = None,
    num_splits: int = 3,
    jsd_alpha: float = 12.0,
) -> nn.Cell:
    """Return a Cell that maps (logits, labels) to a scalar loss, computed in float32.

    Logits are (N, num_classes), or a tuple of these, the network's main output first. Labels are
    class indices, (N,) int32, or probabilities, (N, num_classes). Label smoothing applies to both,
    so do not smooth mixed labels beforehand.

    Args:
        name: in upper or lower case. CE: softmax cross entropy. BCE: binary cross entropy of each
            class. asl_single_label, asl_multi_label: asymmetric focal losses (Ridnik et al., 2021).
            jsd: cross entropy of clean images plus Jensen-Shannon divergence of their augmented
            copies (Hendrycks et al., AugMix, 2020).
        weight: weight of each class, (num_classes,); asl_single_label has none.
        reduction: mean, sum or none; mean and none are over all N * num_classes elements for BCE
            and asl_multi_label, else over N. MindCV's asl_multi_label always sums.
        label_smoothing: share of the target spread evenly over the classes; asl_multi_label moves
            each class's target this share of the way to 1/2.
        aux_factor: weight of the auxiliary logits, those after the first in a tuple.
        bce_target_thresh: BCE's targets above it, after smoothing, become 1 and the others 0; None:
            unchanged.
        num_splits: copies of each image in a batch of jsd, the clean ones first: logits are
            (num_splits * N, num_classes), and the first N labels belong to the clean images.
        jsd_alpha: weight of jsd's divergence.

    Raises:
        ValueError: unknown loss or reduction, or an argument that the loss does not take.
    """
    import numpy as np
    from mindspore import Tensor

    from . import losses

    known = canonical(name, LOSSES)
    if known not in LOSSES:
        raise ValueError(f"loss {name!r} is unknown; expected {', '.join(LOSSES)}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; expected mean, sum or none")
    row = LOSSES[known]
    if bce_target_thresh is not None and "bce_target_thresh" not in row.takes:
        raise ValueError(f"bce_target_thresh belongs to BCE; loss {known} has none")
    if weight is not None and "weight" not in row.takes:
        raise ValueError(f"{known} has no class weights; leave weight out or use CE")
    if row.splits and num_splits < 2:
        raise ValueError(
            f"{known} compares 2 copies of an image or more, not num_splits {num_splits}"
        )
    if weight is not None and not isinstance(weight, Tensor):
        weight = Tensor(np.asarray(weight, np.float32))
    own = dict(bce_target_thresh=bce_target_thresh, num_splits=num_splits, jsd_alpha=jsd_alpha)
    return getattr(losses, row.where)(
        weight=weight,
        reduction=reduction,
        label_smoothing=label_smoothing,
        aux_factor=aux_factor,
        **{name: value for name, value in own.items() if name in row.takes},
    )
