"""Training losses by name; the command line reads the table, which needs no MindSpore."""

# ruff: noqa: F401
from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..mindcv_paths import at_first_use
from ..names import canonical

if TYPE_CHECKING:
    from mindspore import Tensor, nn

    from .losses import (
        AsymmetricLossMultilabel,
        AsymmetricLossSingleLabel,
        BinaryCrossEntropySmooth,
        CrossEntropySmooth,
        JSDCrossEntropy,
    )

_logger = logging.getLogger("mindcv.train")


class UnknownLossError(ValueError, NotImplementedError):
    """A name that is not in LOSSES; MindCV's scripts catch NotImplementedError."""


@dataclass(frozen=True)
class LossRow:
    where: str  # name of its class in `losses`
    takes: tuple[str, ...] = ("weight",)  # arguments of `create_loss` that not every loss has
    mixes: bool = True  # it is defined for the labels of mixed images
    splits: bool = False  # it compares the copies of an image that aug_splits makes
    multi_label: bool = False  # a yes or no for each class
    sums: bool = False  # always the plain sum, as its authors defined it


LOSSES = {
    "CE": LossRow("CrossEntropySmooth"),
    "BCE": LossRow(
        "BinaryCrossEntropySmooth", takes=("weight", "bce_target_thresh"), multi_label=True
    ),
    "asl_single_label": LossRow("AsymmetricLossSingleLabel", takes=(), mixes=False),
    "asl_multi_label": LossRow("AsymmetricLossMultilabel", multi_label=True, sums=True),
    "jsd": LossRow(
        "JSDCrossEntropy", takes=("weight", "num_splits", "jsd_alpha"), mixes=False, splits=True
    ),
}
_NAMES = {"bce_target_thresh": "target_threshold", "jsd_alpha": "alpha"}  # in their classes

__all__ = ["LOSSES", "LossRow", "create_loss", *(row.where for row in LOSSES.values())]


__getattr__, _ = at_first_use(__name__)


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
    class indices, (N,) int32, or probabilities, 1 and 0 for several labels, (N, num_classes). Label
    smoothing applies to both, so do not smooth mixed labels beforehand.

    Args:
        name: in upper or lower case. CE: softmax cross entropy. BCE: binary cross entropy of each
            class. asl_single_label, asl_multi_label: asymmetric focal losses (Ridnik et al., 2021).
            jsd: in training, cross entropy of clean images plus Jensen-Shannon divergence of their
            augmented copies (Hendrycks et al., AugMix, 2020); in evaluation, cross entropy.
        weight: weight of each class, (num_classes,); asl_single_label has none.
        reduction: mean, sum or none; mean and none are over all N * num_classes elements for BCE,
            else over N. asl_multi_label is always the sum over all elements.
        label_smoothing: share of the target spread evenly over the classes; asl_multi_label has
            none.
        aux_factor: weight of the auxiliary logits, those after the first in a tuple.
        bce_target_thresh: BCE's targets above it, after smoothing, become 1 and the others 0; None:
            unchanged.
        num_splits: copies of each image in a batch of jsd, the clean ones first: logits are
            (num_splits * N, num_classes), and the first N labels belong to the clean images.
        jsd_alpha: weight of jsd's divergence.

    Raises:
        UnknownLossError: a ValueError and NotImplementedError.
        ValueError: unknown reduction, or an argument that the loss does not take.
    """
    from . import losses

    known = canonical(name, LOSSES)
    if known not in LOSSES:
        raise UnknownLossError(f"loss {name!r} is unknown; expected {', '.join(LOSSES)}")
    losses.check_reduction(reduction)
    row = LOSSES[known]
    if bce_target_thresh is not None and "bce_target_thresh" not in row.takes:
        raise ValueError(f"bce_target_thresh belongs to BCE; loss {known} has none")
    if weight is not None and "weight" not in row.takes:
        raise ValueError(f"{known} has no class weights; leave weight out or use CE")
    shared = dict(reduction=reduction, smoothing=label_smoothing)
    if row.sums:
        if label_smoothing or reduction == "none":
            _logger.warning(
                "loss %s is a sum without smoothing, whatever reduction %s and label_smoothing %g "
                "say; mindcv.loss.%s takes both",
                *(known, reduction, label_smoothing, row.where),
            )
        shared = {}
    given = dict(weight=weight, num_splits=num_splits, jsd_alpha=jsd_alpha)
    given["bce_target_thresh"] = bce_target_thresh
    own = {_NAMES.get(key, key): value for key, value in given.items() if key in row.takes}
    return getattr(losses, row.where)(aux_factor=aux_factor, **shared, **own)
