"""Inputs and cases for make_losses.py and test_loss.py."""

import itertools
from dataclasses import astuple, dataclass

import numpy as np

BATCH, CLASSES, SPLITS = 6, 5, 3


@dataclass(frozen=True)
class Case:
    """One call of a loss; the texts name entries of `inputs`."""

    loss: str
    logits: str = "logits"
    labels: str = "index"
    weight: str = ""
    reduction: str = "mean"
    smoothing: float = 0.0
    threshold: float | None = None

    def __str__(self):
        return "-".join(map(str, astuple(self)))


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    large = rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32)
    large[np.arange(BATCH), rng.integers(0, CLASSES, BATCH)] = 1e4
    large[::2, 1] = -1e4
    weight = rng.uniform(0.2, 2.0, CLASSES).astype(np.float32)
    index = rng.integers(0, CLASSES, BATCH).astype(np.int32)
    return {
        "logits": rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32),
        "large": large,
        "half": rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float16),
        "zero": np.zeros((BATCH, CLASSES), np.float32),
        "single": rng.normal(0, 3, (1, CLASSES)).astype(np.float32),
        "single split": rng.normal(0, 3, (SPLITS, CLASSES)).astype(np.float32),
        "auxiliary": rng.normal(0, 3, (BATCH, CLASSES)).astype(np.float32),
        "index": index,
        "soft": rng.dirichlet(np.ones(CLASSES), BATCH).astype(np.float32),
        "one-hot": np.eye(CLASSES, dtype=np.float32)[index],
        "multi-hot": (rng.random((BATCH, CLASSES)) < 0.4).astype(np.float32),
        "weight": weight,
        "class without weight": np.where(np.arange(CLASSES) == index[0], 0, weight).astype("f4"),
        "upstream": rng.uniform(0.5, 1.5, (BATCH, CLASSES)).astype(np.float32),
    }


def cases() -> list[Case]:
    labels = {
        "CE": ("index", "soft", "one-hot"),
        "BCE": ("index", "soft", "multi-hot"),
        "asl_single_label": ("index", "one-hot"),
        "asl_multi_label": ("index", "soft", "multi-hot"),
        "jsd": ("index", "soft"),
    }
    found = []
    for loss, kinds in labels.items():
        for logits, kind in itertools.product(("logits", "large"), kinds):
            found += [Case(loss, logits, kind, smoothing=s) for s in (0.0, 0.1, 0.999)]
        single = "single split" if loss == "jsd" else "single"
        for logits, kind in itertools.product(("half", "zero", single), kinds):
            found.append(Case(loss, logits, kind, smoothing=0.1))
        weights = ("",) if loss == "asl_single_label" else ("", "weight")
        for kind, weight, reduction in itertools.product(kinds, weights, ("mean", "sum", "none")):
            found.append(Case(loss, "logits", kind, weight, reduction, 0.1))
        if loss != "asl_single_label":
            found.append(Case(loss, "logits", "index", "class without weight"))
    for kind, smoothing in itertools.product(labels["BCE"], (0.0, 0.6)):
        found.append(Case("BCE", "logits", kind, "", "sum", smoothing, threshold=0.2))
    return list(dict.fromkeys(found))
