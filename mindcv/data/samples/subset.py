"""Some images of a dataset: those of chosen classes, or one side of a split."""

import csv
import os
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...process.files import replacing, sha256_of
from .files import read_head
from .protocol import ImageError, Samples, class_name, read_image

_CHECKED = 32  # images that are read twice
_HEAD = 4096  # bytes of a file; with its size they tell almost all images apart
_THREADS = 16
_MOST_NAMED = 5


class View:
    """Other `Samples`, unchanged, behind attributes of its own."""

    def __init__(self, samples: Samples):
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._samples, name)


class Subset(View):
    """The images of `samples` with these indices, numbered anew; see `Samples`.

    All classes stay, under their numbers.
    """

    def __init__(self, samples: Samples, indices: np.ndarray):
        super().__init__(samples)
        self._indices, self.labels = indices, samples.labels[indices]
        if getattr(samples, "coarse_labels", None) is not None:
            self.coarse_labels = samples.coarse_labels[indices]
        if hasattr(samples, "path"):
            self.path = lambda index: samples.path(int(indices[index]))

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> np.ndarray:
        return self._samples.read(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._samples.name(int(self._indices[index]))

    def others(self) -> "Subset":
        """Return the images that are not among these."""
        everything = np.arange(len(self._samples))
        return Subset(self._samples, np.setdiff1d(everything, self._indices))

    def fingerprint(self) -> str:
        return sha256_of(self._samples.fingerprint().encode(), self._indices.astype("<i8"))


def select(
    samples: Samples,
    classes: Collection[str] | None = None,
    extensions: Sequence[str] | None = None,
) -> Samples:
    """Return the images of some classes, and with some extensions, of an image folder.

    Raises:
        DataError: there is none.
    """
    keep = np.ones(len(samples), bool)
    if classes is not None:
        keep = np.array([name in classes for name in samples.class_names])[samples.labels]
    if extensions is not None:
        endings = tuple(map(os.fsencode, extensions))
        keep &= [samples.path(index).endswith(endings) for index in range(len(samples))]
    if keep.all():
        return samples
    if not keep.any():
        given = (("of the classes", classes), ("with the extensions", extensions))
        asked = [f"{what} {', '.join([*names][:5])}" for what, names in given if names is not None]
        raise DataError(f"{samples.folder} holds no image {' '.join(asked)}")
    return Subset(samples, np.flatnonzero(keep))


def hold_out(samples: Samples, fraction: float, held_out: bool) -> Subset:
    """Return the images that are held out of a training to evaluate on, or the others.

    Of each class, this share of the images is held out, rounded to whole images, at least one and
    not all: those whose content has the smallest hashes. So the side of an image depends on no
    seed, name or place: the same images in another folder, a list or a packed dataset are divided
    alike, and an image that is added to a class moves at most one other one across. Images of the
    same content in one class are on the same side, for which the share may be missed.

    Raises:
        DataError: a class does not hold two different images, images show several classes, or an
            image is another one each time it is read.
    """
    if samples.labels.ndim == 2:
        raise DataError(
            f"val_fraction {fraction:g} divides the images of each class, and these show several: "
            "list those to evaluate on in val.csv, or by a column split or is_valid"
        )
    _check_unchanging(samples)
    digests = _digests(samples)
    is_held = np.zeros(len(samples), bool)
    by_class = np.argsort(samples.labels, kind="stable")
    short = []
    for own in np.split(by_class, np.cumsum(np.bincount(samples.labels))[:-1]):
        own = sorted(own.tolist(), key=digests.__getitem__)
        borders = [
            place for place in range(1, len(own)) if digests[own[place]] != digests[own[place - 1]]
        ]
        if borders:
            border = min(borders, key=lambda place: abs(place - fraction * len(own)))
            is_held[own[:border]] = True
        elif own:
            short.append(class_name(samples, int(samples.labels[own[0]])))
    if short:
        raise DataError(
            f"val_fraction {fraction:g} needs two different images of each class, one to train on "
            f"and one to evaluate on; {len(short)} of {samples.num_classes} classes hold only one: "
            f"{', '.join(short[:_MOST_NAMED])}; add images to them, or take them out"
        )
    return Subset(samples, np.flatnonzero(is_held == held_out))


def _check_unchanging(samples: Samples) -> None:
    """Read some images twice: where they are drawn at random, no two starts divide them alike."""
    if hasattr(samples, "path"):
        return
    for index in range(0, len(samples), -(-len(samples) // _CHECKED)):
        if _content(samples, index) != _content(samples, index):
            raise DataError(
                f"val_fraction divides the images by their content, and {samples.name(index)} is "
                "another one each time it is read; let the dataset draw nothing at random (train "
                "augments), or register a split to evaluate on"
            )


def _digests(samples: Samples) -> list[tuple[str, str]]:
    """Return for each image hashes of its content: equal only if the contents are.

    The content is read only where images do not differ in size and start.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        starts = list(threads.map(lambda index: _start(samples, index), range(len(samples))))
        counts = Counter(starts)
        alike = [index for index, start in enumerate(starts) if counts[start] > 1]
        contents = dict(zip(alike, threads.map(lambda index: _content(samples, index), alike)))
    return [(start, contents.get(index, "")) for index, start in enumerate(starts)]


def _start(samples: Samples, index: int) -> str:
    try:
        if hasattr(samples, "path"):
            size, start = read_head(samples.path(index), _HEAD)
        else:
            content = read_image(samples, index).tobytes()
            size, start = len(content), content[:_HEAD]
    except ImageError:  # a training that meets it decides
        return sha256_of(b"unreadable")
    return sha256_of(size.to_bytes(8, "little"), start)


def _content(samples: Samples, index: int) -> str:
    try:
        return sha256_of(np.ascontiguousarray(read_image(samples, index)))
    except ImageError:
        return sha256_of(os.fsencode(samples.name(index)))


def write_split(path: Path, samples: Subset) -> None:
    """Write which images a training takes and which are held out, as a list with a column split.

    The csv list can be read as a dataset (`ListSamples`) if the images are files.

    Raises:
        OSError: the file cannot be written.
    """
    whole = samples._samples
    is_trained = np.isin(np.arange(len(whole)), samples._indices)
    with (
        replacing(path) as unfinished,
        open(unfinished, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "split"))
        for index, label in enumerate(whole.labels.tolist()):
            image = whole.name(index)
            if hasattr(whole, "path"):
                image = os.fsdecode(os.path.abspath(whole.path(index)))
            split = "train" if is_trained[index] else "val"
            table.writerow((image, class_name(whole, label), split))
