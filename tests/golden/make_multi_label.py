"""Write multi_label.npz: figures of several labels by scikit-learn, losses and gradients by torch.

Needs scikit-learn and torch. `python tests/golden/make_multi_label.py`. Scores are rounded, so that
many are equal; class 3 has no image and class 5 is shown by every image.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

IMAGES, CLASSES = 60, 6


def main() -> None:
    rng = np.random.default_rng(0)
    shown = (rng.random((IMAGES, CLASSES)) < 0.3).astype(np.float32)
    shown[:, 3], shown[:, 5] = 0, 1
    logits = np.round(rng.normal(0, 2, shown.shape) + 2 * shown - 1, 1).astype(np.float32)
    said = logits >= 0
    known = shown.any(0)
    precisions = average_precision_score(shown[:, known], logits[:, known], average=None)
    arrays = {
        "shown": shown,
        "logits": logits,
        "average precision": precisions,
        "mAP": average_precision_score(shown[:, known], logits[:, known], average="macro"),
        "classes": np.array(precision_recall_fscore_support(shown, said, zero_division=0)),
    }
    for average in ("micro", "macro"):
        arrays[f"{average} F1"] = f1_score(shown, said, average=average, zero_division=np.nan)
    for reduction in ("mean", "sum"):
        inputs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        loss = torch.nn.BCEWithLogitsLoss(reduction=reduction)
        loss = loss(inputs, torch.tensor(shown).double())
        loss.backward()
        arrays |= {f"loss {reduction}": loss.item(), f"gradient {reduction}": inputs.grad.numpy()}
    np.savez_compressed(Path(__file__).with_name("multi_label.npz"), **arrays)


if __name__ == "__main__":
    main()
