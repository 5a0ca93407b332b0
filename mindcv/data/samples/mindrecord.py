"""Images in MindRecord files: those of `python -m mindcv pack`, and others of that layout."""

import json
import os
import sqlite3
import urllib.parse
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...process.files import reading, sha256_of
from .packed_set import FILE, PackedSet, read_packed_set
from .protocol import renumber

FORMAT = "3.0"
IMAGE_COLUMNS = ("image", "data")
LABEL_COLUMN = "label"
NAME_COLUMN = "name"
_MOST_HEADER_BYTES = 128 << 20  # MindSpore's own limit
_PLACES = ("ROW_ID", "PAGE_ID_BLOB", "PAGE_OFFSET_BLOB", "PAGE_OFFSET_BLOB_END")


class MindRecordSamples:
    """The images of one split, in the order of the files and of their rows; see `Samples`.

    Args:
        root: folder of dataset.json; or of foreign MindRecord files: those in `<root>/<split>`, or
            else those in `root` whose names begin with `split`.
        class_indexing: see `renumber`; foreign files have no class names, so it has no effect.

    Raises:
        DataError: unknown split; a file missing, truncated, damaged, or of another layout; a class
            that is not in `class_indexing`.
    """

    encoded = True

    def __init__(self, root: str, split: str, class_indexing: dict[str, int] | None = None):
        self.class_names, self._fingerprint = None, None
        packed = read_packed_set(root)
        paths = (
            _foreign_files(root, split) if packed is None else _packed_files(root, split, packed)
        )
        self._files = [MindRecordFile(path) for path in paths]
        self.labels = np.concatenate([file.labels for file in self._files])
        self._starts = np.cumsum([0, *map(len, self._files)])
        if packed is None:
            self.num_classes = int(self.labels.max()) + 1
            return
        self._check_rows(packed, split)
        self.class_names, self.num_classes = packed.class_names, len(packed.class_names)
        renumber(self, class_indexing, os.path.join(root, split))
        if self.class_names == packed.class_names:
            self._fingerprint = packed.splits[split].fingerprint

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        file, row = self._place(index)
        return file.read(row)

    def name(self, index: int) -> str:
        """Return the path of the packed image; without names, MindRecord file and row."""
        file, row = self._place(index)
        if file.has_names:
            return file.name(row).decode("utf-8", "backslashreplace")
        return f"{file.path} row {row}"

    def fingerprint(self) -> str:
        """Return the hash of names and labels; without names, of labels and image sizes.

        A packed image folder has the fingerprint of the folder itself, unless images were skipped.
        """
        if self._fingerprint is None:
            sizes = (
                os.fsencode(file.path.name) + file.lengths.astype("<i8").tobytes()
                for file in self._files
            )
            self._fingerprint = sha256_of(self.labels.astype("<i4"), *sizes)
        return self._fingerprint

    def _place(self, index: int) -> tuple["MindRecordFile", int]:
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        return self._files[number], int(index - self._starts[number])

    def _check_rows(self, packed: PackedSet, split: str) -> None:
        for file, shard in zip(self._files, packed.splits[split].shards):
            if len(file) != shard.images or not file.has_names:
                raise DataError(f"{file.path} holds {len(file)} rows, expected {shard.images}")
            if file.labels.max() >= len(packed.class_names):
                raise DataError(
                    f"{file.path} holds the label {file.labels.max()}, but {FILE} names "
                    f"{len(packed.class_names)} classes"
                )


def _packed_files(root: str, split: str, packed: PackedSet) -> list[Path]:
    if split not in packed.splits:
        raise DataError(f"{root} holds the splits {', '.join(packed.splits)}; not {split!r}")
    shards = packed.splits[split].shards
    problems = [problem for shard in shards if (problem := shard.problem(Path(root)))]
    if problems:
        raise DataError(
            f"{len(problems)} of {len(shards)} shards of {root}: {'; '.join(problems[:5])}; copy "
            "them anew or pack again"
        )
    return [Path(root, shard.file) for shard in shards]


def _foreign_files(root: str, split: str) -> list[Path]:
    if not Path(root).is_dir():
        raise DataError(f"there is no folder {root}; expected one with {FILE} of `mindcv pack`")
    folder = Path(root, split)
    start = "" if folder.is_dir() else split
    folder = folder if folder.is_dir() else Path(root)
    paths = [path for path in sorted(folder.iterdir()) if path.name.startswith(start)]
    records = [path for path in paths if path.with_name(f"{path.name}.db") in paths]
    alone = [path for path in paths if path.suffix == ".mindrecord" and path not in records]
    if alone:
        raise DataError(f"{alone[0]} has no index beside it: {alone[0]}.db is missing")
    if not records:
        raise DataError(
            f"{folder} holds no MindRecord files of {split!r} (NAME with NAME.db beside it), and "
            f"{root} no {FILE} of `python -m mindcv pack`"
        )
    return records


class MindRecordFile:
    """The rows of one file, in the order in which they were written; its index is `<path>.db`.

    Attributes:
        labels: (n,) int32.
        lengths: (n,) int64, bytes of the rows.
        has_names: the rows have a bytes column `name`.

    Raises:
        DataError: file or index missing, truncated, of another format or without the columns image
            (or data; bytes) and label (int32 or int64). Also while reading a damaged row.
    """

    def __init__(self, path: Path):
        self.path = path
        with reading(path, DataError):
            self._file = open(path, "rb", buffering=0)
        size = os.fstat(self._file.fileno()).st_size
        header = self._read_header(size)
        fields, self._blob_fields = self._check_columns(header)
        self._image = next(i for i, name in enumerate(self._blob_fields) if name in IMAGE_COLUMNS)
        self.has_names = NAME_COLUMN in self._blob_fields and fields[NAME_COLUMN]["type"] == "bytes"
        self._offsets, self.lengths, labels = self._read_index(header)
        self._check_places(size)
        self.labels = self._check_labels(self._labels_of_rows() if labels is None else labels)

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, row: int) -> np.ndarray:
        return self._field(row, self._image)

    def name(self, row: int) -> bytes:
        return self._field(row, self._blob_fields.index(NAME_COLUMN)).tobytes()

    def _read_header(self, size: int) -> dict:
        length = int.from_bytes(os.pread(self._file.fileno(), 8, 0), "little")
        try:
            if not 2 <= length <= min(size - 8, _MOST_HEADER_BYTES):
                raise ValueError("no header")
            header = json.loads(os.pread(self._file.fileno(), length, 8))
            version, places = header["version"], (header["header_size"], header["page_size"])
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{self.path} ({size} bytes) is no MindRecord file, is cut, or is encrypted"
            ) from None
        if version != FORMAT:
            raise DataError(f"{self.path} has MindRecord's format {version!r}; expected {FORMAT}")
        if not all(isinstance(place, int) and place > 0 for place in places):
            raise DataError(f"{self.path}: the header is damaged: sizes {places}")
        return header

    def _check_columns(self, header: dict) -> tuple[dict, list[str]]:
        try:
            (schema,) = header["schema"]
            fields, blob_fields = schema["schema"], schema["blob_fields"]
            images = [name for name in blob_fields if name in IMAGE_COLUMNS]
            label = fields.get(LABEL_COLUMN, {})
            fits = (
                len(images) == 1
                and fields[images[0]] == {"type": "bytes"}
                and label in ({"type": "int32"}, {"type": "int64"})
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(f"{self.path}: the header holds no readable schema") from None
        if not fits:
            found = ", ".join(f"{name} {kind}" for name, kind in fields.items())
            raise DataError(
                f"{self.path} has the columns {found}; expected one column image or data of bytes "
                "and a column label of int32 or int64, a number for each row"
            )
        return fields, blob_fields

    def _read_index(self, header: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return offset and size of each row's bytes, and its label if the index holds it."""
        path = f"{self.path}.db"
        if not os.path.isfile(path):
            raise DataError(f"{self.path} has no index beside it: {path} is missing")
        address = f"file:{urllib.parse.quote(os.fsencode(path))}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(address, uri=True)
            try:
                known = {row[1] for row in connection.execute("PRAGMA table_info(INDEXES)")}
                label = f"{LABEL_COLUMN}_0"  # the field's name and the number of the schema
                columns = [*_PLACES, label] if label in known else _PLACES
                query = f"SELECT {', '.join(columns)} FROM INDEXES ORDER BY ROW_ID"
                row = np.dtype((np.int64, len(columns)))
                table = np.fromiter(connection.execute(query), row)
            finally:
                connection.close()
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{path} is no index of a MindRecord file: {error}") from None
        table = table.reshape(-1, len(columns))
        if not len(table) or (table[:, 0] != np.arange(len(table))).any():
            raise DataError(f"{path} does not number its rows 0 … n-1: it holds {len(table)}")
        _, page, start, end = table[:, :4].T
        offsets = header["header_size"] + page * header["page_size"] + start
        return offsets, (end - start).astype(np.int64), table[:, 4] if label in known else None

    def _check_places(self, size: int) -> None:
        ends = self._offsets + self.lengths
        if (self.lengths < 8).any() or (self._offsets < 0).any():
            raise DataError(f"{self.path}.db is damaged: it holds rows without bytes")
        if ends.max() > size:
            raise DataError(f"{self.path} is cut: {size} bytes, but its index needs {ends.max()}")
        for row in (0, len(self) - 1):  # the index of another file cannot fit by chance
            self.read(row)

    def _labels_of_rows(self) -> np.ndarray:
        """Read labels that are not in the index, through MindSpore, at 0.1 ms a row."""
        import mindspore.dataset as ds

        try:
            # In MindSpore 2.10 a second thread waits for ever for an index that the first one
            # closed at a damaged column.
            rows = ds.MindDataset(
                [str(self.path)], [LABEL_COLUMN], num_parallel_workers=1, shuffle=False
            )
            rows = rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
            labels = np.array([label for (label,) in rows], np.int64).reshape(-1)
        except RuntimeError:
            labels = np.zeros(0, np.int64)
        if len(labels) != len(self):
            raise DataError(
                f"{self.path}.db is damaged: it has no column {LABEL_COLUMN}_0, and MindSpore "
                "cannot read the labels without; make it anew, or take it from where it came from"
            )
        return labels

    def _check_labels(self, labels: np.ndarray) -> np.ndarray:
        if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
            raise DataError(
                f"{self.path} holds the labels {labels.min()} … {labels.max()}; expected class "
                "numbers from 0 on"
            )
        return labels.astype(np.int32)

    def _field(self, row: int, number: int) -> np.ndarray:
        blob = np.empty(self.lengths[row], np.uint8)
        with reading(self.path, DataError):
            got = os.preadv(self._file.fileno(), [blob], self._offsets[row])
        # A row is its length, then the bytes of a single field, or length and bytes of each field.
        if got == len(blob) and int(blob[:8].view("<u8")[0]) == len(blob) - 8:
            if len(self._blob_fields) == 1:
                return blob[8:]
            start = 8
            for field in range(number + 1):
                length = int.from_bytes(blob[start : start + 8].tobytes(), "big")
                start += 8 if field == number else 8 + length
            if start + length <= len(blob):
                return blob[start : start + length]
        raise DataError(
            f"{self.path} is damaged or cut at row {row}; make it anew, or take the file from "
            "where it came from"
        )
