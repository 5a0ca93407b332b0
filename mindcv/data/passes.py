"""The pass that a row belongs to, as one more column of the pipeline.

MindSpore counts epochs from 0 in each iterator, and a loop over
`loader.create_tuple_iterator(num_epochs=1)` has an iterator for each epoch. So the source counts
its passes itself, and each row says which one it is of. That reaches any thread or process.
"""

import mindspore.dataset as ds
import numpy as np

from .rows import PASS, ImageDataset


def with_passes(dataset: ds.Dataset) -> ds.Dataset:
    """Return the dataset with the column `PASS`."""
    if isinstance(dataset, ImageDataset):
        return dataset.numbered()
    numbers = _PassNumbers()
    return dataset.map(
        [numbers], "label", ["label", PASS], num_parallel_workers=1, callbacks=[numbers]
    )


class _PassNumbers(ds.DSCallback):
    """Number the passes over a dataset that does not, and the rows of each as if all were equal.

    MindSpore calls before the first row of a pass, not when it only asks for sizes and types.
    """

    def __init__(self):
        super().__init__()
        self._epoch, self._row = -1, -1

    def ds_epoch_begin(self, ds_run_context) -> None:
        self._epoch, self._row = self._epoch + 1, -1

    def __call__(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._row += 1
        return label, np.array((max(0, self._epoch), self._row))
