"""Predictions as text, JSON and CSV; the class names they are told with."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ...process.foreign_text import printable, table_cell


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        path: as it was named.
        classes: indices of the likeliest classes, the likeliest first.
        probabilities: theirs, from the softmax over all classes.
    """

    path: str
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


def read_class_names(path: str) -> tuple[str, ...]:
    """Read class names in the order of the logits.

    A text file has one a line. A JSON file has a list, or an object from index to name, where a
    list in place of a name counts with its last entry (`{"0": ["n01440764", "tench"], …}`).

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text)) if path.lower().endswith(".json") else _lines(text)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"class_names: {path!r} cannot be read: {reason}") from None
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names: {path!r} holds no list of names")
    return tuple(names)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.rstrip().splitlines()]


def _from_json(found) -> list[str]:
    if isinstance(found, Mapping):
        found = [found[str(index)] for index in range(len(found))]
    return [entry[-1] if isinstance(entry, list) else entry for entry in found]


def class_name(names: Sequence[str] | None, index: int) -> str:
    """Return a class's name, or nothing where the names are not known."""
    return names[index] if names else ""


def prediction_lines(prediction: Prediction, names: Sequence[str] | None) -> list[str]:
    """Return the lines for the terminal: the path, then a line for each class."""
    rows = zip(prediction.classes, prediction.probabilities)
    return [
        printable(prediction.path),
        *(
            f"  {p:7.2%}  {index:>4}  {printable(class_name(names, index))}".rstrip()
            for index, p in rows
        ),
    ]


def write_json(
    path: Path,
    model: str,
    predictions: Sequence[Prediction],
    names: Sequence[str] | None,
    skipped: Mapping[str, str],
) -> None:
    """Write the predictions, and the files skipped with the reasons."""
    content = {
        "model": model,
        "images": [
            {"path": entry.path, "predictions": [row for row in _rows(entry, names)]}
            for entry in predictions
        ],
        "skipped": [{"path": name, "reason": reason} for name, reason in skipped.items()],
    }
    # A path of bytes that are no UTF-8 becomes JSON's own escapes.
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def write_csv(path: Path, predictions: Sequence[Prediction], names: Sequence[str] | None) -> None:
    """Write one row for each image and class."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        columns = ("path", "rank", "class_index", "class_name", "probability")
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for entry in predictions:
            for row in _rows(entry, names):
                foreign = {"path": entry.path, "class_name": row["class_name"]}
                writer.writerow(row | {name: table_cell(text) for name, text in foreign.items()})


def _rows(entry: Prediction, names: Sequence[str] | None) -> list[dict]:
    return [
        {
            "rank": rank,
            "class_index": index,
            "class_name": class_name(names, index),
            "probability": probability,
        }
        for rank, (index, probability) in enumerate(zip(entry.classes, entry.probabilities), 1)
    ]
