"""Lists of images with several labels each: `<data_dir>/<split>.csv`, one name a class."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DataError
from .lists import (
    PATHS,
    ListSamples,
    Row,
    classes_in_list,
    classes_of_labels,
    number_classes,
    with_path,
)
from .protocol import names_in_order

LABELS = "labels"
_SEPARATORS = ";|,"  # the first one of these in a list separates its labels; without any, blanks
_OTHERS = ("path", "split", "is_valid")  # columns that are no class
_ANSWERS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}


class MultiLabelSamples(ListSamples):
    """The images of a csv list whose images show several classes, one or none; see `Samples`.

    The first column is called path, image, fname or filename. Either a column labels holds the
    classes of an image, separated by semicolons; in a list without a semicolon by "|", else by
    commas, else by blanks; names or numbers as in `ListSamples`. Or each further column is a class,
    in the order of the columns, with 1 where the image shows it and 0 elsewhere. `labels` is
    (n, num_classes) uint8.

    Args:
        root, split, class_indexing: as for `ListSamples`.

    Raises:
        DataError: as `ListSamples`; an image is listed twice; a column labels is empty; a class
            column holds anything but 0 and 1, or the columns are not the classes of the training.
    """

    def __init__(self, root: str, split: str, class_indexing: Mapping[str, int] | None = None):
        self._classes: list[str] | None = None  # of the columns; None: there is a column labels
        self._listed: dict[bytes, str] = {}  # path to its place
        super().__init__("multi_label", root, split, class_indexing)
        self._listed.clear()

    def header(self, file: Path, columns: Sequence[str]) -> list[str]:
        given, columns = columns, with_path(columns)
        classes = [name for name in columns if name not in _OTHERS]
        problem = None
        if columns.count("path") != 1 or columns.count(LABELS) > 1:
            problem = f"expected one of the columns {', '.join(PATHS)}, and at most one labels"
        elif LABELS in columns:
            classes = None
        elif "label" in columns:
            problem = "a column label holds one class per image: call it labels, or use dataset csv"
        elif not classes or "" in classes or len(set(classes)) < len(classes):
            problem = "expected a column labels, or one of 0 and 1, with its name, for each class"
        if problem:
            raise DataError(f"{file}:1: the columns are {', '.join(given) or 'none'}; {problem}")
        self._classes = classes
        return columns

    def path_of(self, place: str, row: Row) -> bytes:
        path = super().path_of(place, row)
        first = self._listed.setdefault(os.path.normpath(path), place)
        if first != place:
            raise DataError(
                f"{place}: {row['path']} is listed at {first} already; write all labels of an "
                "image into one row"
            )
        return path

    def label_of(self, place: str, row: Row) -> str | tuple[str, ...]:
        # A text of names until the whole list has told what separates them.
        if None in row:
            raise DataError(f"{place}: more fields than columns; separate labels by semicolons")
        if self._classes is None:
            if not (row[LABELS] or "").strip(f" {_SEPARATORS}"):
                raise DataError(
                    f"{place}: no labels; for images without any, write a list with a column of 0 "
                    "and 1 for each class"
                )
            if row[LABELS].strip()[0] in "[({":  # as pandas writes a column of Python lists
                raise DataError(
                    f"{place}: labels {row[LABELS]!r:.40}; write the names alone, a semicolon "
                    "between them"
                )
            return row[LABELS]
        answers = [_ANSWERS.get((row[name] or "").strip().lower()) for name in self._classes]
        if None in answers:
            name = self._classes[answers.index(None)]
            raise DataError(
                f"{place}: {row[name]!r:.40} in the column {name}; expected 0 or 1 for each class"
            )
        return tuple(name for name, answer in zip(self._classes, answers) if answer)

    def number(
        self, first: Mapping[str | tuple[str, ...], str], class_indexing: Mapping[str, int] | None
    ) -> tuple[dict[str, int], np.ndarray]:
        own, shown = self._classes, list(first)
        if own is None:
            known = "".join(class_indexing or ())  # what is in a name separates none
            marks = (mark for mark in _SEPARATORS if mark not in known)
            separator = next((mark for mark in marks if any(mark in text for text in first)), None)
            if separator is None and " " in known:
                separator = ";"
            shown = [[*filter(None, map(str.strip, text.split(separator)))] for text in first]
        places: dict[str, str] = {}  # class name to where it first appears
        for place, names in zip(first.values(), shown):
            for name in names:
                places.setdefault(name, place)
        columns = own and {name: number for number, name in enumerate(own)}
        numbers = dict(class_indexing or columns or number_classes(places))
        if own and (different := sorted(numbers.keys() ^ set(own))):
            raise DataError(
                f"{self.file}:1: the class columns are not those of the training set; the "
                f"difference: {', '.join(different[:5])}"
            )
        labels = dict(zip(places, classes_of_labels(places, numbers)))
        marked = np.zeros((len(shown), len(names_in_order(numbers))), np.uint8)
        rows = np.repeat(np.arange(len(shown)), list(map(len, shown)))
        marked[rows, [labels[name] for names in shown for name in names]] = 1
        return numbers, marked


list_classes = partial(classes_in_list, "multi_label", MultiLabelSamples)
