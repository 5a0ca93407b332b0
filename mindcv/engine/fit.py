"""Run a training step over a loader, by MindSpore's own `Model.train`."""

from collections.abc import Sequence

import mindspore as ms
import mindspore.dataset as ds

from ..data.failure import pipeline_failures_as_data_errors
from .train_step import TrainStep


def fit(
    step: TrainStep,
    loader: ds.Dataset,
    epochs: int,
    callbacks: Sequence[ms.Callback],
    dataset_sink_mode: bool = False,
) -> None:
    """Train for so many epochs.

    `Model.train` is called once for the whole run: with the data sink each call would compile the
    graph anew. On CPU MindSpore feeds step by step whatever `dataset_sink_mode` says.

    Args:
        step: the compiled step; maps a batch to (loss, applied).
        loader: training batches (image, label).
        epochs: passes over the loader.
        callbacks: what watches the run.
        dataset_sink_mode: let the device pull the batches (Ascend).

    Raises:
        DataError: an image cannot be read; the message names it.
        NonFiniteLossError: from `Progress`, when the loss is not finite.
    """
    model = ms.Model(step)
    with pipeline_failures_as_data_errors(loader):
        model.train(epochs, loader, callbacks=list(callbacks), dataset_sink_mode=dataset_sink_mode)
