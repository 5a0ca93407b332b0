"""The data sink of Ascend: the device pulls its batches, and MindSpore calls back once an epoch.

MindSpore passes only the outputs of the epoch's last step to its callbacks. So the results of all
steps stay on the device until then, and each step outputs those of all steps so far.
"""

import logging

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from ..checkpoint import Position
from ..data.failure import pipeline_failures_as_data_errors
from .device import Runtime
from .loop import Run, after_epoch, after_step, drive_by_steps

_logger = logging.getLogger("mindcv.train")


def uses_sink(dataset_sink_mode: bool, runtime: Runtime) -> bool:
    """Return whether the device pulls its batches, as documented for Ascend's graph mode."""
    return bool(
        dataset_sink_mode and runtime.device_target == "Ascend" and runtime.mode == ms.GRAPH_MODE
    )


class EpochOutputs(nn.Cell):
    """Map a batch to (losses, applied) of the epoch's steps so far, float32 (steps,) each.

    Entries of later steps hold those of the previous epoch. `step` is a `TrainStep`, and `steps`
    their number per epoch; the first call must be the first step of an epoch.
    """

    def __init__(self, step: nn.Cell, steps: int):
        super().__init__(auto_prefix=False)
        self.step, self.steps = step, steps
        self.positions = Tensor(np.arange(steps), mstype.int32)
        nothing = Tensor(np.zeros(steps), mstype.float32)
        self.losses = Parameter(nothing.copy(), name="losses_of_epoch", requires_grad=False)
        self.applied = Parameter(nothing.copy(), name="applied_of_epoch", requires_grad=False)
        zero = Tensor(0, mstype.int32)
        self.position = Parameter(zero, name="position_in_epoch", requires_grad=False)

    def construct(self, *batch):
        loss, applied = self.step(*batch)
        # One small vector operation instead of a scatter.
        is_here = ops.equal(self.positions, self.position)
        losses = ops.where(is_here, ops.cast(loss, mstype.float32), self.losses)
        applied = ops.where(is_here, ops.cast(applied, mstype.float32), self.applied)
        losses = ops.depend(losses, ops.assign(self.losses, losses))
        applied = ops.depend(applied, ops.assign(self.applied, applied))
        moved = ops.assign(self.position, (self.position + 1) % self.steps)
        return ops.depend(losses, moved), applied


class HandOut:
    """Logs how many batches of an epoch were handed to the device.

    The input pipeline calls it, see `EpochBatches.listeners`. The device may take batches before it
    computes on them, e.g. those of the next epoch during an evaluation.
    """

    def __init__(self, epochs: int, steps: int, log_interval: int):
        self.epochs, self.steps, self.log_interval = epochs, steps, log_interval
        what = "losses, skipped steps, checkpoints and stop signals"
        _logger.info("data sink: %s are looked at after each epoch of %d steps", what, steps)

    def __call__(self, epoch: int, step: int, indices) -> None:
        if (step + 1) % self.log_interval == 0 and epoch < self.epochs:
            done = f"epoch {epoch + 1}/{self.epochs}: {step + 1} of {self.steps} batches"
            _logger.info("%s handed to the device", done)


def drive_by_sink(run: Run, at: Position, last: int) -> Position:
    """Let MindSpore's `Model.train` feed the device and call back once an epoch.

    One call trains all whole epochs up to `last`, since each call compiles the graph anew. The rest
    of an epoch that was begun before a resume is trained step by step.
    """
    steps = run.batches.steps
    if at.step and at.epoch <= last:
        at = drive_by_steps(run, at, last=at.epoch)
        if at.epoch <= last:
            run.progress.begin_graph(at)
    if at.epoch > last:
        return at
    run.batches.start(at.epoch - 1)
    hand_out = HandOut(run.epochs, steps, run.progress.log_interval)
    run.batches.listeners.append(hand_out)
    dataset = run.batches.as_dataset()
    with pipeline_failures_as_data_errors(dataset):
        ms.Model(EpochOutputs(run.step, steps)).train(
            last,
            dataset,
            callbacks=[_EpochEnd(run)],
            dataset_sink_mode=True,
            initial_epoch=at.epoch - 1,
        )
    run.batches.listeners.remove(hand_out)
    return run.after(last)


class _EpochEnd(ms.Callback):
    """Calls `after_step`, for all steps of an epoch at once, and `after_epoch`."""

    def __init__(self, run: Run):
        self._run = run
        self._helper: ms.DatasetHelper | None = None

    def on_train_epoch_begin(self, run_context):
        self._run.progress.begin_epoch()

    def on_train_step_begin(self, run_context):
        self._helper = run_context.original_args().dataset_helper

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        at = Position(params.cur_epoch_num, self._run.batches.steps)
        after_step(self._run, at, *params.net_outputs)

    def on_train_epoch_end(self, run_context):
        after_epoch(self._run, run_context.original_args().cur_epoch_num)
        if self._run.ending:
            run_context.request_stop()

    def __exit__(self, error, *_):  # MindSpore calls it at the end, also after an error
        # After an error, `Model.train` leaves the thread running that feeds the device.
        if error is not None and self._helper is not None:
            self._helper.stop_send()
            self._helper.release()
