"""End a run whose score no longer improves."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..names import plural


@dataclass(frozen=True)
class EarlyStop:
    """Ends a run after `patience` evaluations in a row without a better score; 0: never.

    A score is better if it exceeds the best one by more than `min_delta` (source: Keras,
    `EarlyStopping`). It keeps nothing: a run that continues ends in the epoch in which it would
    have ended.

    Args:
        after: epochs up to this one raise the best score and are not counted.
    """

    patience: int = 0
    min_delta: float = 0.0
    after: int = 0

    def ending(self, scores: Iterable[tuple[int, float]], title: str = "top-1") -> str:
        """Say why a run with these scores, (epoch, percent), is over; empty: it is not."""
        best, waited = -math.inf, 0
        for epoch, score in scores:
            if score - self.min_delta > best:
                best, waited = score, 0
            elif epoch > self.after:
                waited += 1
            if 0 < self.patience <= waited:
                count = plural(waited, "evaluation")
                return f"stopped early in epoch {epoch}: no better {title} in {count}"
        return ""
