"""Lists of images: `<data_dir>/<split>.csv`, `.json` or `.jsonl`, with a path and a label each."""

import csv
import json
import os
import re
from array import array
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...process.files import reading
from .files import FileSamples, NameTable
from .protocol import names_in_order

_SUFFIXES = {"csv": (".csv",), "json": (".json", ".jsonl"), "multi_label": (".csv",)}
_MOST_CLASSES = 1_000_000  # larger numbers are refused
# pandas writes whole numbers as 3.0 if their column has gaps.
_WHOLE = re.compile(r"\+?0*(\d+)(\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
PATHS = ("path", "image", "fname", "filename")  # names of the column with the paths
_LOOKED_AT = 5  # paths checked before the list is accepted

Row = dict[str, Any]  # by column
Header = Callable[[Path, list[str]], list[str]]  # checks the columns of a csv file and names them
_IS_VALID = {"true": "val", "1": "val", "false": "train", "0": "train"}  # fastai's column


class ListSamples(FileSamples):
    """The images of a csv or json list; see `Samples`.

    A csv file has the columns path and label; where path is missing, image, fname or filename
    stands for it. A json file holds a list of objects with the keys path and label, or one object
    path -> label; a jsonl file has one object per line. Other columns are ignored.
    Paths are absolute or relative to the list's folder. A label is the name of a class or its
    number (3.0 means 3); surrounding blanks are stripped. If all labels of a list are numbers, the
    classes are 0 to the largest one; otherwise they are the sorted names.

    Args:
        root: the folder with `<split>.csv`, or `<split>.json` or `<split>.jsonl`; or one file,
            whose column split selects the rows. A file without that column serves only the split
            that it is named after.
        class_indexing: class name to label; None: the list's own numbering.

    Raises:
        DataError: the list is missing or unreadable, or lists no image; a row has no path or label;
            a label is not in class_indexing, or is negative or fractional where all are numbers;
            none of a few sampled paths exists.
    """

    def __init__(
        self, kind: str, root: str, split: str, class_indexing: Mapping[str, int] | None = None
    ):
        self.file = _find_list(kind, Path(root), split)
        first: dict[Hashable, str] = {}  # label to the place where it first appears
        seen: dict[Hashable, int] = {}  # label to its number in order of appearance
        order = array("i")

        def names() -> Iterator[bytes]:
            for place, row in _rows_of_split(self.file, Path(root), split, self.header):
                label = self.label_of(place, row)
                first.setdefault(label, place)
                order.append(seen.setdefault(label, len(seen)))
                yield self.path_of(place, row)

        self._top = os.fsencode(self.file.parent)
        self._names = NameTable.of(names())
        if not order:
            raise DataError(f"{self.file} lists no image of the split {split!r}")
        numbers, labels = self.number(first, class_indexing)
        self.num_classes = max(numbers.values()) + 1
        self.class_names, self.class_indexing = names_in_order(numbers), numbers
        self.labels = labels[np.frombuffer(order, np.int32)]
        self._check_paths(next(iter(first.values())))

    # What a list with other columns reads in its own way:

    def header(self, file: Path, columns: list[str]) -> list[str]:
        """Check the columns of a csv file, and return their names."""
        renamed = columns if "path" in columns else with_path(columns)
        if renamed.count("path") != 1 or "label" not in renamed:
            raise DataError(
                f"{file}:1: the columns are {', '.join(columns) or 'none'}; expected label and one "
                f"of {', '.join(PATHS)}"
            )
        return renamed

    def path_of(self, place: str, row: Row) -> bytes:
        return _path(place, row["path"])

    def label_of(self, place: str, row: Row) -> Hashable:
        if row.get("label") in (None, ""):
            raise DataError(f"{place}: no label")
        return _label(place, row["label"])

    def number(
        self, first: Mapping[str, str], class_indexing: Mapping[str, int] | None
    ) -> tuple[dict[str, int], np.ndarray]:
        """Return class name to number, and what `labels` holds for each result of `label_of`.

        Args:
            first: each result to the place where it first appears.
        """
        numbers = dict(class_indexing or number_classes(first))
        return numbers, np.array(classes_of_labels(first, numbers), np.int32)

    def _check_paths(self, first_place: str) -> None:
        some = np.linspace(0, len(self) - 1, min(_LOOKED_AT, len(self))).astype(int)
        if not any(os.path.lexists(self.path(index)) for index in some):
            raise DataError(
                f"{first_place}: no file {self.name(0)}, nor any of {len(some)} looked for; paths "
                f"are absolute or relative to {self.file.parent}"
            )


def with_path(columns: Sequence[str]) -> list[str]:
    return ["path" if name in PATHS else name for name in columns]


def classes_in_list(
    kind: str, opens: Callable[[str, str], ListSamples], root: str, split: str
) -> tuple[str, ...] | None:
    """Return the class names of a split; None if it is not there."""
    lists = [Path(root), *_places(kind, Path(root), split)]
    return opens(root, split).class_names if any(path.is_file() for path in lists) else None


open_csv, open_json = partial(ListSamples, "csv"), partial(ListSamples, "json")
csv_classes = partial(classes_in_list, "csv", open_csv)
json_classes = partial(classes_in_list, "json", open_json)


def _places(kind: str, root: Path, split: str) -> list[Path]:
    return [root / (split + suffix) for suffix in _SUFFIXES[kind]]


def _find_list(kind: str, root: Path, split: str) -> Path:
    if root.is_file():
        if kind == "multi_label" and root.suffix.lower() != ".csv":
            raise DataError(f"{root} is not a list; expected a .csv file")
        return root
    there = [path for path in _places(kind, root, split) if path.is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        raise DataError(f"{there[0]} and {there[1]} both list the split {split!r}; remove one")
    expected = " or ".join(map(str, _places(kind, root, split)))
    if not root.is_dir():
        raise DataError(f"no list {expected}; {root} does not exist")
    found = ", ".join(sorted(os.listdir(root))[:5]) or "nothing"
    raise DataError(f"no list {expected}; {root} holds {found}")


def _rows_of_split(file: Path, root: Path, split: str, header: Header) -> Iterator[tuple[str, Row]]:
    """Yield the place, file and line, and the content of each row."""
    is_shared = file == root and file.stem != split  # one file for all splits
    splits: dict[str, str] = {}  # in a file of one split: what its column says, to the place
    for place, row in _rows(file, header):
        if row.get("path") in (None, ""):
            raise DataError(f"{place}: no path")
        if file == root and "is_valid" in row and "split" not in row:
            row["split"] = _split_of(place, row["is_valid"])
        if is_shared and "split" not in row:
            raise DataError(_no_column_split(place, file, split))
        if file != root:
            _check_one_split(splits, place, row, f"{file} as the split {split!r}")
        if "split" not in row or file != root or row["split"] == split:
            yield place, row


def _rows(file: Path, header: Header) -> Iterator[tuple[str, Row]]:
    csv_rows = partial(_csv_rows, header=header)
    read = {".csv": csv_rows, ".json": _json_rows, ".jsonl": _jsonl_rows}.get(file.suffix.lower())
    if read is None:
        raise DataError(f"{file} is not a list; expected a .csv, .json or .jsonl file")
    with (  # file names need not be UTF-8: their bytes are kept as they are
        reading(file, DataError),
        file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines,
    ):
        yield from read(file, lines)


def tells_splits(file: Path) -> bool:
    """Return whether the first row of a list says of which split it is."""
    with closing(_rows(file, lambda _, columns: columns)) as rows:
        return any({"split", "is_valid"} & row.keys() for _, row in islice(rows, 1))


def _check_one_split(splits: dict[str, str], place: str, row: Row, whole: str) -> None:
    """Refuse a list that divides its images, where all of them would be read."""
    column = next((name for name in ("split", "is_valid") if name in row), None)
    if column is None:
        return
    splits.setdefault(f"{column} {row[column]}", place)
    if len(splits) > 1:
        (first, earlier), (other, _) = splits.items()
        raise DataError(
            f"{place}: {other}, and {earlier}: {first}, would both be read from {whole}; name the "
            "file itself as data_dir for the split that each row tells, or take the column out"
        )


def _split_of(place: str, is_valid: Any) -> str:
    split = _IS_VALID.get(str(is_valid).strip().lower())
    if split is None:
        raise DataError(f"{place}: is_valid {is_valid!r:.40}; expected True or False")
    return split


def _no_column_split(place: str, file: Path, split: str) -> str:
    own = file.with_stem(split)
    if own.is_file():
        return f"{place}: no column split; {own} is there: name their folder, {own.parent}"
    return (
        f"{place}: no column split, which a list of several splits needs; or put the images of "
        f"{split!r} into a list {own} of their own"
    )


def _csv_rows(file: Path, lines, header: Header) -> Iterator[tuple[str, Row]]:
    table = csv.DictReader(lines, strict=True)
    try:
        table.fieldnames = header(file, [name.strip() for name in table.fieldnames or ()])
        for row in table:
            yield f"{file}:{table.line_num}", row
    except csv.Error as error:
        raise DataError(f"{file}:{table.line_num}: {error}") from None


def _json_rows(file: Path, lines) -> Iterator[tuple[str, Row]]:
    content = _parsed(file, 1, lines.read())
    if isinstance(content, dict):
        content = [{"path": path, "label": label} for path, label in content.items()]
    if not isinstance(content, list):
        raise DataError(f"{file}: expected a list of objects, or one object path -> label")
    for number, row in enumerate(content, 1):
        yield _object(f"{file}, entry {number}", row)


def _jsonl_rows(file: Path, lines) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object(f"{file}:{number}", _parsed(file, number, line.strip()))


def _parsed(file: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line += getattr(error, "lineno", 1) - 1
        raise DataError(f"{file}:{line}: {getattr(error, 'msg', error)}") from None


def _object(place: str, row: Any) -> tuple[str, Row]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected an object with path and label, got {row!r:.40}")
    return place, row


def _path(place: str, path: Any) -> bytes:
    if not isinstance(path, str) or "\0" in path:
        raise DataError(f"{place}: {path!r:.40} is no path")
    return _encoded(place, path)


def _encoded(place: str, text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        raise DataError(f"{place}: {text!r:.40} is not valid text") from None


def _label(place: str, label: Any) -> str:
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, bool) or not isinstance(label, (str, int)):
        raise DataError(f"{place}: label {label!r:.40} is neither a name nor a whole number")
    label = str(label).strip()
    if not label:
        raise DataError(f"{place}: no label")
    return label


def number_classes(first: Mapping[str, str]) -> dict[str, int]:
    """Return class name to number; `first` maps each label to the place where it first appears."""
    if not all(_NUMBER.fullmatch(label) for label in first):
        names = {label: _encoded(place, label) for label, place in first.items()}
        return {name: index for index, name in enumerate(sorted(names, key=names.get))}
    numbers = {label: _whole_number(label) for label in first}
    for label, place in first.items():
        if numbers[label] is None:
            raise DataError(
                f"{place}: label {label:.40}: where all labels are numbers they are those of the "
                "classes, 0, 1, …; number the classes so, or write names"
            )
        if numbers[label] >= _MOST_CLASSES:
            raise DataError(f"{place}: label {label:.40} is too large for a class")
    return {str(index): index for index in range(max(numbers.values()) + 1)}


def classes_of_labels(first: Mapping[str, str], numbers: Mapping[str, int]) -> list[int]:
    """Return the class of each label; numbers are class numbers unless the names say otherwise."""
    own = all(_whole_number(name) in (None, index) for name, index in numbers.items())
    largest, found = max(numbers.values()), []
    for label, place in first.items():
        number = numbers.get(label, _whole_number(label) if own else None)
        if number is None or number > largest:
            known = ", ".join(list(numbers)[:3])
            raise DataError(
                f"{place}: label {label!r:.40} is not in the training set, whose classes are "
                f"{known}, …"
            )
        found.append(number)
    return found


def _whole_number(label: str) -> int | None:
    found = _WHOLE.fullmatch(label)
    return int(found[1][:10]) if found else None  # more digits are too large for a class anyway
