"""Make losses.npz: losses and gradients of torch and timm for tests/engine/test_loss.py.

Run with torch and timm: `python make_losses.py`. All is computed in float64 from the float32
inputs of loss_cases.py. Where torchvision's compiled operators do not load, two empty ones are
defined first.
"""

from pathlib import Path

import numpy as np
import torch
from loss_cases import CLASSES, SPLITS, Case, cases, inputs
from torch.nn import functional

_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm import loss as timm_loss  # noqa: E402
from timm.loss import asymmetric_loss  # noqa: E402

ALPHA = 12.0


def main():
    given = inputs()
    found = [np.append(*loss_and_gradient(given, case)) for case in cases()]
    golden = np.concatenate(found).astype(np.float32)  # one array: a small file
    lengths = [len(values) for values in found]
    path = Path(__file__).with_name("losses.npz")
    np.savez_compressed(path, values=golden, lengths=lengths, **given)


def loss_and_gradient(given, case: Case):
    """Return loss and the gradient of its sum, weighted by `upstream` where it is no scalar."""
    logits = torch.tensor(given[case.logits].astype(np.float64), requires_grad=True)
    labels = torch.tensor(given[case.labels])[: len(logits)]
    labels = labels.long() if labels.ndim == 1 else labels.double()
    weight = torch.tensor(given[case.weight]).double() if case.weight else None
    function = {
        "CE": cross_entropy,
        "BCE": binary_cross_entropy,
        "asl_single_label": single_label,
        "asl_multi_label": multi_label,
        "jsd": jensen_shannon,
    }[case.loss]
    loss = function(logits, labels, weight, case)
    if loss.ndim:
        upstream = torch.tensor(given["upstream"]).double()
        upstream = upstream if loss.ndim == 2 else upstream[:, 0]
        loss.backward(upstream[: len(loss)])
    else:
        loss.backward()
    assert torch.isfinite(loss).all() and torch.isfinite(logits.grad).all(), case
    return loss.detach().numpy(), logits.grad.numpy()


def cross_entropy(logits, labels, weight, case):
    return functional.cross_entropy(
        logits, labels, weight, None, -100, None, case.reduction, case.smoothing
    )


def binary_cross_entropy(logits, labels, weight, case):
    """timm smooths indices; of mixed labels it lets its mixup smooth both parts."""
    if labels.ndim == 2:
        labels = labels * (1 - case.smoothing) + case.smoothing / CLASSES
    return timm_loss.BinaryCrossEntropy(
        case.smoothing, case.threshold, weight, reduction=case.reduction
    )(logits, labels)


def single_label(logits, labels, weight, case):
    labels = labels if labels.ndim == 1 else labels.argmax(1)
    rows = asymmetric_loss.AsymmetricLossSingleLabel(eps=case.smoothing, reduction="none")
    return reduce(rows(logits, labels), case)


def multi_label(logits, labels, weight, case):
    """The float32 casts of timm's forward are taken out, to compute in float64."""
    labels = labels.double() if labels.ndim == 2 else functional.one_hot(labels, CLASSES).double()
    loss = asymmetric_loss.AsymmetricLossMultiLabel(
        smoothing=case.smoothing, reduction=case.reduction, weight=weight
    )
    float32, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
    try:
        return loss(logits, labels)
    finally:
        torch.Tensor.float = float32


def jensen_shannon(logits, labels, weight, case):
    """timm's, image by image; written out where timm's gives no number: at a softmax of 0."""
    images = len(logits) // SPLITS
    entropy = cross_entropy(logits[:images], labels[:images], weight, case)
    log_copies = functional.log_softmax(logits, 1).reshape(SPLITS, images, -1)
    mixture = log_copies.exp().mean(0).clamp(1e-7, 1).log()
    rows = (log_copies.exp() * (log_copies - mixture)).sum(-1).mean(0)
    if case.logits != "large":
        for image in range(images):
            group = logits[image::images]
            plain = timm_loss.JsdCrossEntropy(SPLITS, ALPHA, 0.0)
            target = torch.zeros(1, dtype=torch.long)
            divergence = plain(group, target) - functional.cross_entropy(group[:1], target)
            torch.testing.assert_close(ALPHA * rows[image], divergence, rtol=1e-12, atol=1e-12)
    return entropy + ALPHA * reduce(rows, case)


def reduce(rows, case):
    return {"mean": rows.mean(), "sum": rows.sum(), "none": rows}[case.reduction]


if __name__ == "__main__":
    main()
