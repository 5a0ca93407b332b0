"""The training loop, in the order in which it runs.

What follows each step and epoch, how a run is saved, and how a signal ends it: these are plain
calls in `after_step`, `after_epoch`, `save` and `leave`. They change no weights, learning rate or
data, so that resuming is provable. The one exception: running statistics of normalisation layers
are averaged over the processes, or measured anew, before they are evaluated and saved; training
itself does not read them.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from signal import Signals

import numpy as np
from mindspore import Tensor, nn

from ..checkpoint import CheckpointWriter, Position
from ..data.batches import EpochBatches
from ..data.failure import pipeline_failures_as_data_errors
from ..errors import Interrupted
from ..process.clock import CHECKPOINT, DATA, EVALUATION, REST, Clock
from ..process.signals import StopSignal
from ..weights import Metadata
from .agreement import Agreement, check_equal_states
from .batch_norm import PreciseBatchNorm, average_batch_statistics
from .device import Runtime
from .early_stop import EarlyStop
from .elastic import Division
from .evaluation import EvaluationStopped, Measured
from .profile import Profile
from .progress import Progress
from .state import RunState
from .summary import describe_time
from .tables import MetricsTable, SampleLog
from .trackers import Figures
from .train_step import TrainStep
from .update import STATISTICS

_logger = logging.getLogger("mindcv.train")


@dataclass
class SavePoints:
    """When to save: every `interval` epochs, and every `steps` or `minutes` to resume from."""

    interval: int = 1
    steps: int = 0  # 0: never
    minutes: float = 0
    saved: float = field(default_factory=lambda: time.monotonic())  # time of the last save

    def is_step(self, step: int) -> bool:
        return self.steps > 0 and step % self.steps == 0

    def is_time(self) -> bool:
        return self.minutes > 0 and time.monotonic() - self.saved > 60 * self.minutes


@dataclass(kw_only=True)
class Run:
    """Everything that takes part in a training; `build.build_run` makes it from a config.

    Attributes:
        evaluate: returns the accuracy of the network as it is; None for no evaluation.
        val_weights: averaged, raw or both: which weights to evaluate if there is an average. If the
            averaged weights are evaluated, they decide which checkpoint is best.
        precise_batch_norm: measures the running statistics before each use; None: they stay as
            trained.
        unfreeze_epoch: the last one in which layers are frozen; 0: none are, or to the end.
        unfreeze: called with the rows of the table then; returns the next step and
            precise_batch_norm.
        division: of the images into updates and batches.
        checkpoints: None on all ranks but the first.
        drive: None: `drive_by_steps`; or what stands in for it.
    """

    runtime: Runtime
    network: nn.Cell
    step: TrainStep
    batches: EpochBatches
    progress: Progress
    table: MetricsTable
    division: Division
    epochs: int
    evaluate: Callable[[], Measured] | None = None
    val_interval: int = 1
    val_weights: str = "averaged"
    early_stop: EarlyStop = EarlyStop()
    precise_batch_norm: PreciseBatchNorm | None = None
    unfreeze_epoch: int = 0
    unfreeze: Callable[[list], tuple[TrainStep, PreciseBatchNorm | None]] | None = None
    checkpoints: CheckpointWriter | None = None
    metadata: Metadata | None = None
    save_points: SavePoints = field(default_factory=SavePoints)
    stop: StopSignal = field(default_factory=StopSignal)
    sample_log: SampleLog | None = None
    figures: Figures | None = None
    profile: Profile | None = None
    drive: Callable[["Run", Position, int], Position] | None = None

    @property
    def clock(self) -> Clock:
        return self.progress.clock

    @property
    def ending(self) -> str:
        """Why the run is over before its last epoch; empty: it is not."""
        scores = [found[:2] for found in self.table.scores() if found[0] < self.epochs]
        return self.early_stop.ending(scores, self.table.task.score_title)

    def after(self, epoch: int) -> Position:
        """Return where a run goes on after an epoch."""
        return Position(1 + (self.epochs if self.ending else epoch))

    def __post_init__(self):
        self.agreement = Agreement(self.runtime, self.stop)
        self.begin_phase(self.step, self.precise_batch_norm)

    def begin_phase(self, step: TrainStep, precise_batch_norm: PreciseBatchNorm | None) -> None:
        self.step, self.precise_batch_norm = step, precise_batch_norm
        self.state = RunState(
            self.network,
            self.step,
            progress=self.progress,
            table=self.table,
            runtime=self.runtime,
        )


def train(run: Run, at: Position) -> None:
    """Train from position `at` to the end of the run.

    Raises:
        DataError: an image cannot be read; the message names it.
        NonFiniteLossError: see `FiniteWatch`.
        Interrupted: a signal ended the run, which was saved first.
        WeightsError: a checkpoint cannot be written, or the processes have diverged.
        RunFolderError: another file of the run cannot be written.
    """
    if run.ending:  # it was resumed
        at = Position(run.epochs + 1)
    with contextlib.closing(run.batches), contextlib.closing(run.progress), run.stop.listening():
        if run.sample_log:
            run.sample_log.begin(at.count(run.batches.steps))
        run.table.begin()
        run.progress.begin(at)
        try:
            drive = run.drive or drive_by_steps
            if run.unfreeze_epoch:
                at = drive(run, at, run.unfreeze_epoch)
                unfreeze(run, at)
            drive(run, at, run.epochs)
        except Exception:  # a stopped run tells it too; a whole one does when its files are closed
            _close_profile(run)
            for line in describe_time(run.progress):
                _logger.info(line)
            raise
        _close_profile(run)
        run.progress.watch.log_skipped()
        if run.checkpoints:
            with run.clock.during(CHECKPOINT):
                run.checkpoints.wait()


def _close_profile(run: Run) -> None:
    run.clock.switch(REST)
    if run.profile:
        run.profile.close()


def unfreeze(run: Run, at: Position) -> None:
    """Let all layers learn, with a new optimizer; loss scale and weight average go on."""
    if at.epoch > run.epochs:
        return
    run.begin_phase(*run.unfreeze(run.table.rows))
    _logger.info("all layers train from epoch %d on, with a new optimizer", at.epoch)
    run.progress.begin_graph(at)


def drive_by_steps(run: Run, at: Position, last: int) -> Position:
    """Train to the end of epoch `last`; return where the next epoch begins."""
    if at.epoch > last:
        return at
    with pipeline_failures_as_data_errors():
        batches = _open_epoch(run, at)
        while at.epoch <= last:
            run.progress.begin_epoch()
            for batch in run.clock.each(batches, DATA):
                loss, applied = run.step(*map(Tensor, batch))
                at = replace(at, step=at.step + 1)
                after_step(run, at, loss, applied)
            if at.epoch < last:  # reads ahead during the evaluation
                batches = _open_epoch(run, Position(at.epoch + 1))
            after_epoch(run, at.epoch)
            at = run.after(at.epoch)
    return at


def _open_epoch(run: Run, at: Position):
    with run.clock.during(DATA):
        return run.batches.epoch(at.epoch - 1, at.step, run.batches.listeners)


def after_step(run: Run, at: Position, loss: Tensor, applied: Tensor) -> None:
    """Log a step, then save or end the run if that is due.

    `loss` and `applied` are of this step, or of all steps of the epoch so far, see `EpochOutputs`.
    """
    step = at.count(run.batches.steps)
    if run.sample_log:
        run.sample_log.write(step)  # first, so that it covers every step of a checkpoint
    run.progress.add(at, loss, applied)
    if run.figures:
        run.figures.after_step(step)
    if run.profile:
        with run.clock.during(REST):
            run.profile.after_step()
    if run.checkpoints:
        run.checkpoints.check()
    if at.step == run.batches.steps:
        return  # `after_epoch` decides
    signal, is_time = None, False
    if at.step % run.division.batches == 0:  # between two updates other ranks can continue too
        signal, is_time = run.agreement.after_step(step, run.save_points.is_time())
    if signal or is_time or run.save_points.is_step(step):
        save(run, at)
    if signal:
        leave(run, at, signal)


def after_epoch(run: Run, epoch: int) -> None:
    """Evaluate and log an epoch, then save or end the run if that is due."""
    at = Position(epoch, run.batches.steps)
    step, is_last = at.count(run.batches.steps), epoch == run.epochs
    is_regular = is_last or epoch % run.save_points.interval == 0
    is_evaluated = run.evaluate is not None and (is_last or epoch % run.val_interval == 0)
    run.progress.end_epoch()
    try:
        with run.clock.during(EVALUATION):
            accuracies = measure(run, epoch, is_evaluated, is_evaluated or is_regular)
    except EvaluationStopped:
        at = replace(at, is_evaluated=False)
        save(run, at)
        leave(run, at, run.stop.received)
    finally:
        run.step.set_train()
    run.table.append(epoch, step, run.progress, accuracies)
    if run.ending:
        is_last = is_regular = True
        _logger.info(run.ending)
    if run.figures:
        run.figures.after_epoch(step, accuracies)

    signal, is_time = run.agreement.now(step, run.save_points.is_time())
    scores = [accuracy.score for accuracy in accuracies if accuracy]
    score = scores[-1] if scores else None  # of the averaged weights, if they were evaluated
    is_kept = bool(is_regular or run.save_points.is_step(step) or is_time or signal)
    # Several processes are compared after every epoch, saved or not.
    if is_kept or scores or run.runtime.world_size > 1:
        save(run, at, score=score, is_midway=not is_regular, is_kept=is_kept)
    if signal and not is_last:
        leave(run, at, signal)


def measure(run: Run, epoch: int, is_evaluated: bool, is_used: bool) -> list[Measured | None]:
    """Return the accuracy of the weights and, if there is one, of their average.

    Both are None unless `is_evaluated`; `is_used`: running statistics will be evaluated or saved.
    """

    def evaluate(whose: str, is_chosen: bool) -> Measured | None:
        if run.precise_batch_norm and is_used:
            run.precise_batch_norm()
        average_batch_statistics(run.network, run.runtime)
        if not (is_evaluated and is_chosen):
            return None
        accuracy = run.evaluate()
        _logger.info("epoch %d: %s%s", epoch, whose, accuracy)
        return accuracy

    if run.step.average is None:
        return [evaluate("", True)]
    raw = evaluate("", run.val_weights != "averaged")
    with run.step.average.in_place_of_the_weights():
        return [raw, evaluate("averaged weights: ", run.val_weights != "raw")]


def save(
    run: Run,
    at: Position,
    score: float | None = None,
    is_midway: bool = True,
    is_kept: bool = True,
) -> None:
    """Save the run, see `CheckpointWriter.save`; all processes must call it.

    Raises:
        NonFiniteLossError: a loss or a tensor is not finite.
        WeightsError: the processes have diverged, or the previous save failed.
    """
    run.progress.take_losses()  # waiting for steps is not saving
    with run.clock.during(CHECKPOINT):
        is_within = at.step < run.batches.steps
        snapshot = run.state.capture(within_epoch=is_within or not at.is_evaluated)
        # Within an epoch each rank has running statistics of its own.
        check_equal_states(run.runtime, snapshot, skipped=STATISTICS if is_within else ())
        if is_kept:
            run.save_points.saved = time.monotonic()
        if run.checkpoints:
            run.checkpoints.save(
                at,
                snapshot.files(run.metadata),
                {**snapshot.figures, "ending": run.ending},
                score=score,
                is_midway=is_midway,
                is_kept=is_kept,
            )


def leave(run: Run, at: Position, signal: Signals) -> None:
    """Wait for the last save, then raise `Interrupted`."""
    if run.checkpoints:
        run.checkpoints.wait()
    if run.runtime.world_size > 1:  # msrun kills the others when one ends
        run.runtime.sum_over_ranks(np.zeros(1, np.float32))
    done = "" if at.is_evaluated else ", before its evaluation"
    raise Interrupted(
        signal,
        f"stopped by {signal.name} after step {at.step} of epoch {at.epoch}{done}; continue with "
        "--resume auto",
    )
