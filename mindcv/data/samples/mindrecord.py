"""Images out of MindRecord files: those of `python -m mindcv pack`, and others of that layout."""

import hashlib
import os
from pathlib import Path

import numpy as np

from ...errors import DataError
from .mindrecord_file import MindRecordFile
from .packed_set import FILE, PackedSet, read_packed_set


class MindRecordSamples:
    """Images 0 … n-1 of one split, in the order of the files and of their rows; see `Samples`.

    Args:
        root: folder of dataset.json; or of MindRecord files of any origin: those of the folder
            `<root>/<split>`, or else those of `root` whose names begin with `split`.
        class_indexing: class name to label, instead of the packed one; no effect without names.

    Raises:
        DataError: no such split; a file missing, cut, damaged, or of another layout; a class that
            is not in `class_indexing`.
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
        self._fingerprint = packed.splits[split].fingerprint
        self.class_names = packed.class_names
        if class_indexing:
            self._number_as(class_indexing, Path(root, split))
        self.num_classes = len(self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        """Return the image file's bytes, uint8 (bytes,).

        Raises:
            DataError: the MindRecord file is damaged.
        """
        file, row = self._place(index)
        return file.read(row)

    def name(self, index: int) -> str:
        """Return the path of the image in what was packed; else MindRecord file and row."""
        file, row = self._place(index)
        if file.has_names:
            return file.name(row).decode("utf-8", "backslashreplace")
        return f"{file.path} row {row}"

    def fingerprint(self) -> str:
        """Return the hash of names and labels; without names, of the sizes of the images.

        That of a packed image folder is the folder's own, unless images were left out.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(self.labels.astype("<i4"))
            for file in self._files:
                digest.update(os.fsencode(file.path.name) + file.lengths.astype("<i8").tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _place(self, index: int) -> tuple[MindRecordFile, int]:
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

    def _number_as(self, class_indexing: dict[str, int], place: Path) -> None:
        there = np.flatnonzero(np.bincount(self.labels, minlength=len(self.class_names)))
        unknown = [name for name in np.take(self.class_names, there) if name not in class_indexing]
        if unknown:
            raise DataError(
                f"{place} holds classes that are not in the training set: {', '.join(unknown[:5])}"
            )
        numbers = np.array([class_indexing.get(name, -1) for name in self.class_names], np.int32)
        names = tuple(sorted(class_indexing, key=class_indexing.get))
        if names != self.class_names:
            self.labels, self.class_names = numbers[self.labels], names
            self._fingerprint = None


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
