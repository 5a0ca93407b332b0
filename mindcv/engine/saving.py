"""When a run is saved: at ends of epochs, every so many steps or minutes, and before it stops."""

import logging
import time

import mindspore as ms
import numpy as np

from ..checkpoint import Position
from ..errors import Interrupted
from ..process.signals import StopSignal
from .agreement import Agreement, check_equal_states
from .checkpoint import CheckpointKeeper
from .device import Runtime
from .state import STATISTICS, RunState, Snapshot

_logger = logging.getLogger("mindcv.train")


class SavePoints(ms.Callback):
    """Saves the state of a run, and ends the run after a signal.

    The data sink of Ascend calls back once an epoch; within it nothing can be saved.

    Args:
        state: what is saved.
        keeper: saves it; None on all ranks but the first.
        runtime: the processes that train together, which save and stop at the same step.
        interval: epochs between checkpoints.
        steps: steps between further ones, which are there to resume from; 0: none.
        minutes: time between such; 0: none. Several processes look at the clock as often as they
            ask each other for signals, see `Agreement`.
        stop: knows of signals; None: nobody listens.
    """

    def __init__(
        self,
        state: RunState,
        keeper: CheckpointKeeper | None,
        runtime: Runtime,
        interval: int = 1,
        steps: int = 0,
        minutes: float = 0,
        stop: StopSignal | None = None,
    ):
        self.state, self.keeper, self.runtime = state, keeper, runtime
        self.interval, self.steps, self.minutes = interval, steps, minutes
        self.stop = stop or StopSignal()
        self.agreement = Agreement(runtime, self.stop)
        self._saved = time.monotonic()
        self._is_due = False  # at the end of this epoch

    def is_regular(self, epoch: int, is_last: bool) -> bool:
        """Tell whether the end of this epoch has a checkpoint of its own."""
        return epoch % self.interval == 0 or is_last

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step, batches = params.cur_step_num, params.batch_num
        if self.keeper:
            self.keeper.check()
        self._is_due = self.steps > 0 and step % self.steps == 0
        if step % batches == 0:
            return  # what follows the epoch's last step decides
        signal, is_time = self.agreement.after_step(step, self._is_time())
        if signal or is_time or self._is_due:
            place = Position(params.cur_epoch_num, step % batches)
            snapshot = self.state.capture(within_epoch=True)
            check_equal_states(self.runtime, snapshot, skipped=STATISTICS)
            self._save(snapshot, place)
        if signal:
            self._stop(signal, place)

    def end_epoch(self, epoch: int, batches: int, score: float | None, is_last: bool) -> None:
        """Save what an epoch has come to, if it is time to, and the best weights.

        Args:
            epoch: from 1.
            batches: steps of an epoch.
            score: accuracy of the epoch; None: it was not evaluated.

        Raises:
            WeightsError: nothing can be written, or the processes have diverged.
            Interrupted: a signal came.
        """
        place = Position(epoch, batches)
        signal, is_time = self.agreement.now(epoch * batches, self._is_time())
        is_regular = self.is_regular(epoch, is_last)
        is_kept = bool(is_regular or self._is_due or is_time or signal)
        # Several processes are compared after every epoch, saved or not.
        if is_kept or score is not None or self.runtime.world_size > 1:
            snapshot = self.state.capture(within_epoch=False)
            check_equal_states(self.runtime, snapshot)
            if self._save(snapshot, place, score, not is_regular, is_kept):
                _logger.info("best so far: top-1 %.3f %% in epoch %d", score, epoch)
        if signal and not is_last:
            self._stop(signal, place)

    def stop_in_evaluation(self, epoch: int, batches: int) -> None:
        """Save a run whose evaluation was left, and end it.

        Raises:
            Interrupted: always.
        """
        place = Position(epoch, batches, is_evaluated=False)
        self._save(self.state.capture(within_epoch=True), place)
        self._stop(self.stop.received, place)

    def on_train_end(self, run_context):
        if self.keeper:
            self.keeper.wait()

    def _save(
        self, snapshot: Snapshot, place: Position, score=None, is_midway=True, is_kept=True
    ) -> bool:
        """Tell whether the score is the best so far; False on all ranks but the first."""
        if is_kept:
            self._saved, self._is_due = time.monotonic(), False
        if self.keeper is None:
            return False
        is_best = self.keeper.save(snapshot, place, score, is_midway, is_kept)
        if is_kept:
            _logger.info("saving %s.ckpt", place.name(self.keeper.metadata.model))
        return is_best

    def _is_time(self) -> bool:
        return self.minutes > 0 and time.monotonic() - self._saved > 60 * self.minutes

    def _stop(self, signal, place: Position) -> None:
        if self.keeper:
            self.keeper.wait()
        if self.runtime.world_size > 1:  # msrun kills the others once one has ended
            self.runtime.sum_over_ranks(np.zeros(1, np.float32))
        done = "" if place.is_evaluated else ", before its evaluation"
        raise Interrupted(
            signal,
            f"stopped by {signal.name} after step {place.step} of epoch {place.epoch}{done}; go "
            "on with --resume auto",
        )
