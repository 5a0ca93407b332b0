"""What an evaluation finds for each image and each class, and the files that hold it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.confusion_picture import draw_confusion
from ..data.contact_sheet import save_png
from ..errors import ConfigError
from ..process.files import printable, write_text, writing
from ..process.tables import aligned, write_csv
from .device import Runtime
from .evaluation import Measured, log_softmax


class Outcomes:
    """Collects what an evaluation finds for each image; pass it to `evaluate` as `watch`."""

    def __init__(self):
        self._batches = []

    def __call__(self, logits: np.ndarray, labels: np.ndarray) -> None:
        labels = labels.astype(np.int64)
        logs, predicted, rows = log_softmax(logits), logits.argmax(1), np.arange(len(labels))
        true = logs[rows, labels]
        shares = np.exp(np.stack([logs[rows, predicted], true], 1))
        self._batches.append((labels, predicted, -true, shares))

    def arrays(self) -> list[np.ndarray]:
        """Return labels, predicted classes, cross entropies (N,) and probabilities (N, 2).

        They are in the order of the loader; the label of a bad image is -1. The probabilities are
        those of the predicted and of the true class.
        """
        empty = [np.zeros(0, np.int64)] * 2 + [np.zeros(0), np.zeros((0, 2))]
        return [np.concatenate(parts) for parts in zip(*(self._batches or [empty]))]

    def of_all_ranks(self, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and predicted classes of the intact images of every process.

        Every process must call it.
        """
        labels, predicted, *_ = self.arrays()
        found = rows_of_all_ranks(np.stack([labels, predicted], 1), runtime).astype(np.int64)
        return tuple(found.T)


def rows_of_all_ranks(own: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Return the rows, (N, k), of the intact images of every process, float32.

    Every process must call it. The first number of a row is -1 where an image is bad.
    """
    longest = int(runtime.gather([len(own)]).max())
    padded = np.full((longest, own.shape[1]), -1, np.float32)
    padded[: len(own)] = own
    found = runtime.gather(padded.ravel()).reshape((-1, own.shape[1]))
    return found[found[:, 0] >= 0]


@dataclass(frozen=True)
class ClassFigures:
    """How often each class was found, missed and, with one label an image, taken for another.

    Attributes:
        names: of the classes, in the order of the logits.
        support, predicted, hits: (classes,), images of each class, that were taken for it, and of
            both.
        pairs, counts: (M, 2) and (M,), the true and the predicted class of all pairs that occur,
            and the images of each; None with several labels an image.
        average_precision: (classes,), only with several labels an image.
    """

    names: tuple[str, ...]
    support: np.ndarray
    predicted: np.ndarray
    hits: np.ndarray
    pairs: np.ndarray | None = None
    counts: np.ndarray | None = None
    average_precision: np.ndarray | None = None

    @classmethod
    def of(cls, names: Sequence[str], labels: np.ndarray, predicted: np.ndarray) -> "ClassFigures":
        """Compare the class of each image with the one predicted, both (N,)."""
        flat, counts = np.unique(labels * len(names) + predicted, return_counts=True)
        images = (labels, predicted, labels[labels == predicted])
        each = (np.bincount(classes, minlength=len(names)) for classes in images)
        pairs = np.stack(np.divmod(flat, len(names)), 1)
        return cls(tuple(names), *each, pairs=pairs, counts=counts)

    @property
    def titles(self) -> dict[str, str]:
        """The attributes that hold a fraction for each class, and what they are called."""
        own = {} if self.average_precision is None else {"average_precision": "average precision"}
        return own | {"precision": "precision", "recall": "recall", "f1": "F1"}

    @property
    def precision(self) -> np.ndarray:
        """Share of the images taken for a class that show it; 0 where there is none."""
        return self.hits / np.maximum(1, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """Share of the images of a class that were found; 0 where there is none."""
        return self.hits / np.maximum(1, self.support)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall; 0 where both are."""
        return 2 * self.hits / np.maximum(1, self.support + self.predicted)

    def means(self, weighted: bool = False) -> dict[str, float]:
        """Return the means of the figures over the classes that have them.

        Args:
            weighted: by the images of a class; else all classes count alike that have an image or
                were predicted (source: scikit-learn, `precision_recall_fscore_support`).
        """
        shares = self.support if weighted else (self.support + self.predicted > 0)
        means = {}
        for name in self.titles:
            values = getattr(self, name)
            is_known = ~np.isnan(values)
            means[name] = float(np.average(values[is_known], weights=shares[is_known]))
        return means

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures of each class, for a table."""
        keys = ("class_index", "class_name", *self.titles, "support")
        columns = [getattr(self, name).tolist() for name in keys[2:]]
        rows = zip(range(len(self.names)), self.names, *columns)
        # NaN, the figure of a class that has none, is no JSON.
        return [{k: v if v == v else None for k, v in zip(keys, row)} for row in rows]

    def describe(self, most: int = 10) -> list[str]:
        """Return the means, and a table of the classes with the lowest F1, at most `most`."""
        titles = self.titles
        means = ", ".join(f"{titles[name]} {100 * v:.3f} %" for name, v in self.means().items())
        is_there = self.support + self.predicted > 0
        classes = np.flatnonzero(is_there)
        classes = classes[np.argsort(self.f1[classes], kind="stable")[:most]]
        rows = [("class", *titles.values(), "images")]
        for index in classes.tolist():
            figures = (f"{100 * getattr(self, name)[index]:.2f}" for name in titles)
            rows.append((printable(self.names[index]), *figures, str(self.support[index])))
        which = f", the {most} with the lowest F1" if is_there.sum() > most else ""
        title = f"mean of {is_there.sum()} classes: {means}; in percent{which}:"
        lines = [title, *aligned(rows)]
        without = [printable(self.names[index]) for index in np.flatnonzero(self.support == 0)]
        if without:
            more = ", …" if len(without) > most else ""
            lines.append(f"without images: {', '.join(without[:most])}{more}")
        return lines

    def matrix(self, classes: Sequence[int] | None = None) -> np.ndarray:
        """Return counts (classes, classes): rows are true classes, columns predicted ones."""
        chosen = np.arange(len(self.names)) if classes is None else np.asarray(classes)
        place = np.full(len(self.names), -1)
        place[chosen] = np.arange(len(chosen))
        rows, columns = place[self.pairs].T
        inside = (rows >= 0) & (columns >= 0)
        found = np.zeros((len(chosen), len(chosen)), np.int64)
        found[rows[inside], columns[inside]] = self.counts[inside]
        return found


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of one set of weights, and what it is of."""

    file: str
    model: str
    weights: str  # averaged or raw
    params: int
    accuracy: Measured
    figures: ClassFigures

    def about(self) -> dict[str, Any]:
        """Return a row of the table: accuracies in percent, means over the classes as fractions."""
        accuracy = asdict(self.accuracy)
        means = {f"macro_{name}": value for name, value in self.figures.means().items()}
        known = {"file": self.file, "model": self.model, "weights": self.weights}
        return known | {"params": self.params} | accuracy | means


def compare(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return a table with a line for each evaluation."""
    figures = {**evaluations[0].accuracy.task.figures, "loss": "loss"}
    figures.setdefault("macro_f1", "F1")
    rows = [("file", "model", "weights", "params, M", *figures.values(), "images")]
    for one in evaluations:
        found = {"macro_f1": 100 * one.figures.means()["f1"], **one.accuracy.figures()}
        rows.append(
            (
                printable(one.file),
                one.model,
                one.weights,
                f"{one.params / 1e6:.2f}",
                *(_shown(name, found[name]) for name in figures),
                str(one.accuracy.images),
            )
        )
    return aligned(rows, left=(0, 1, 2))


def _shown(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{4 if name == 'loss' else 3}f}"


def write_evaluations(folder: Path, evaluations: Sequence[Evaluation], **about: Any) -> None:
    """Write the files of `write_results`, of several evaluations into a folder of its own each.

    Those are `1_<file's name>`, `2_…`; `comparison.csv` has a row for each.

    Args:
        about: what each metrics.json says besides.
    """
    folders = [folder]
    if len(evaluations) > 1:
        folders = [folder / f"{n}_{Path(e.file).stem}" for n, e in enumerate(evaluations, 1)]
    for place, one in zip(folders, evaluations):
        write_results(place, one.about() | about, one.figures)
    if len(evaluations) > 1:
        rows = [one.about() for one in evaluations]
        write_csv(folder / "comparison.csv", [list(rows[0]), *(row.values() for row in rows)])


def write_results(folder: Path, about: Mapping[str, Any], figures: ClassFigures) -> None:
    """Write metrics.json, classes.csv and, of single labels, confusion.csv and .png into a folder.

    The folder is made; its files of these names are replaced.

    Args:
        about: what metrics.json says besides, in JSON's types.

    Raises:
        ConfigError: a file cannot be written.
    """
    names, rows = figures.names, figures.rows()
    content = {
        **about,
        "macro_mean": figures.means(),
        "weighted_mean": figures.means(weighted=True),
        "classes": rows,
    }
    if figures.pairs is not None:
        pairs = zip(figures.pairs.tolist(), figures.counts.tolist())
        content["confusions"] = [
            {"true": names[true], "predicted": names[predicted], "images": count}
            for (true, predicted), count in pairs
        ]
    with writing(folder, ConfigError):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_text(folder / "metrics.json", f"{text}\n", ConfigError)
    write_csv(folder / "classes.csv", [list(rows[0]), *(row.values() for row in rows)])
    if figures.pairs is None:
        return
    matrix = ([name, *row] for name, row in zip(names, figures.matrix()))
    write_csv(folder / "confusion.csv", [["true \\ predicted", *names], *matrix])
    save_png(draw_confusion(figures), folder / "confusion.png")
