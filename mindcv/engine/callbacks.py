"""What watches a training run: progress lines, evaluation, metrics file, checkpoints.

Callbacks observe. The one exception is documented where it stands: the running statistics of
normalisation layers are averaged over the processes, or measured anew, before they are evaluated
and saved. Training itself does not read them.
"""

import csv
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..errors import NonFiniteLossError
from .batch_norm import PreciseBatchNorm, average_batch_statistics
from .checkpoint import CheckpointKeeper
from .evaluation import Accuracy
from .runtime import Runtime
from .weight_average import WeightAverage

_logger = logging.getLogger("mindcv.train")


class Progress(ms.Callback):
    """Shows loss, rate, speed and remaining time; stops the run when the loss is not finite.

    Losses stay on the device until they are shown, so that watching does not slow the run.

    Args:
        rates: learning rate of every step of the run.
        batch_size: images of a step over all processes.
        log_interval: steps between lines.
        bar: show a progress bar, if this is a terminal.

    Attributes:
        epoch_loss: mean loss of the last epoch's steps, as far as MindSpore showed them: with the
            data sink of Ascend it shows the last step of an epoch only.
        skipped: steps that were skipped because their gradients overflowed.
        last_line: step, its loss, and images per second (None: not known) of the last log line.
    """

    def __init__(self, rates: Sequence[float], batch_size: int, log_interval: int, bar: bool):
        self.rates, self.batch_size, self.log_interval = rates, batch_size, log_interval
        self.epoch_loss = float("nan")
        self.skipped = 0
        self.last_line: tuple[int, float, float | None] = (0, float("nan"), None)
        shown = bar and sys.stderr.isatty()
        images = len(rates) * batch_size
        self._bar = tqdm(total=images, unit=" images", disable=not shown, file=sys.stderr)
        self._pending: list[tuple[int, Tensor, Tensor]] = []  # (step, loss, applied)
        self._losses: list[float] = []
        self._started = False
        self._shown = 0.0  # time when the bar last told a loss
        self._mark = (0.0, 0)  # time and step of the last line
        self._pause: float | None = None

    def on_train_begin(self, run_context):
        self._mark = (time.perf_counter(), 0)

    def on_train_epoch_begin(self, run_context):
        # Evaluation and saving between two epochs are no training time.
        if self._pause is not None:
            self._mark = (self._mark[0] + time.perf_counter() - self._pause, self._mark[1])
            self._pause = None

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num
        self._pending.append((step, *params.net_outputs))
        if not self._started:
            self._report_first_step(params)
        elif step % self.log_interval == 0 or step % params.batch_num == 0:
            self._report(params)
        elif not self._bar.disable and time.perf_counter() - self._shown > 1.0:
            self._take_losses(params)
        if not self._pending:
            self._bar.set_postfix_str(self._state(step), refresh=False)
            self._shown = time.perf_counter()
        self._bar.update(step * self.batch_size - self._bar.n)

    def on_train_epoch_end(self, run_context):
        self.epoch_loss = float(np.mean(self._losses)) if self._losses else float("nan")
        self._losses.clear()
        self._pause = time.perf_counter()

    def on_train_end(self, run_context):
        self._bar.close()

    def _report_first_step(self, params) -> None:
        """Print compilation apart: the first step, or first sink of steps, compiles the graph."""
        self._started = True
        self._take_losses(params)  # waits until the step is really done
        step = params.cur_step_num
        done = "first step" if step == 1 else f"first {step} steps"
        seconds = time.perf_counter() - self._mark[0]
        _logger.info("%s with graph compilation: %.1f s, %s", done, seconds, self._state(step))
        self._mark = (time.perf_counter(), step)
        self.last_line = (step, self._losses[-1], None)

    def _report(self, params) -> None:
        self._take_losses(params)
        step, now = params.cur_step_num, time.perf_counter()
        in_epoch = (step - 1) % params.batch_num + 1
        line = (
            f"epoch {params.cur_epoch_num}/{len(self.rates) // params.batch_num} "
            f"step {in_epoch}/{params.batch_num} {self._state(step)}"
        )
        self.last_line = (step, self._losses[-1], None)
        if step > self._mark[1]:
            per_step = (now - self._mark[0]) / (step - self._mark[1])
            left = timedelta(seconds=round((len(self.rates) - step) * per_step))
            line += f" {self.batch_size / per_step:.0f} images/s, {left} left"
            self.last_line = (step, self._losses[-1], self.batch_size / per_step)
            self._mark = (now, step)
        if self.skipped:
            line += f", {self.skipped} steps skipped (overflow)"
        _logger.info(line)

    def _state(self, step: int) -> str:
        return f"loss {self._losses[-1]:.4f} lr {self.rates[step - 1]:.6g}"

    def _take_losses(self, params) -> None:
        """Fetch the losses of the steps since the last time.

        Raises:
            NonFiniteLossError: one is NaN or infinite, in a step that was not skipped.
        """
        for step, loss, applied in self._pending:
            value, was_applied = float(loss.asnumpy()), bool(applied.asnumpy())
            self.skipped += not was_applied
            if was_applied and not np.isfinite(value):
                self._bar.close()
                raise NonFiniteLossError(
                    f"loss is {value} at step {step} (epoch {params.cur_epoch_num}), learning rate "
                    f"{self.rates[step - 1]:g}; lower lr, lengthen the warm-up or check the data"
                )
            self._losses.append(value)
        self._pending.clear()


class EpochEnd(ms.Callback):
    """After each epoch: evaluate, append a row to metrics.csv, save checkpoints.

    Args:
        network: the network to save.
        progress: tells the epoch's training loss.
        rates: learning rate of every step of the run.
        evaluate: returns the accuracy; None: no evaluation.
        val_interval: epochs between evaluations.
        keeper: writes checkpoints; None on all ranks but the first.
        save_interval: epochs between checkpoints.
        metrics: csv file; None on all ranks but the first.
        runtime: the processes that train together.
        average: running average of the weights, evaluated beside them; None: none. It then decides
            which checkpoint is the best.
        precise_batch_norm: measures the running statistics anew before they are used; None: not.

    Attributes:
        accuracies: of the last epoch: the weights', then their average's where there is one; empty:
            it was not evaluated.
    """

    COLUMNS = ("epoch", "step", "train_loss", "lr", "val_loss", "val_top1", "val_top5")
    AVERAGE_COLUMNS = ("ema_val_loss", "ema_val_top1", "ema_val_top5")

    def __init__(
        self,
        network: nn.Cell,
        progress: Progress,
        rates: Sequence[float],
        evaluate: Callable[[], Accuracy] | None,
        val_interval: int,
        keeper: CheckpointKeeper | None,
        save_interval: int,
        metrics: Path | None,
        runtime: Runtime,
        average: WeightAverage | None = None,
        precise_batch_norm: PreciseBatchNorm | None = None,
    ):
        self.network, self.progress, self.rates, self.runtime = network, progress, rates, runtime
        self.evaluate, self.val_interval = evaluate, val_interval
        self.keeper, self.save_interval = keeper, save_interval
        self.metrics = metrics
        self.average, self.precise_batch_norm = average, precise_batch_norm
        self.accuracies: Sequence[Accuracy] = ()
        self.columns = self.COLUMNS + (self.AVERAGE_COLUMNS if average else ())
        if metrics is not None:
            start_table(metrics, self.columns)

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch, step = params.cur_epoch_num, params.cur_step_num
        is_last = step >= len(self.rates)
        evaluates = self.evaluate is not None and (epoch % self.val_interval == 0 or is_last)
        saves = epoch % self.save_interval == 0 or is_last
        accuracies = []
        if evaluates or saves:
            accuracies.append(self._measure(epoch, "", evaluates))
        if self.average is not None and accuracies:
            with self.average.in_place_of_the_weights():
                accuracies.append(self._measure(epoch, "averaged weights: ", evaluates))
        params.train_network.set_train()
        self.accuracies = accuracies if evaluates else ()
        self._append_row(epoch, step, accuracies)
        # The averaged weights stand last, and are those to be used.
        score = accuracies[-1].top1 if evaluates else None
        self._save(epoch, params.batch_num, score, saves)

    def _measure(self, epoch: int, whose: str, evaluates: bool) -> Accuracy | None:
        if self.precise_batch_norm is not None:
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

    def _append_row(self, epoch: int, step: int, accuracies: Sequence[Accuracy | None]) -> None:
        if self.metrics is None:
            return
        row = [epoch, step, f"{self.progress.epoch_loss:.6f}", f"{self.rates[step - 1]:.8g}"]
        for accuracy in filter(None, accuracies):
            top5 = "" if accuracy.top5 is None else f"{accuracy.top5:.4f}"
            row += [f"{accuracy.loss:.6f}", f"{accuracy.top1:.4f}", top5]
        row += [""] * (len(self.columns) - len(row))  # not evaluated in this epoch
        with self.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

    def _save(self, epoch: int, steps: int, score: float | None, saves: bool) -> None:
        if self.keeper is None:
            return
        if saves:
            path = self.keeper.save(self.network, epoch, steps, score)
            _logger.info("saved %s", path)
        if score is not None and self.keeper.save_if_best(self.network, score):
            _logger.info("best so far: top-1 %.3f %% in epoch %d", score, epoch)


def start_table(path: Path, columns: Sequence[str]) -> None:
    """Begin a csv file; the table of an earlier run in the folder is kept under a number."""
    if path.exists():
        number = 1
        while path.with_name(f"{path.stem}-{number}{path.suffix}").exists():
            number += 1
        path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(columns)
