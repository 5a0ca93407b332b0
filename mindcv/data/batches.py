"""The batches of a run: each epoch depends on seed, epoch and shard, never on earlier epochs."""

import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np
from mindspore.dataset.engine.datasets import ProjectDataset

from ..errors import DataError
from .failure import INTERRUPTED, DecodingTrace
from .rows import ImageDataset, Rows

_logger = logging.getLogger("mindcv.train")

_COPY = "abnormal_image.jpg"  # MindSpore leaves it in the working folder

Listener = Callable[[int, int, np.ndarray], None]


class EpochBatches:
    """Batches (image, label, …) of a run, from a fresh MindSpore pipeline for each epoch.

    Each pass is the next epoch. Its content depends on MindSpore's current seed, the epoch, the
    sharding and, if C++ operations draw random numbers, on the number of the pipeline's threads;
    not on earlier epochs. To start at a later step, an epoch replays the earlier steps without
    yielding them.

    Args:
        dataset: all rows of the run; this does not use up its own passes.
        make_loader: returns the batches of one epoch's rows; see `create_loader`.

    Attributes:
        batch_size: images of a batch; the last one of an epoch may have fewer.
        columns: names of the parts of a batch.
        steps: batches of a whole epoch.
        listeners: called with (epoch, step, indices of the images) for each batch of a pass, epoch
            and step from 0; replacements stand in place of the originals.
        failure: the error that ended a pass; MindSpore passes on only its text.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        make_loader: Callable[[ImageDataset], ds.Dataset],
        batch_size: int,
        shard_id: int = 0,
    ):
        self.failure: Exception | None = None
        self.listeners: list[Listener] = []
        self._dataset, self._make_loader = dataset, make_loader
        self.batch_size, self._shard_id = batch_size, shard_id
        self._seed = ds.config.get_seed()
        self._next, self._is_closed = (0, 0), False
        self._had_copy = os.path.exists(_COPY)
        self._readers: weakref.WeakSet = weakref.WeakSet()  # MindSpore's iterators over the passes
        loader = self._loader(0)
        self.columns, self.steps = loader.get_col_names(), loader.get_dataset_size()

    # No __len__: with one, MindSpore would refuse a pass that begins at a later step.
    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        # A generator, since MindSpore requests iterators that it never reads.
        epoch, step = self._next
        self._next = (epoch + 1, 0)
        yield from self.epoch(epoch, step, self.listeners)

    def start(self, epoch: int, step: int = 0) -> None:
        """Begin the next pass at a step of an epoch, both counted from 0."""
        self._next = (epoch, step)

    def limit(self, steps: int) -> None:
        """Skip all batches of an epoch after the first `steps`."""
        surplus = self.steps - steps
        if surplus > 0:
            _logger.info(
                "the last %d batches of each epoch are skipped: they do not fill an update", surplus
            )
            self.steps = steps

    def images_of(self, step: int) -> int:
        return min(self.batch_size, len(self._dataset.source) - step * self.batch_size)

    def num_classes(self) -> int:
        return self._dataset.num_classes()

    def trace_decoding(self, path: Path) -> None:
        """Record which images are being decoded, until `close`; see `DecodingTrace`."""
        rows = self._dataset.source
        if rows.samples.encoded:
            rows.trace = DecodingTrace(path)

    def image_names(self, epoch: int, step: int) -> list[str]:
        rows = self._dataset.source
        first = step * self.batch_size
        indices = rows.indices_of(epoch, first, first + self.batch_size)
        return [rows.samples.name(index) for index in indices.tolist()]

    def epoch(
        self, epoch: int, step: int = 0, listeners: Sequence[Listener] = ()
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Return the batches of an epoch from a step on; reading ahead starts now.

        Other passes are not disturbed.

        Raises:
            DataError: while iterating: an image cannot be read.
            RuntimeError: while iterating: the pipeline failed otherwise.
        """
        if step >= self.steps:
            return (batch for batch in ())  # a generator too, which can be closed
        return self._batches(epoch, step, listeners, self._open(epoch, step))

    def _open(self, epoch: int, step: int) -> tuple[Rows, Iterator]:
        """Return a pipeline: its rows and its batches."""
        with drawing(self._seed, epoch, self._shard_id):
            loader = self._loader(epoch)
            rows = _first_of(loader).source
            loader = loader.skip(step) if step else loader
            batches = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
        self.keep(batches)
        return rows, batches

    def _batches(
        self,
        epoch: int,
        step: int,
        listeners: Sequence[Listener],
        pipeline: tuple[Rows, Iterator],
    ) -> Iterator[tuple[np.ndarray, ...]]:
        rows, batches = pipeline
        try:
            while step < self.steps:
                try:
                    batch = next(batches, None)
                except (RuntimeError, AttributeError) as error:
                    # An iterator that `close` stopped in another thread has no pipeline any more.
                    if self._is_closed:
                        return
                    if isinstance(error, AttributeError):
                        raise
                    _stop(batches)
                    rows, batches = self._replacement(rows, epoch, step, error=error)
                    continue
                if batch is None:
                    return
                own = slice(step * self.batch_size, (step + 1) * self.batch_size)
                for listener in listeners:
                    listener(epoch, step, rows.indices[own])
                yield tuple(batch)
                step += 1
        finally:
            _stop(batches)

    def _replacement(
        self, rows: Rows, epoch: int, step: int, *, error: RuntimeError
    ) -> tuple[Rows, Iterator]:
        """Return a new pipeline if a bad image has ended the one of `rows`, else raise what has.

        Only decoding shows such an image to be bad. It is recorded, so that the new one leaves it
        out.
        """
        failure, reached = rows.failure, step * self.batch_size
        try:
            # Most likely it was read since the last batch, else it was replayed.
            if failure is None and not (
                rows.note_undecodable(reached, len(rows)) or rows.note_undecodable(0, reached)
            ):
                failure = error
        except DataError as too_many:
            failure = too_many
        if not self._had_copy:
            Path(_COPY).unlink(missing_ok=True)
        if failure is None:
            return self._open(epoch, step)
        # MindSpore starts the next pass early and interrupts it when this one fails.
        if self.failure is None or INTERRUPTED not in str(failure):
            self.failure = failure
        raise failure from None

    def close(self) -> None:
        """End all pipelines and their threads once their current batches are done."""
        self._is_closed = True
        for reader in list(self._readers):
            _stop(reader)
        if trace := self._dataset.source.trace:
            trace.close()

    def keep(self, reader) -> None:
        self._readers.add(reader)

    def as_dataset(self) -> "BatchDataset":
        """Return the passes as a MindSpore dataset, for `Model.train`."""
        return BatchDataset(self)

    def describe(self) -> tuple[list, list]:
        """Return MindSpore's types and shapes of a batch, from a separate pipeline."""
        with drawing(self._seed, 0, self._shard_id):
            loader = self._loader(0)
            return loader.output_types(), loader.output_shapes()

    def _loader(self, epoch: int) -> ds.Dataset:
        return self._make_loader(self._dataset.variant(epoch=epoch))


def _stop(reader: Any) -> None:
    # Two threads may stop one of MindSpore's iterators; the later one finds its attributes gone.
    with suppress(AttributeError):
        reader.stop()


def _first_of(pipeline: ds.Dataset) -> ds.Dataset:
    """Return the dataset at its beginning; `create_loader` may have replaced the given one."""
    while pipeline.children:
        pipeline = pipeline.children[0]
    return pipeline


class BatchDataset(ds.GeneratorDataset):
    """A MindSpore dataset of `EpochBatches`; each of its epochs is a pass."""

    def __init__(self, batches: EpochBatches):
        super().__init__(batches, batches.columns, shuffle=False, num_parallel_workers=1)
        self._described = None

    def create_tuple_iterator(self, *args, **named):
        reader = super().create_tuple_iterator(*args, **named)
        self.source.keep(reader)
        return reader

    def create_dict_iterator(self, *args, **named):
        reader = super().create_dict_iterator(*args, **named)
        self.source.keep(reader)
        return reader

    def get_dataset_size(self) -> int:
        return self.source.steps

    def num_classes(self) -> int:
        return self.source.num_classes()

    # MindSpore's own methods would query a running pipeline and so use up an epoch.
    def output_types(self) -> list:
        return self._describe()[0]

    def output_shapes(self, estimate: bool = False) -> list:
        return self._describe()[1]

    def _describe(self) -> tuple[list, list]:
        self._described = self._described or self.source.describe()
        return self._described


_seeding = threading.RLock()
_common: int | None = None  # seed of shard 0, inside `drawing`
_UNSEEDED = 5489  # MindSpore treats its default seed as none and draws a new one each time


@contextmanager
def drawing(seed: int, epoch: int, shard_id: int) -> Iterator[None]:
    """Seed the random operations of a pipeline that is built inside, by epoch and shard.

    What does not depend on the shard takes `common_seed` inside. Only building has to happen
    inside. MindSpore also seeds the generators of Python and NumPy; their state is restored. If
    nested, the outer call wins.
    """
    global _common
    with _seeding:
        if _common is not None:
            yield
            return
        before = ds.config.get_seed(), random.getstate(), np.random.get_state()
        ds.config.set_seed(_drawn(seed, epoch, shard_id))
        _common = _drawn(seed, epoch, 0)
        try:
            yield
        finally:
            _common = None
            ds.config.set_seed(before[0])
            random.setstate(before[1])
            np.random.set_state(before[2])


def _drawn(*place: int) -> int:
    drawn = int(np.random.SeedSequence(place).generate_state(1)[0])
    return drawn + (drawn == _UNSEEDED)


def common_seed() -> int:
    """Return the seed of draws that no shard makes otherwise: those for one image or batch."""
    return ds.config.get_seed() if _common is None else _common


class Loader(ProjectDataset):
    """Batches of some columns; MindSpore's random operations draw anew in each iterator.

    By themselves they restart from the same seed: a loop with an iterator per epoch would repeat
    the draws of the first one, image by image if nothing is shuffled.
    """

    def __init__(self, dataset: ds.Dataset, columns: list[str], shard_id: int):
        super().__init__(dataset, columns)
        self._shard_id, self._iterators = shard_id, 0

    def num_classes(self) -> int | None:
        """Return the classes of the images; None if their dataset does not know them."""
        return _first_of(self).num_classes()

    def create_tuple_iterator(self, *args, **named):
        with self._drawing():
            return super().create_tuple_iterator(*args, **named)

    def create_dict_iterator(self, *args, **named):
        with self._drawing():
            return super().create_dict_iterator(*args, **named)

    def _drawing(self) -> AbstractContextManager[None]:
        number, self._iterators = self._iterators, self._iterators + 1
        seed = ds.config.get_seed()
        return nullcontext() if seed == _UNSEEDED else drawing(seed, number, self._shard_id)
