"""What watches a training run: progress lines, evaluation, metrics file, checkpoints.

Callbacks observe. The one exception is documented where it stands: under several processes the
running statistics of normalisation layers are averaged before they are evaluated and saved.
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
from .checkpoint import CheckpointKeeper
from .evaluation import Accuracy
from .runtime import Runtime

_logger = logging.getLogger("mindcv.train")


class Progress(ms.Callback):
    """Shows loss, rate, speed and remaining time; stops the run when the loss is not finite.

    Losses stay on the device until the next log line, so that watching does not slow the run.

    Args:
        rates: learning rate of every step of the run.
        batch_size: images of a step over all processes.
        log_interval: steps between lines.
        bar: show a progress bar, if this is a terminal.

    Attributes:
        epoch_loss: mean loss of the last epoch's steps, as far as MindSpore showed them: with the
            data sink of Ascend it shows the last step of an epoch only.
    """

    def __init__(self, rates: Sequence[float], batch_size: int, log_interval: int, bar: bool):
        self.rates, self.batch_size, self.log_interval = rates, batch_size, log_interval
        self.epoch_loss = float("nan")
        self.skipped = 0
        shown = bar and sys.stderr.isatty()
        self._bar = tqdm(total=len(rates), unit="step", disable=not shown, file=sys.stderr)
        self._pending: list[tuple[int, Tensor, Tensor]] = []  # (step, loss, applied)
        self._losses: list[float] = []
        self._first_interval: float | None = None
        self._mark = (0.0, 0)  # time and step of the last line
        self._pause = 0.0

    def on_train_begin(self, run_context):
        self._mark = (time.perf_counter(), 0)

    def on_train_epoch_begin(self, run_context):
        # Evaluation and saving between two epochs are no training time.
        if self._pause:
            self._mark = (self._mark[0] + time.perf_counter() - self._pause, self._mark[1])
            self._pause = 0.0

    def on_train_step_end(self, run_context):
        params = run_context.original_args()
        step = params.cur_step_num
        loss, applied = params.net_outputs
        self._pending.append((step, loss, applied))
        if self._first_interval is None:
            self._report_first_step(step)
        last_of_epoch = step % params.batch_num == 0
        if step % self.log_interval == 0 or last_of_epoch:
            self._report(params)
        self._bar.update(step - self._bar.n)

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        if self._pending:
            self._report(params)
        self.epoch_loss = float(np.mean(self._losses)) if self._losses else float("nan")
        self._losses.clear()
        self._pause = time.perf_counter()

    def on_train_end(self, run_context):
        self._bar.close()

    def _report_first_step(self, step: int) -> None:
        """Print compilation apart: the first step (or sink) compiles the graph."""
        loss = self._pending[0][1].asnumpy()  # waits until the step is really done
        self._first_interval = time.perf_counter() - self._mark[0]
        done = "step" if step == 1 else f"{step} steps"
        _logger.info(
            "first %s with graph compilation: %.1f s, loss %.4f",
            done,
            self._first_interval,
            float(loss),
        )
        self._mark = (time.perf_counter(), step)

    def _report(self, params) -> None:
        step = params.cur_step_num
        for at, loss, applied in self._pending:
            value = float(loss.asnumpy())
            was_applied = bool(applied.asnumpy())
            self.skipped += not was_applied
            if was_applied and not np.isfinite(value):
                self._bar.close()
                raise NonFiniteLossError(
                    f"loss is {value} at step {at} (epoch {params.cur_epoch_num}), learning rate "
                    f"{self.rates[at - 1]:g}; lower lr, lengthen the warm-up or check the data"
                )
            self._losses.append(value)
        now, done = time.perf_counter(), step - self._mark[1]
        self._pending.clear()
        speed = done * self.batch_size / (now - self._mark[0]) if done else 0.0
        left = (len(self.rates) - step) * self.batch_size / speed if speed else 0.0
        in_epoch = (step - 1) % params.batch_num + 1
        line = (
            f"epoch {params.cur_epoch_num}/{len(self.rates) // params.batch_num} "
            f"step {in_epoch}/{params.batch_num} loss {self._losses[-1]:.4f} "
            f"lr {self.rates[step - 1]:.6g}"
        )
        if done:
            line += f" {speed:.0f} images/s, {timedelta(seconds=round(left))} left"
        if self.skipped:
            line += f", {self.skipped} steps skipped (overflow)"
        _logger.info(line)
        self._bar.set_postfix_str(f"loss {self._losses[-1]:.4f} {speed:.0f} images/s")
        if done:
            self._mark = (now, step)


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
    """

    COLUMNS = ("epoch", "step", "train_loss", "lr", "val_loss", "val_top1", "val_top5")

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
    ):
        self.network, self.progress, self.rates, self.runtime = network, progress, rates, runtime
        self.evaluate, self.val_interval = evaluate, val_interval
        self.keeper, self.save_interval = keeper, save_interval
        self.metrics = metrics
        if metrics is not None:
            _start_table(metrics, self.COLUMNS)

    def on_train_epoch_end(self, run_context):
        params = run_context.original_args()
        epoch, step = params.cur_epoch_num, params.cur_step_num
        is_last = step >= len(self.rates)
        average_batch_statistics(self.network, self.runtime)
        accuracy = None
        if self.evaluate is not None and (epoch % self.val_interval == 0 or is_last):
            accuracy = self.evaluate()
            params.train_network.set_train()
            top5 = "" if accuracy.top5 is None else f", top-5 {accuracy.top5:.3f} %"
            _logger.info(
                "epoch %d: top-1 %.3f %%%s, loss %.4f on %d images",
                epoch,
                accuracy.top1,
                top5,
                accuracy.loss,
                accuracy.images,
            )
        self._append_row(epoch, step, accuracy)
        self._save(epoch, params.batch_num, accuracy, is_last)

    def _append_row(self, epoch: int, step: int, accuracy: Accuracy | None) -> None:
        if self.metrics is None:
            return
        row = [epoch, step, f"{self.progress.epoch_loss:.6f}", f"{self.rates[step - 1]:.8g}"]
        if accuracy is None:
            row += ["", "", ""]
        else:
            top5 = "" if accuracy.top5 is None else f"{accuracy.top5:.4f}"
            row += [f"{accuracy.loss:.6f}", f"{accuracy.top1:.4f}", top5]
        with self.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

    def _save(self, epoch: int, steps: int, accuracy: Accuracy | None, is_last: bool) -> None:
        if self.keeper is None:
            return
        score = None if accuracy is None else accuracy.top1
        if epoch % self.save_interval == 0 or is_last:
            path = self.keeper.save(self.network, epoch, steps, score)
            _logger.info("saved %s", path)
        if score is not None and self.keeper.save_if_best(self.network, score):
            _logger.info("best so far: top-1 %.3f %% in epoch %d", score, epoch)


def average_batch_statistics(network: nn.Cell, runtime: Runtime) -> None:
    """Average the running means and variances of the normalisation layers over the processes.

    Each process sees its own batches; without this the saved file would hold the statistics of rank
    0 alone, and the ranks would evaluate different networks.
    """
    if runtime.world_size == 1:
        return
    statistics = [
        parameter
        for name, parameter in network.parameters_and_names()
        if name.endswith(("moving_mean", "moving_variance"))
    ]
    if not statistics:
        return
    flat = np.concatenate([parameter.asnumpy().ravel() for parameter in statistics])
    mean = runtime.sum_over_ranks(flat) / runtime.world_size
    start = 0
    for parameter in statistics:
        part = mean[start : start + parameter.size].reshape(parameter.shape)
        parameter.set_data(Tensor(part, parameter.dtype))
        start += parameter.size


def _start_table(path: Path, columns: Sequence[str]) -> None:
    """Begin a csv file; the table of an earlier run in the folder is kept under a number."""
    if path.exists():
        number = 1
        while path.with_name(f"{path.stem}-{number}{path.suffix}").exists():
            number += 1
        path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(columns)
