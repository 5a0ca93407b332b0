"""The rows (image, label) of an epoch, in order, with bad images replaced."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
from PIL import Image

from ..errors import ConfigError, DataError
from ..process import environment  # noqa: F401
from ..process.cpu import usable_workers
from .bad_images import BadImages
from .datasets import dataset_row, open_samples
from .failure import DecodingTrace
from .image_files import as_bmp, check_by_decoding, decodable, pixels
from .order import BALANCED, copy_numbers, sample_order
from .read_ahead import ReadingThreads
from .samples import ImageError, Samples
from .samples.protocol import class_indexing_of, read_image, renumber
from .samples.subset import select

# A column (2,) int64: number of the pass over the dataset, and of the image's copy.
PASS = "mindcv.pass"
_logger = logging.getLogger(__name__)

_BLACK = Image.new("RGB", (32, 32))


def create_dataset(
    name: str = "",
    root: str | None = None,
    split: str = "train",
    shuffle: bool = True,
    num_samples: int | None = None,
    num_shards: int | None = None,
    shard_id: int | None = None,
    num_parallel_workers: int | None = None,
    download: bool = False,
    num_aug_repeats: int = 0,
    max_bad_fraction: float = 0.0,
    bad_images_file: str | Path | None = None,
    even_shards: bool = False,
    class_indexing: Mapping[str, int] | None = None,
    extensions: str | Sequence[str] | None = None,
    decode: bool = False,
    cache: Any = None,
    batch_size: int = 1,
    val_fraction: float = 0.0,
    held_out: bool = False,
    sampler: str | None = None,
    **kwargs,
) -> "ImageDataset":
    """Return a MindSpore dataset with the columns image and label.

    The columns of CIFAR-100 are image, coarse_label and fine_label, as in MindSpore.

    Each epoch of an iterator, and each new iterator, continues with the next epoch's order, which
    depends on MindSpore's current seed (`ds.config.set_seed`).

    Args:
        name, root, split, download, val_fraction, held_out, **kwargs: see `open_samples`.
        shuffle, num_samples, num_shards, shard_id, num_aug_repeats, even_shards, batch_size: see
            `sample_order`.
        num_parallel_workers: threads of the pipeline; from 8 on, images are read ahead.
        sampler: balanced draws all classes equally often, see `sample_order`; None: each image
            once.
        max_bad_fraction: share of the images that may be bad, see `BadImages`. Each is replaced by
            the next good one; more are an error.
        bad_images_file: CSV file that lists them.
        class_indexing: class name to label; None: the dataset's own numbering. The images of
            other classes are left out of an image folder, which a warning says; elsewhere they are
            an error.
        extensions: of the files of an image folder to read, such as [".jpg"]; None: see
            `index_images`.
        decode: the column image holds pixels, (H, W, 3) uint8, not the bytes of a file.
        cache: MindSpore's DatasetCache, which is not used: the operating system caches files.

    Raises:
        ConfigError: no threads; unknown sampler; extensions of another dataset; see also
            `open_samples` and `sample_order`.
        DataError: see there.
    """
    row = dataset_row(name)
    has_folders = row is not None and row.has_class_folders
    if extensions is not None and not has_folders:
        raise ConfigError(f"extensions {extensions}: dataset {name!r} does not search a folder")
    if sampler not in (None, BALANCED):
        raise ConfigError(f"sampler {sampler!r} is unknown; expected {BALANCED} or None")
    extensions = [extensions] if isinstance(extensions, str) else extensions
    numbers = None if has_folders else class_indexing
    kwargs |= dict(download=download, val_fraction=val_fraction, held_out=held_out)
    samples = open_samples(name, root, split, numbers, **kwargs)
    if has_folders:
        count = len(samples)
        samples = select(samples, class_indexing, extensions)
        if len(samples) < count:
            _logger.warning(
                "%d of %d images are left out: class_indexing or extensions do not name them",
                count - len(samples),
                count,
            )
        renumber(samples, class_indexing, f"{name} {split}")
    if sampler and samples.labels.ndim == 2:
        raise ConfigError(f"sampler {sampler} draws one class an image; {name} has several")
    if cache is not None:
        _logger.warning("cache: MindSpore's cache is not used; the system keeps files in memory")
    rows = Rows(
        samples,
        ds.config.get_seed(),
        bad=BadImages(
            len(samples),
            max_bad_fraction,
            bad_images_file and Path(bad_images_file),
            can_scan=hasattr(samples, "folder"),
        ),
        num_parallel_workers=usable_workers(num_parallel_workers),
        shuffle=shuffle,
        num_samples=num_samples,
        num_shards=num_shards,
        shard_id=shard_id,
        num_aug_repeats=num_aug_repeats,
        even_shards=even_shards,
        batch_size=batch_size,
        balance=samples.labels if sampler == BALANCED else None,
    )
    return ImageDataset(rows.variant(decode=decode, names_labels=True))


class Rows:
    """Source of a `GeneratorDataset`; each pass over it is the next epoch.

    An unusable image is replaced by the next usable one of the dataset, with that one's label, so
    every run picks the same replacement. Image files are checked, see `decodable`.

    Args:
        num_parallel_workers: threads that read and decode ahead, or a quarter as many if they only
            read; the order stays.
        bad: records unusable images and may raise; None: the first one is an error.
        leave_out: instead of replacing a bad image, return a black one with the label -1.
        **sampling: see `sample_order`.

    Attributes:
        decode: rows hold pixels, (H, W, 3) uint8, instead of the bytes of image files.
        has_passes: rows hold `PASS` too.
        columns: names of the parts of a row.
        indices: images of the newest pass; replacements stand in place of the originals in the
            `read_count` rows that were read.
        failure: the error that ended the newest pass; MindSpore passes on only its text.
        trace: if set, records the names of image files that MindSpore is about to decode.

    Raises:
        DataError: see `sample_order`; while reading: too many bad images, a read that raises
            another error or does not return.
    """

    def __init__(
        self,
        samples: Samples,
        seed: int,
        num_parallel_workers: int = 1,
        bad: BadImages | None = None,
        leave_out: bool = False,
        **sampling,
    ):
        self.samples, self.leave_out = samples, leave_out
        self.bad = bad or BadImages(len(samples), 0.0)
        self.trace: DecodingTrace | None = None
        self.decode = self.has_passes = self.names_labels = False
        self._seed, self._sampling, self._workers = seed, sampling, num_parallel_workers
        self._length = len(self._order(0))
        # Hash of each image file when it was found plain; shared by all epochs.
        self._checked = np.zeros(len(samples) if samples.encoded else 0, np.int64)
        self._begin(0, np.zeros(0, np.int64))

    @property
    def columns(self) -> list[str]:
        labels = list(self._labels())
        return ["image", *labels, PASS] if self.has_passes else ["image", *labels]

    def _labels(self) -> dict[str, np.ndarray]:
        coarse = getattr(self.samples, "coarse_labels", None) if self.names_labels else None
        if coarse is None:
            return {"label": self.samples.labels}
        return {"coarse_label": coarse, "fine_label": self.samples.labels}

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple]:
        # A generator, since MindSpore requests iterators that it never reads.
        epoch, order = self._epoch, self._order(self._epoch)
        self._begin(epoch + 1, order.copy())
        rows = self._pass(order, self.indices)
        if not self.has_passes:
            yield from rows
            return
        copies = copy_numbers(len(order), **self._sampling)
        with closing(rows):
            for row, number in zip(rows, copies):
                yield *row, np.array((epoch, number))

    def variant(
        self,
        epoch: int | None = None,
        decode: bool = False,
        has_passes: bool = False,
        names_labels: bool = False,
    ) -> "Rows":
        """Return independent rows that start at another epoch or hold other columns.

        With `names_labels` the columns are MindSpore's, otherwise image and label.
        """
        rows = copy.copy(self)
        rows.names_labels = names_labels
        rows.decode, rows.has_passes = self.decode or decode, self.has_passes or has_passes
        rows._begin(self._epoch if epoch is None else epoch, np.zeros(0, np.int64))
        return rows

    def indices_of(self, epoch: int, first: int, end: int) -> np.ndarray:
        """Return the indices of rows of an epoch, read or not, with known bad images replaced."""
        indices, size = self._order(epoch)[first:end], len(self.samples)
        bad = {} if self.leave_out else self.bad.reasons
        for place, index in enumerate(indices.tolist()):
            while index in bad and len(bad) < size:
                index = (index + 1) % size
            indices[place] = index
        return indices

    def note_undecodable(self, first: int, end: int) -> bool:
        """Decode rows that the newest pass has read, and return whether any were bad.

        Bad images are recorded, and may raise, as in `BadImages`.
        """
        known = len(self.bad.reasons)
        read = [] if self.decode else self.indices[first : min(end, self.read_count)].tolist()
        for index in dict.fromkeys(read):
            try:
                if self.samples.encoded and index not in self.bad.reasons:
                    check_by_decoding(self._read(index))
            except ImageError as error:
                self._note(index, error)
        return len(self.bad.reasons) > known

    def _begin(self, epoch: int, indices: np.ndarray) -> None:
        self._epoch, self.indices, self.read_count = epoch, indices, 0
        self.failure: Exception | None = None

    def _order(self, epoch: int) -> np.ndarray:
        return sample_order(len(self.samples), self._seed, epoch, **self._sampling)

    def _pass(self, order: np.ndarray, read: np.ndarray) -> Iterator[tuple[np.ndarray, np.int32]]:
        labels = list(self._labels().values())
        threads, attempts = None, partial(map, self._try)
        if not getattr(self.samples, "in_memory", False):
            count = self._workers if self.decode else max(1, self._workers // 4)
            threads = ReadingThreads(self._try, self.samples.name, count)
            attempts = threads.in_order
        try:
            for place, attempt in enumerate(attempts(order)):
                index, image = self._image(int(order[place]), attempt, attempts)
                read[place], self.read_count = index, place + 1
                if self.trace and not self.decode:
                    self.trace.note(self.samples.name(index))
                is_bad = self.leave_out and index in self.bad.reasons
                yield image, *(_target(column[index], is_bad) for column in labels)
        except Exception as error:
            self.failure = error
            raise
        finally:
            if threads:
                threads.close()

    def _image(
        self,
        index: int,
        attempt: np.ndarray | ImageError,
        attempts: Callable[[Sequence[int]], Iterable[np.ndarray | ImageError]],
    ) -> tuple[int, np.ndarray]:
        """Return the image, or the next readable one, and its index."""
        size, first = len(self.samples), index
        while isinstance(attempt, ImageError):
            self._note(index, attempt)
            if self.leave_out:
                is_file = self.samples.encoded and not self.decode
                return index, as_bmp(_BLACK) if is_file else np.asarray(_BLACK)
            index = (index + 1) % size
            if index == first:
                raise DataError(
                    f"none of the {size} images can be read; the first one, "
                    f"{self.samples.name(first)}: {self.bad.reasons[first]}{self.bad.advice}; "
                    "check the dataset"
                )
            (attempt,) = attempts([index])
        return index, attempt

    def _try(self, index: int) -> np.ndarray | ImageError:
        try:
            return self._read(int(index))
        except ImageError as error:
            return error

    def _read(self, index: int) -> np.ndarray:
        if index in self.bad.reasons:
            raise ImageError(self.bad.reasons[index])
        image = read_image(self.samples, index)
        if not self.samples.encoded:
            return image
        return pixels(image) if self.decode else self._decodable(index, image)

    def _decodable(self, index: int, data: np.ndarray) -> np.ndarray:
        """Return `decodable` bytes.

        Checking every file each epoch would take longer than reading it, so a plain file is checked
        once and later recognised by its size, start and end.
        """
        ends = hash((data.size, data[:1024].tobytes(), data[-64:].tobytes()))
        if self._checked[index] == ends:
            return data
        safe = decodable(data)
        if safe is data:
            self._checked[index] = ends
        return safe

    def _note(self, index: int, error: ImageError) -> None:
        self.bad.add(index, self.samples.name(index), str(error))


def _target(label: np.ndarray, is_bad: bool) -> np.ndarray:
    """Return a label as batches hold it: int32, or float32 of each class; -1: of a bad image."""
    target = label.astype(np.float32) if label.ndim else label
    return np.full_like(target, -1)[()] if is_bad else target


class ImageDataset(ds.GeneratorDataset):
    """A MindSpore dataset of `Rows`, with the dataset's classes."""

    def __init__(self, rows: Rows):
        super().__init__(rows, rows.columns, shuffle=False, num_parallel_workers=1)

    @property
    def samples(self) -> Samples:
        return self.source.samples

    def variant(self, **changes) -> "ImageDataset":
        """Return an independent dataset of other rows, see `Rows.variant`."""
        return ImageDataset(self.source.variant(**changes))

    def num_classes(self) -> int:
        return self.samples.num_classes

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names in label order; None if the files hold none.

        A label that `class_indexing` gave to no class has its number as its name.
        """
        return self.samples.class_names

    def get_class_indexing(self) -> dict[str, int]:
        """Return class name to label, without the labels that no class has; empty without names."""
        return class_indexing_of(self.samples) or {}
