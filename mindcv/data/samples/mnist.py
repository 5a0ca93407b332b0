"""MNIST and its like (Fashion, K-, EMNIST): images and labels in idx files, packed or not."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from ..image_check import as_bmp

_LARGEST = 2**30  # bytes; the largest set of this kind, EMNIST by class, has half of it
_FOLDERS = ("", "MNIST/raw", "mnist")
_PARTS = {"train": "train", "test": "t10k", "val": "t10k"}


class MnistSamples:
    """The images of `train-images-idx3-ubyte` and `t10k-…`, grey, as RGB; see `Samples`.

    They are handed on as BMP files: the transforms decode them like any other image.

    Args:
        root: holds the files, or a folder MNIST/raw or mnist that does. They may end in .gz, and
            have a dot in place of the second hyphen.
        split: train, test or val, the same as test.
        class_indexing: must number the classes as the files do: "0", "1", …

    Raises:
        DataError: no such split, a file missing, cut, or of another kind.
    """

    encoded = True
    in_memory = True
    num_classes = 10
    class_names = tuple(map(str, range(10)))

    def __init__(self, root: str, split: str, class_indexing: Mapping[str, int] | None = None):
        part = _PARTS.get(split)
        if part is None:
            raise DataError(f"split {split!r} of mnist is unknown; expected train, test or val")
        if class_indexing and dict(class_indexing) != {n: int(n) for n in self.class_names}:
            raise DataError(
                f"the classes of mnist are 0 to 9; expected here are "
                f"{', '.join(list(class_indexing)[:3])}, …"
            )
        self._file = _find(Path(root), f"{part}-images", 3)
        self._images = _read_idx(self._file, 3)
        labels_file = _find(Path(root), f"{part}-labels", 1)
        self.labels = _read_idx(labels_file, 1).astype(np.int32)
        if len(self.labels) != len(self._images) or not len(self.labels):
            raise DataError(
                f"{self._file} holds {len(self._images)} images and {labels_file} "
                f"{len(self.labels)} labels"
            )
        if self.labels.max() >= self.num_classes:
            raise DataError(f"{labels_file}: label {self.labels.max()} is none of 10 classes")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> np.ndarray:
        return as_bmp(Image.fromarray(self._images[index]).convert("RGB"))

    def name(self, index: int) -> str:
        return f"{self._file}, image {index}"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.labels.astype("<i4"))
        digest.update(str(self._images.shape).encode())
        return digest.hexdigest()


def _find(root: Path, name: str, dimensions: int) -> Path:
    for folder in _FOLDERS:
        for joint in ("-", "."):
            for suffix in ("", ".gz"):
                path = root / folder / f"{name}{joint}idx{dimensions}-ubyte{suffix}"
                if path.is_file():
                    return path
    raise DataError(f"no {name}-idx{dimensions}-ubyte or …-ubyte.gz in {root} or {root}/MNIST/raw")


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of an idx file, uint8; of a compressed one no more than it announces."""
    head = 4 * (1 + dimensions)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(head)
            if len(start) < head or start[:4] != bytes((0, 0, 8, dimensions)):
                raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions")
            shape = [int(size) for size in np.frombuffer(start[4:], ">u4")]
            if 0 in shape[1:]:
                sides = " x ".join(map(str, shape[1:]))
                raise DataError(f"{path} is damaged: its header tells images of {sides} pixels")
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
