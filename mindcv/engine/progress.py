"""What a training shows: log lines, a progress bar, and event files for TensorBoard."""

import logging
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from ..checkpoint import Position
from ..errors import ConfigError, NonFiniteLossError
from ..names import plural
from ..process.files import writing
from .evaluation import Accuracy
from .nonfinite import FiniteWatch, each_step

_logger = logging.getLogger("mindcv.train")


class Progress:
    """Shows loss, learning rate, speed and remaining time.

    Losses stay on the device until they are shown, so that the log does not slow the run.

    Args:
        batch_size: images per step over all processes.
        log_interval: steps between lines.
        bar: show a progress bar, if stderr is a terminal.

    Attributes:
        epoch_loss: mean of the finite losses of the last epoch.
        last_line: step, its loss, and images per second (None if unknown) of the last log line.
        first_steps, compile_seconds: which steps included the compilation, and how long they took.
        seconds: duration of the training, including evaluations.
    """

    def __init__(self, watch: FiniteWatch, batch_size: int, log_interval: int, bar: bool = False):
        self.watch, self.batch_size, self.log_interval = watch, batch_size, log_interval
        self.epoch_loss = float("nan")
        self.last_line: tuple[int, float, float | None] = (0, float("nan"), None)
        self.first_steps, self.compile_seconds, self.seconds = "", 0.0, 0.0
        self._steps = len(watch.rates)
        self._bar = tqdm(
            total=self._steps * batch_size,
            unit=" images",
            disable=not (bar and sys.stderr.isatty()),
            file=sys.stderr,
        )
        self._pending: list[tuple[Position, Tensor, Tensor]] = []  # with loss and applied
        self._losses: list[float] = []
        self._losses_before: list[float] = []  # of an epoch begun before a resume
        self._trained = (0, 0.0)  # steps after the first one, and their seconds
        self._shown = 0.0  # time when the bar last showed a loss
        self._began = 0.0
        self._mark = (0.0, 0)  # time and step of the last line
        self._pause: float | None = None

    @property
    def images_per_second(self) -> float | None:
        """Speed of all steps but the first, without evaluation and saving; None if unknown."""
        steps, seconds = self._trained
        return steps * self.batch_size / seconds if steps else None

    def restore(self, losses: Sequence[float]) -> None:
        """Continue the next epoch after these losses."""
        self._losses_before = list(losses)

    def begin(self, at: Position) -> None:
        step = at.count(self.watch.steps_per_epoch)
        self._began = time.perf_counter()
        self._mark = (self._began, step)
        self._bar.initial = self._bar.n = step * self.batch_size
        self.watch.begin(step)
        if ms.get_context("mode") == ms.GRAPH_MODE and step < self._steps:
            _logger.info("compiling the training step ...")

    def begin_epoch(self) -> None:
        self._losses, self._losses_before = self._losses_before, []
        # Evaluation and saving between epochs do not count as training time.
        if self._pause is not None:
            self._mark = (self._mark[0] + time.perf_counter() - self._pause, self._mark[1])
            self._pause = None

    def add(self, at: Position, loss: Tensor, applied: Tensor) -> None:
        """Take the outputs of a step, or of all steps up to it, see `each_step`."""
        step = at.count(self.watch.steps_per_epoch)
        self._pending.append((at, loss, applied))
        if not self.first_steps:
            self._report_first(step)
        elif step % self.log_interval == 0 or at.step == self.watch.steps_per_epoch:
            self._report(at, step)
        elif not self._bar.disable and time.perf_counter() - self._shown > 1.0:
            self.take_losses()
        if not self._pending:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._shown = time.perf_counter()
        self._bar.update(step * self.batch_size - self._bar.n)

    def end_epoch(self) -> None:
        finite = [loss for loss in self._losses if np.isfinite(loss)]
        self.epoch_loss = float(np.mean(finite)) if finite else float("nan")
        self._pause = time.perf_counter()

    def end(self) -> None:
        self.seconds = time.perf_counter() - self._began
        self._bar.close()
        self.watch.log_skipped()

    def take_losses(self) -> list[float]:
        """Fetch and check the losses still on the device; return those of the epoch so far."""
        try:
            for outputs in self._pending:
                for at, loss, applied in each_step(*outputs):
                    self.watch.look(at, loss, applied)
                    self._losses.append(loss)
        except NonFiniteLossError:
            self._bar.close()
            raise
        self._pending.clear()
        return self._losses

    def _report_first(self, step: int) -> None:
        """Log the first step, or first sink of steps, separately: it compiles the graph."""
        self.take_losses()  # waits until the step is really done
        count = step - self._mark[1]
        self.first_steps = "first step" if count == 1 else f"first {count} steps"
        self.compile_seconds = time.perf_counter() - self._mark[0]
        took = f"{self.first_steps} with graph compilation: {self.compile_seconds:.1f} s"
        _logger.info("%s, %s", took, self._state())
        self._mark = (time.perf_counter(), step)
        self.last_line = (step, self._losses[-1], None)

    def _report(self, at: Position, step: int) -> None:
        self.take_losses()
        now, steps_per_epoch = time.perf_counter(), self.watch.steps_per_epoch
        line = (
            f"epoch {at.epoch}/{self._steps // steps_per_epoch} "
            f"step {at.step}/{steps_per_epoch} {self._state()}"
        )
        speed = None
        if step > self._mark[1]:
            steps, seconds = step - self._mark[1], now - self._mark[0]
            self._trained = (self._trained[0] + steps, self._trained[1] + seconds)
            speed = self.batch_size * steps / seconds
            left = timedelta(seconds=round((self._steps - step) * seconds / steps))
            line += f" {speed:.0f} images/s, {left} left"
            self._mark = (now, step)
        self.last_line = (step, self._losses[-1], speed)
        if self.watch.skipped:
            line += f", {self.watch.skipped} updates skipped"
        _logger.info(line)

    def _state(self) -> str:
        return f"loss {self._losses[-1]:.4f} lr {self.watch.rate:.6g}"


def open_event_writer(folder: str):
    """Return a tensorboardX `SummaryWriter` that starts a file in the folder.

    Raises:
        ConfigError: tensorboardX is not installed, or the folder cannot be written.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError(
            f"summary_dir {folder} needs the package tensorboardX, which is not installed; "
            'install the extra: pip install ".[tensorboard]"'
        ) from None
    with writing(f"summary_dir {folder}", ConfigError):
        return SummaryWriter(folder)


class EventFiles:
    """Writes what `Progress` logs and what an evaluation measures, over the steps of the run.

    Every log line adds train/loss, train/lr and train/images_per_second; every epoch adds
    train/epoch_loss and, if it was evaluated, val/loss, val/top1 and val/top5, and ema_val/… for a
    weight average.
    """

    def __init__(self, writer, progress: Progress):
        self.writer, self.progress = writer, progress

    def after_step(self, step: int) -> None:
        shown, loss, speed = self.progress.last_line
        if step == shown:
            values = {"loss": loss, "lr": self.progress.watch.rate, "images_per_second": speed}
            self._write("train", values, step)

    def after_epoch(self, step: int, accuracies: Sequence[Accuracy | None]) -> None:
        self._write("train", {"epoch_loss": self.progress.epoch_loss}, step)
        for group, accuracy in zip(("val", "ema_val"), accuracies):
            if accuracy:
                values = {"loss": accuracy.loss, "top1": accuracy.top1, "top5": accuracy.top5}
                self._write(group, values, step)

    def close(self) -> None:
        self.writer.close()

    def _write(self, group: str, values: dict[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()  # a killed run keeps what it wrote


def describe_model(name: str, network: nn.Cell, image_size: int | tuple[int, int]) -> list[str]:
    """Return log lines with the name, parameters and multiply-accumulates of a network.

    The multiply-accumulates need a method `complexity(image_size)`, such as `AnyNet` has, and a
    square image.
    """
    params = sum(parameter.size for parameter in network.trainable_params())
    lines = [f"model {name}: {params:,} parameters ({params / 1e6:.2f} M)"]
    if isinstance(image_size, tuple):
        lines.append(f"  MACs not known for images of {image_size[0]} x {image_size[1]} pixels")
    elif hasattr(network, "complexity"):
        macs = network.complexity(image_size).macs
        lines.append(f"  {macs:,} MACs for an image of {image_size} x {image_size} pixels")
    else:
        lines.append("  MACs not known: the model has no method complexity(image_size)")
    return lines


def describe_schedule(rates: Sequence[float], steps_per_epoch: int) -> list[str]:
    """Return log lines with the learning rate at a few points of the run."""
    epochs = len(rates) // steps_per_epoch
    points = sorted({0, *(round(epochs * part / 8) for part in range(1, 8)), epochs - 1} - {epochs})
    lines = [
        f"{plural(steps_per_epoch, 'step')} per epoch, {plural(epochs, 'epoch')}, "
        f"{plural(len(rates), 'step')}"
    ]
    lines += [f"  epoch {epoch + 1}: lr {rates[epoch * steps_per_epoch]:.6g}" for epoch in points]
    lines.append(f"  last step: lr {rates[-1]:.6g}")
    return lines
