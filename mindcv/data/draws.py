"""Seeds MindSpore's random operations, which take a global seed when an iterator is built."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mindspore.dataset as ds
import numpy as np
from mindspore.dataset.engine.datasets import ProjectDataset

from .rows import PASS, ImageDataset

_seeding = threading.RLock()
_is_seeded = False
_UNSEEDED = 5489  # MindSpore treats its default seed as none and draws a new one each time


@contextmanager
def drawing(seed: int, epoch: int, shard_id: int) -> Iterator[None]:
    """Seed the random operations of a pipeline that is built inside, by epoch and shard.

    Only building has to happen inside. MindSpore also seeds the generators of Python and NumPy;
    their state is restored. If nested, the outer call wins.
    """
    global _is_seeded
    drawn = int(np.random.SeedSequence((seed, epoch, shard_id)).generate_state(1)[0])
    with _seeding:
        if _is_seeded:
            yield
            return
        before = ds.config.get_seed(), random.getstate(), np.random.get_state()
        ds.config.set_seed(drawn + (drawn == _UNSEEDED))
        _is_seeded = True
        try:
            yield
        finally:
            _is_seeded = False
            ds.config.set_seed(before[0])
            random.setstate(before[1])
            np.random.set_state(before[2])


class SeededLoader(ProjectDataset):
    """A dataset's columns; MindSpore's random operations draw anew in each iterator.

    By themselves they restart from the same seed: a loop with an iterator per epoch would repeat
    the draws of the first one, image by image if nothing is shuffled.
    """

    def __init__(self, dataset: ds.Dataset, columns: list[str], shard_id: int):
        super().__init__(dataset, columns)
        self._shard_id, self._iterators = shard_id, 0

    def create_tuple_iterator(self, *args, **named):
        with self._drawing():
            return super().create_tuple_iterator(*args, **named)

    def create_dict_iterator(self, *args, **named):
        with self._drawing():
            return super().create_dict_iterator(*args, **named)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        number, self._iterators = self._iterators, self._iterators + 1
        seed = ds.config.get_seed()
        if seed == _UNSEEDED:
            yield
            return
        with drawing(seed, number, self._shard_id):
            yield


def with_passes(dataset: ds.Dataset) -> ds.Dataset:
    if isinstance(dataset, ImageDataset):
        return dataset.numbered()
    numbers = _PassNumbers()
    return dataset.map(
        [numbers], "label", ["label", PASS], num_parallel_workers=1, callbacks=[numbers]
    )


class _PassNumbers(ds.DSCallback):
    """Number the passes over a dataset that does not do so itself.

    Rows are numbered like copies of one image, so that equal images get different draws. MindSpore
    calls it before the first row of a pass, not when it only queries sizes and types.
    """

    def __init__(self):
        super().__init__()
        self._epoch, self._row = -1, -1

    def ds_epoch_begin(self, ds_run_context) -> None:
        self._epoch, self._row = self._epoch + 1, -1

    def __call__(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._row += 1
        return label, np.array((max(0, self._epoch), self._row))
