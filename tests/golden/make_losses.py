"""Make losses.npz: cross entropies and their gradients by torch for tests/test_loss.py.

Run with torch: `python make_losses.py`. Everything is computed in float64 from float32 inputs.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

BATCH, CLASSES = 6, 5


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32)
    large = rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32)
    large[np.arange(BATCH), rng.integers(0, CLASSES, BATCH)] = 100.0
    large[::2, 1] = -100.0
    return {
        "logits": logits,
        "large": large,
        "half": rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float16),
        "auxiliary": rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32),
        "labels": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        "soft": rng.dirichlet(np.ones(CLASSES), BATCH).astype(np.float32),
        "weight": rng.uniform(0.2, 2.0, CLASSES).astype(np.float32),
        "upstream": rng.uniform(0.5, 1.5, BATCH).astype(np.float32),
    }


def cross_entropy(given, logits, target, weighted, reduction, smoothing):
    """Return loss and the gradient of its sum, weighted by `upstream` where it is a vector."""
    leaf = torch.tensor(given[logits].astype(np.float64), requires_grad=True)
    labels = torch.tensor(given[target])
    labels = labels.long() if target == "labels" else labels.double()
    weight = torch.tensor(given["weight"]).double() if weighted else None
    loss = functional.cross_entropy(leaf, labels, weight, None, -100, None, reduction, smoothing)
    loss.backward(torch.tensor(given["upstream"]).double() if reduction == "none" else None)
    return loss.detach().numpy(), leaf.grad.numpy()


def main():
    given = inputs()
    golden = dict(given)
    for case in itertools.product(
        ("logits", "large", "half"),
        ("labels", "soft"),
        (False, True),
        ("mean", "sum", "none"),
        (0.0, 0.1),
    ):
        name = "/".join(map(str, case))
        golden[f"{name}/loss"], golden[f"{name}/gradient"] = cross_entropy(given, *case)
    np.savez_compressed(Path(__file__).with_name("losses.npz"), **golden)


if __name__ == "__main__":
    main()
