"""The data sink of Ascend: the device pulls its batches, and MindSpore calls back once an epoch.

It hands the outputs of the epoch's last step to its callbacks, and no others. So what each step
comes to stays on the device until then: the outputs of a step are those of all steps so far.
"""

import logging

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from .device import Runtime

_logger = logging.getLogger("mindcv.train")


def uses_sink(dataset_sink_mode: bool, runtime: Runtime) -> bool:
    """Tell whether the device pulls its batches, as MindSpore documents for Ascend's graph mode."""
    return bool(
        dataset_sink_mode and runtime.device_target == "Ascend" and runtime.mode == ms.GRAPH_MODE
    )


class EpochOutputs(nn.Cell):
    """Map a batch to (losses, applied) of the steps of its epoch so far, float32 (steps,) each.

    The positions of later steps hold those of the epoch before.

    Args:
        step: maps a batch to (loss, applied), see `TrainStep`.
        steps: of an epoch; the first call is the first step of one.
    """

    def __init__(self, step: nn.Cell, steps: int):
        super().__init__(auto_prefix=False)
        self.step, self.steps = step, steps
        self.positions = Tensor(np.arange(steps), mstype.int32)
        nothing = Tensor(np.zeros(steps), mstype.float32)
        self.losses = Parameter(nothing.copy(), name="losses_of_epoch", requires_grad=False)
        self.applied = Parameter(nothing.copy(), name="applied_of_epoch", requires_grad=False)
        self.position = Parameter(
            Tensor(0, mstype.int32), name="position_in_epoch", requires_grad=False
        )

    def construct(self, *batch):
        loss, applied = self.step(*batch)
        # In place of a scatter: it is one small vector operation.
        is_here = ops.equal(self.positions, self.position)
        losses = ops.where(is_here, ops.cast(loss, mstype.float32), self.losses)
        applied = ops.where(is_here, ops.cast(applied, mstype.float32), self.applied)
        losses = ops.depend(losses, ops.assign(self.losses, losses))
        applied = ops.depend(applied, ops.assign(self.applied, applied))
        moved = ops.assign(self.position, (self.position + 1) % self.steps)
        return ops.depend(losses, moved), applied


class HandOut:
    """Logs how many batches of an epoch were handed to the device.

    It is called by the input pipeline, see `EpochBatches.listeners`. The device may have taken them
    earlier than it computes on them, those of the next epoch during an evaluation.

    Args:
        epochs: of the run.
        steps: batches of an epoch.
        log_interval: batches between lines.
    """

    def __init__(self, epochs: int, steps: int, log_interval: int):
        self.epochs, self.steps, self.log_interval = epochs, steps, log_interval
        _logger.info(
            "data sink: losses, skipped steps, checkpoints and stop signals are looked at after "
            "each epoch of %d steps",
            steps,
        )

    def __call__(self, epoch: int, step: int, indices) -> None:
        if (step + 1) % self.log_interval == 0 and epoch < self.epochs:
            _logger.info(
                "epoch %d/%d: %d of %d batches handed to the device",
                epoch + 1,
                self.epochs,
                step + 1,
                self.steps,
            )
