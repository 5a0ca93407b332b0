"""Training losses by name."""

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn

from .sigmoid import AsymmetricMultiLabel, BinaryCrossEntropy
from .softmax import AsymmetricSingleLabel, CrossEntropy, JensenShannon

LOSSES = ("CE", "BCE", "asl_single_label", "asl_multi_label", "jsd")


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
    """Return a loss Cell that maps (logits, labels) to a scalar, computed in float32.

    Logits are (N, num_classes), or a tuple of such, the network's main output first. Labels are
    class indices, (N,) int32, or probabilities, (N, num_classes); label smoothing applies to both,
    so that mixed labels come unsmoothed.

    Args:
        name: CE, softmax cross entropy; BCE, a binary cross entropy of each class;
            asl_single_label and asl_multi_label, asymmetric focal losses (Ridnik et al., 2021);
            jsd, cross entropy of clean images and Jensen-Shannon divergence of their augmented
            copies (Hendrycks et al., AugMix, 2020). In any case of letters.
        weight: weight of each class, (num_classes,); None: equal. asl_single_label has none.
        reduction: mean, sum or none. The mean and none of BCE and asl_multi_label are over all
            elements of (N, num_classes), else over N. MindCV's asl_multi_label always sums.
        label_smoothing: share of the target spread evenly over the classes; asl_multi_label moves
            each class's target this share of the way to 1/2.
        aux_factor: weight of the auxiliary logits of a network that returns a tuple.
        bce_target_thresh: BCE's targets above it, after smoothing, count as 1, the others as 0;
            None: as they are.
        num_splits: copies of each image that jsd finds in a batch, the clean one first: logits are
            (num_splits * N, num_classes) and the first N labels belong to them.
        jsd_alpha: weight of jsd's divergence.

    Raises:
        ValueError: unknown loss or reduction, or an argument the loss has no use for.
    """
    known = {loss.lower(): loss for loss in LOSSES}.get(name.lower())
    if known is None:
        raise ValueError(f"loss {name!r} is unknown; expected {', '.join(LOSSES)}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction {reduction!r} is unknown; expected mean, sum or none")
    if bce_target_thresh is not None and known != "BCE":
        raise ValueError(f"bce_target_thresh belongs to BCE; loss {known} has none")
    if weight is not None and not isinstance(weight, Tensor):
        weight = Tensor(np.asarray(weight, np.float32))
    if known == "CE":
        return CrossEntropy(weight, reduction, label_smoothing, aux_factor)
    if known == "BCE":
        return BinaryCrossEntropy(weight, reduction, label_smoothing, aux_factor, bce_target_thresh)
    if known == "asl_multi_label":
        return AsymmetricMultiLabel(weight, reduction, label_smoothing, aux_factor)
    if known == "jsd":
        if num_splits < 2:
            raise ValueError(
                f"jsd compares 2 copies of an image or more, not num_splits {num_splits}"
            )
        return JensenShannon(weight, reduction, label_smoothing, aux_factor, num_splits, jsd_alpha)
    if weight is not None:
        raise ValueError("asl_single_label has no class weights; leave weight out or use CE")
    return AsymmetricSingleLabel(reduction, label_smoothing, aux_factor)
