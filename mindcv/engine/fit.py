"""Run a training step over a loader, by MindSpore's own `Model.train`."""

import types
from collections.abc import Sequence

import mindspore as ms
import mindspore.dataset as ds

from ..data.failure import pipeline_failures_as_data_errors
from .sink import EpochOutputs, FeedEnd
from .train_step import TrainStep


def fit(
    step: TrainStep,
    loader: ds.Dataset,
    epochs: int,
    callbacks: Sequence[ms.Callback],
    sinks: bool = False,
    epochs_done: int = 0,
    steps_done: int = 0,
    rest: ds.Dataset | None = None,
) -> None:
    """Train up to so many epochs.

    `Model.train` is called once for all whole epochs: with the data sink each call would compile
    the graph anew. What is left of an epoch that was begun before is a call of its own, fed step by
    step.

    Args:
        step: the compiled step; maps a batch to (loss, applied).
        loader: training batches (image, label), from the first epoch on that is to be begun.
        epochs: passes over the loader, those that were done before included.
        callbacks: what watches the run; epochs and steps are numbered through for them.
        sinks: let the device pull the batches of whole epochs; see `uses_sink`. Callbacks then see
            the end of an epoch's last step only, with the outputs of all its steps.
        epochs_done: whole epochs that were trained before.
        steps_done: steps of the next epoch that were; all of them: only its end is still to come.
        rest: the batches of that epoch behind them; None: there are none.

    Raises:
        DataError: an image cannot be read; the message names it.
        NonFiniteLossError: from `Progress`, when the loss is not finite.
        Interrupted: from `SavePoints` and `EpochEnd`, after a signal.
    """
    steps = loader.get_dataset_size()
    watchers = _Watchers(callbacks, step, steps)
    watchers.start_run(epochs_done * steps + steps_done)
    if rest is not None:
        _train(step, rest, epochs_done + 1, epochs_done, [watchers])
    elif steps_done:
        watchers.end_epoch(epochs_done + 1)
    epochs_done += steps_done > 0
    if epochs_done < epochs:
        network = EpochOutputs(step, steps) if sinks else step
        watching = [watchers, FeedEnd()] if sinks else [watchers]
        _train(network, loader, epochs, epochs_done, watching, sinks)
    watchers.end_run()


def _train(network, dataset, epochs, epochs_done, callbacks, sinks=False) -> None:
    with pipeline_failures_as_data_errors(dataset):
        ms.Model(network).train(
            epochs, dataset, callbacks, dataset_sink_mode=sinks, initial_epoch=epochs_done
        )


class _Watchers(ms.Callback):
    """Hands the events of all calls of `Model.train` on as those of one run."""

    def __init__(self, callbacks: Sequence[ms.Callback], step: TrainStep, steps_per_epoch: int):
        self._callbacks, self._steps_per_epoch = callbacks, steps_per_epoch
        self._params = types.SimpleNamespace(
            train_network=step, batch_num=steps_per_epoch, cur_step_num=0, cur_epoch_num=0
        )

    def start_run(self, steps_done: int) -> None:
        self._params.cur_step_num = steps_done
        self._tell("on_train_begin", self._context())

    def end_epoch(self, epoch: int) -> None:
        self._params.cur_epoch_num = epoch
        self._tell("on_train_epoch_begin", self._context())
        self._tell("on_train_epoch_end", self._context())

    def end_run(self) -> None:
        self._tell("on_train_end", self._context())

    def on_train_begin(self, run_context):
        # MindSpore counts from 0 in each call, and knows only its own part of an epoch.
        params = run_context.original_args()
        params.cur_step_num = self._params.cur_step_num
        params.batch_num = self._steps_per_epoch
        self._params = params

    def on_train_epoch_begin(self, run_context):
        self._tell("on_train_epoch_begin", run_context)

    def on_train_step_begin(self, run_context):
        self._tell("on_train_step_begin", run_context)

    def on_train_step_end(self, run_context):
        self._tell("on_train_step_end", run_context)

    def on_train_epoch_end(self, run_context):
        self._tell("on_train_epoch_end", run_context)

    def _context(self):
        return types.SimpleNamespace(original_args=lambda: self._params)

    def _tell(self, event: str, run_context) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(run_context)
