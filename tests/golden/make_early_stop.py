"""Write early_stop.json: when Keras ends a run, for tests/runs/test_early_stop.py.

Run once, with keras installed: `KERAS_BACKEND=torch python tests/golden/make_early_stop.py`. Scores
have whole and half per cents, so that some equal each other and some differ by the threshold.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np

EVALUATIONS, CASES = 16, 60


def main():
    rng, cases = np.random.default_rng(5), []
    for _ in range(CASES):
        scores = (np.round(2 * np.cumsum(rng.normal(0.2, 1.5, EVALUATIONS))) / 2 + 50).tolist()
        patience, threshold = int(rng.integers(1, 6)), float(rng.choice([0.0, 0.5, 1.0]))
        cases.append([scores, patience, threshold, stopped_at(scores, patience, threshold)])
    source = f"keras {keras.__version__}; made by tests/golden/make_early_stop.py"
    result = {"_source": source, "columns": "scores, patience, min_delta, ends", "cases": cases}
    text = json.dumps(result).replace("], [[", "],\n[[")
    Path(__file__).with_name("early_stop.json").write_text(text + "\n")


def stopped_at(scores: list[float], patience: int, threshold: float) -> int | None:
    """Return the evaluation, from 1, after which Keras stops; None: it does not."""
    callback = keras.callbacks.EarlyStopping("top1", threshold, patience, mode="max")
    callback.set_model(SimpleNamespace(stop_training=False))
    callback.on_train_begin()
    for epoch, score in enumerate(scores):
        callback.on_epoch_end(epoch, {"top1": score})
        if callback.model.stop_training:
            return epoch + 1
    return None


if __name__ == "__main__":
    main()
