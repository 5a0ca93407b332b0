"""CIFAR: images of one size in a few binary files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...errors import DataError

# Folder, file of the class names, classes and label bytes of a row.
_CIFAR = {
    "cifar10": ("cifar-10-batches-bin", "batches.meta.txt", 10, 1),
    "cifar100": ("cifar-100-binary", "fine_label_names.txt", 100, 2),
}
# Rows of the files of a split.
_FILES = {
    ("cifar10", "train"): {f"data_batch_{number}.bin": 10000 for number in range(1, 6)},
    ("cifar10", "test"): {"test_batch.bin": 10000},
    ("cifar100", "train"): {"train.bin": 50000},
    ("cifar100", "test"): {"test.bin": 10000},
}
_SIDE = 32  # pixels
_PIXELS = 3 * _SIDE * _SIDE


class CifarSamples:
    """CIFAR-10 or CIFAR-100, from the files of the binary version; see `Samples`.

    The files are mapped into memory: nothing is read before it is asked for, and processes share
    what was read. CIFAR-100 gives the fine labels.

    Args:
        name: cifar10 or cifar100.
        root: holds the files, or the folder of the archive that does.
        split: train, test or val, the same as test.
        class_indexing: must number the classes as the files do.

    Raises:
        DataError: no such split, a file missing or cut, other classes.
    """

    encoded = False
    in_memory = True

    def __init__(
        self, name: str, root: str, split: str, class_indexing: Mapping[str, int] | None = None
    ):
        inner, names_file, self.num_classes, self._skip = _CIFAR[name]
        usage = {"train": "train", "test": "test", "val": "test"}.get(split)
        if usage is None:
            raise DataError(f"split {split!r} of {name} is unknown; expected train, test or val")
        folder = Path(root, inner) if Path(root, inner).is_dir() else Path(root)
        rows = {folder / file: count for file, count in _FILES[name, usage].items()}
        missing = [path.name for path in rows if not path.is_file()]
        if missing:
            raise DataError(
                f"no {', '.join(missing)} in {folder}; the {usage} split of {name} needs all files "
                f"of the binary version: unpack its archive anew into {root}"
            )
        self._files = list(rows)
        self._parts = [_rows(path, count, self._skip + _PIXELS) for path, count in rows.items()]
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.labels = np.concatenate([part[:, self._skip - 1] for part in self._parts])
        self.labels = self.labels.astype(np.int32)
        if self.labels.max() >= self.num_classes:
            raise DataError(
                f"{self.name(int(self.labels.argmax()))}: label {self.labels.max()} is none of the "
                f"{self.num_classes} classes of {name}; the file is damaged"
            )
        self.class_names = _names_in_file(folder / names_file, self.num_classes)
        _check_numbering(name, self.class_names, class_indexing)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        part, row = self._place(index)
        pixels = self._parts[part][row, self._skip :].reshape(3, _SIDE, _SIDE)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def name(self, index: int) -> str:
        part, row = self._place(index)
        return f"{self._files[part]}, row {row}"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.labels.astype("<i4"))
        for path, part in zip(self._files, self._parts):
            digest.update(f"{path.name} {len(part)}\n".encode())
        return digest.hexdigest()

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self.labels):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, "right")) - 1
        return part, index - int(self._starts[part])


def _rows(path: Path, count: int, row_bytes: int) -> np.ndarray:
    """Return the rows of a file, (count, row_bytes) uint8, read when they are used."""
    size, expected = path.stat().st_size, count * row_bytes
    if size != expected:
        kind = "incomplete" if size < expected else "another file"
        raise DataError(f"{path} is {kind}: {size} bytes, expected {expected}; unpack it anew")
    try:
        return np.memmap(path, np.uint8, "r").reshape(-1, row_bytes)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _names_in_file(path: Path, count: int) -> tuple[str, ...] | None:
    """Return the names that CIFAR's archive brings beside the images, None where they are not."""
    if not path.is_file():
        return None
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: it is no text; unpack it anew or remove it") from None
    return names if len(names) == count else None


def _check_numbering(
    name: str, names: tuple[str, ...] | None, wanted: Mapping[str, int] | None
) -> None:
    """Refuse another numbering of the classes than the files' own.

    Raises:
        DataError: the classes are others, or in another order.
    """
    if names and wanted and tuple(sorted(wanted, key=wanted.get)) != names:
        raise DataError(
            f"the classes of {name} are {', '.join(names[:3])}, …; expected here are "
            f"{', '.join(sorted(wanted, key=wanted.get)[:3])}, …"
        )
