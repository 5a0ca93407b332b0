"""What watches a training run: progress lines, evaluation, metrics file.

Callbacks observe. The one exception is documented where it stands: the running statistics of
normalisation layers are averaged over the processes, or measured anew, before they are evaluated
and saved. Training itself does not read them.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..errors import NonFiniteLossError
from .batch_norm import PreciseBatchNorm, average_batch_statistics
from .device import Runtime
from .evaluation import Accuracy, EvaluationStopped
from .nonfinite import FiniteWatch, StepPlace, each_step
from .saving import SavePoints
from .tables import MetricsTable
from .update import WeightAverage

_logger = logging.getLogger("mindcv.train")


class Progress(ms.Callback):
    """Shows loss, rate, speed and remaining time; stops the run when the loss is not finite.

    Losses stay on the device until they are shown, so that watching does not slow the run.

    Args:
        rates: learning rate of every step of the run.
        batch_size: images of a step over all processes.
        log_interval: steps between lines.
        bar: show a progress bar, if this is a terminal.
        accumulation, max_skipped, images: see `FiniteWatch`.

    Attributes:
        epoch_loss: mean loss of the last epoch's steps; what is not finite does not count.
        watch: counts the steps that were skipped.
        last_line: step, its loss, and images per second (None: not known) of the last log line.
        first_steps, compile_seconds: which steps were seen first, and how long they took.
        seconds: how long the training took, evaluations included.
    """

    def __init__(
        self,
        rates: Sequence[float],
        batch_size: int,
        log_interval: int,
        bar: bool,
        accumulation: int = 1,
        max_skipped: int | None = None,
        images: Callable[[int, int], Sequence[str]] | None = None,
    ):
        self.rates, self.batch_size, self.log_interval = rates, batch_size, log_interval
        self.watch = FiniteWatch(rates, accumulation, max_skipped, images)
        self.epoch_loss = float("nan")
        self.last_line: tuple[int, float, float | None] = (0, float("nan"), None)
        shown = bar and sys.stderr.isatty()
        images = len(rates) * batch_size
        self._bar = tqdm(total=images, unit=" images", disable=not shown, file=sys.stderr)
        self._pending: list[tuple[StepPlace, Tensor, Tensor]] = []  # with loss and applied
        self._losses: list[float] = []
        self._losses_before: list[float] = []  # of the epoch that was begun before
        self.first_steps, self.compile_seconds, self.seconds = "", 0.0, 0.0
        self._trained = (0, 0.0)  # steps behind the first one, and their seconds
        self._started = False
        self._shown = 0.0  # time when the bar last told a loss
        self._began = 0.0
        self._mark = (0.0, 0)  # time and step of the last line
        self._pause: float | None = None

    def on_train_begin(self, run_context):
        step = run_context.original_args().cur_step_num
        self._began = time.perf_counter()
        self._mark = (self._began, step)
        self._bar.initial = self._bar.n = step * self.batch_size
        self.watch.begin(step)
        if ms.get_context("mode") == ms.GRAPH_MODE and step < len(self.rates):
            _logger.info("compiling the training step ...")

    def on_train_epoch_begin(self, run_context):
        self._losses, self._losses_before = self._losses_before, []
        # Evaluation and saving between two epochs are no training time.
        if self._pause is not None:
            self._mark = (self._mark[0] + time.perf_counter() - self._pause, self._mark[1])
            self._pause = None

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num
        place = StepPlace(params.cur_epoch_num, step, params.batch_num)
        self._pending.append((place, *params.net_outputs))
        if not self._started:
            self._report_first_step(params)
        elif step % self.log_interval == 0 or step % params.batch_num == 0:
            self._report(params)
        elif not self._bar.disable and time.perf_counter() - self._shown > 1.0:
            self.take_losses()
        if not self._pending:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._shown = time.perf_counter()
        self._bar.update(step * self.batch_size - self._bar.n)

    def on_train_epoch_end(self, run_context):
        finite = [loss for loss in self._losses if np.isfinite(loss)]
        self.epoch_loss = float(np.mean(finite)) if finite else float("nan")
        self._pause = time.perf_counter()

    def on_train_end(self, run_context):
        self.seconds = time.perf_counter() - self._began
        self._bar.close()
        self.watch.tell_end()

    @property
    def images_per_second(self) -> float | None:
        """Speed of all steps but the first, without evaluation and saving; None: not known."""
        steps, seconds = self._trained
        return steps * self.batch_size / seconds if steps else None

    def take_losses(self) -> list[float]:
        """Fetch the losses of the steps since the last time; return those of the epoch so far.

        Raises:
            NonFiniteLossError: see `FiniteWatch.look`.
        """
        try:
            for outputs in self._pending:
                for place, loss, applied in each_step(*outputs):
                    self.watch.look(place, loss, applied)
                    self._losses.append(loss)
        except NonFiniteLossError:
            self._bar.close()
            raise
        self._pending.clear()
        return self._losses

    def restore(self, losses: Sequence[float]) -> None:
        """Let the next epoch go on behind these losses."""
        self._losses_before = list(losses)

    def _report_first_step(self, params) -> None:
        """Print compilation apart: the first step, or first sink of steps, compiles the graph."""
        self._started = True
        self.take_losses()  # waits until the step is really done
        step = params.cur_step_num
        count = step - self._mark[1]
        done = self.first_steps = "first step" if count == 1 else f"first {count} steps"
        self.compile_seconds = time.perf_counter() - self._mark[0]
        _logger.info(
            "%s with graph compilation: %.1f s, %s", done, self.compile_seconds, self._state()
        )
        self._mark = (time.perf_counter(), step)
        self.last_line = (step, self._losses[-1], None)

    def _report(self, params) -> None:
        self.take_losses()
        step, now = params.cur_step_num, time.perf_counter()
        in_epoch = (step - 1) % params.batch_num + 1
        line = (
            f"epoch {params.cur_epoch_num}/{len(self.rates) // params.batch_num} "
            f"step {in_epoch}/{params.batch_num} {self._state()}"
        )
        self.last_line = (step, self._losses[-1], None)
        if step > self._mark[1]:
            steps, seconds = step - self._mark[1], now - self._mark[0]
            per_step = seconds / steps
            self._trained = (self._trained[0] + steps, self._trained[1] + seconds)
            left = timedelta(seconds=round((len(self.rates) - step) * per_step))
            line += f" {self.batch_size / per_step:.0f} images/s, {left} left"
            self.last_line = (step, self._losses[-1], self.batch_size / per_step)
            self._mark = (now, step)
        if self.watch.skipped:
            line += f", {self.watch.skipped} updates skipped"
        _logger.info(line)

    def _state(self) -> str:
        return f"loss {self._losses[-1]:.4f} lr {self.watch.rate:.6g}"


class EpochEnd(ms.Callback):
    """After each epoch: evaluate, append a row to metrics.csv, save checkpoints.

    Args:
        network: the network to evaluate and save.
        progress: tells the epoch's training loss.
        rates: learning rate of every step of the run.
        evaluate: returns the accuracy; None: no evaluation.
        val_interval: epochs between evaluations.
        saves: saves checkpoints.
        table: takes the rows; see `columns_of`.
        runtime: the processes that train together.
        average: running average of the weights; None: none.
        val_weights: averaged, raw or both: what is evaluated where there is an average. The best
            checkpoint is that of the averaged weights where these are evaluated.
        precise_batch_norm: measures the running statistics anew before they are used; None: not.

    Attributes:
        accuracies: of the last epoch: the weights', then their average's where there is one; None:
            not evaluated.
    """

    def __init__(
        self,
        network: nn.Cell,
        progress: Progress,
        rates: Sequence[float],
        evaluate: Callable[[], Accuracy] | None,
        val_interval: int,
        saves: SavePoints,
        table: MetricsTable,
        runtime: Runtime,
        average: WeightAverage | None = None,
        precise_batch_norm: PreciseBatchNorm | None = None,
        val_weights: str = "averaged",
    ):
        self.network, self.progress, self.rates, self.runtime = network, progress, rates, runtime
        self.evaluate, self.val_interval = evaluate, val_interval
        self.saves, self.table = saves, table
        self.average, self.precise_batch_norm = average, precise_batch_norm
        self.val_weights = val_weights if average is not None else "raw"
        self.accuracies: Sequence[Accuracy | None] = ()

    def on_train_begin(self, run_context):
        self.table.begin()

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch, step = params.cur_epoch_num, params.cur_step_num
        is_last = step >= len(self.rates)
        evaluates = self.evaluate is not None and (epoch % self.val_interval == 0 or is_last)
        try:
            self.accuracies = self._measure_all(epoch, evaluates, is_last)
        except EvaluationStopped:
            params.train_network.set_train()
            self.saves.stop_in_evaluation(epoch, params.batch_num)
        params.train_network.set_train()
        self._append_row(epoch, step)
        # The averaged weights stand last, and are those to be used.
        measured = [accuracy.top1 for accuracy in self.accuracies if accuracy]
        score = measured[-1] if measured else None
        self.saves.end_epoch(epoch, params.batch_num, score, is_last)

    def _measure_all(self, epoch: int, evaluates: bool, is_last: bool) -> list[Accuracy | None]:
        uses = evaluates or self.saves.is_regular(epoch, is_last)
        is_raw = evaluates and self.val_weights != "averaged"
        accuracies = [self._measure(epoch, "", is_raw, uses)]
        if self.average is not None:
            is_averaged = evaluates and self.val_weights != "raw"
            with self.average.in_place_of_the_weights():
                accuracies.append(self._measure(epoch, "averaged weights: ", is_averaged, uses))
        return accuracies

    def _measure(self, epoch: int, whose: str, evaluates: bool, uses: bool) -> Accuracy | None:
        if self.precise_batch_norm is not None and uses:
            self.precise_batch_norm()
        average_batch_statistics(self.network, self.runtime)
        if not evaluates:
            return None
        accuracy = self.evaluate()
        top5 = "" if accuracy.top5 is None else f", top-5 {accuracy.top5:.3f} %"
        _logger.info(
            "epoch %d: %stop-1 %.3f %%%s, loss %.4f on %d images",
            epoch,
            whose,
            accuracy.top1,
            top5,
            accuracy.loss,
            accuracy.images,
        )
        return accuracy

    def _append_row(self, epoch: int, step: int) -> None:
        watch = self.progress.watch
        row = [epoch, step, f"{self.progress.epoch_loss:.6f}", f"{watch.rate:.8g}"]
        for accuracy in self.accuracies:
            row += ["", "", ""] if accuracy is None else _cells(accuracy)
        self.table.append([*row, watch.skipped])


def columns_of(has_average: bool) -> tuple[str, ...]:
    """Return the columns of metrics.csv; skipped counts the updates of the run so far."""
    own = ("epoch", "step", "train_loss", "lr", "val_loss", "val_top1", "val_top5")
    averages = ("ema_val_loss", "ema_val_top1", "ema_val_top5") if has_average else ()
    return (*own, *averages, "skipped")


def _cells(accuracy: Accuracy) -> list[str]:
    top5 = "" if accuracy.top5 is None else f"{accuracy.top5:.4f}"
    return [f"{accuracy.loss:.6f}", f"{accuracy.top1:.4f}", top5]
