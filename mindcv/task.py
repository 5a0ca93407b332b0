"""What a classifier decides of an image: which class it shows, or yes or no for each class."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Task:
    """How images are labelled, and what an evaluation measures.

    Attributes:
        name: in the metadata of weights.
        figures: of an evaluation, in percent: name of a column of metrics.csv -> title. The first
            one is the score, which decides which epoch is the best.
        top_k: classes of a prediction at most; None: all.
        threshold: smallest probability of a predicted class.
    """

    name: str
    figures: Mapping[str, str]
    top_k: int | None
    threshold: float

    @property
    def score(self) -> str:
        return next(iter(self.figures))

    @property
    def score_title(self) -> str:
        return self.figures[self.score]


SINGLE_LABEL = Task("single_label", {"top1": "top-1", "top5": "top-5"}, top_k=5, threshold=0.0)
MULTI_LABEL = Task(
    "multi_label",
    {"map": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1"},
    top_k=None,
    threshold=0.5,
)
TASKS = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL)}
