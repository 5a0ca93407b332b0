"""What a training shows while it runs: log lines and, on a terminal, a progress bar."""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from ..checkpoint import Position
from ..names import plural
from ..process.clock import CHECKPOINT, COMPILE, DATA, EVALUATION, STEPS, Clock
from ..process.terminal import shows_colour
from ..ranks import is_over
from .nonfinite import FiniteWatch, each_step

_logger = logging.getLogger("mindcv.train")

_TICK = 1.0  # seconds between two looks of the bar
_COMPILING = "compiling the training step, {elapsed_s:.0f} s"
_TRAINING = "{desc} {percentage:3.0f} % |{bar}|"


class Pace:
    """Seconds that a step takes lately: a mean in which what is a minute old counts half."""

    HALF_LIFE = 60.0

    def __init__(self):
        self._steps = self._seconds = 0.0

    def add(self, steps: int, seconds: float) -> None:
        kept = 0.5 ** (seconds / self.HALF_LIFE)
        self._steps = kept * self._steps + steps
        self._seconds = kept * self._seconds + seconds

    @property
    def seconds(self) -> float | None:
        """None before the first step."""
        return self._seconds / self._steps if self._steps else None


class Progress:
    """Shows loss, learning rate, speed and remaining time; the bar and the log lines agree.

    Losses stay on the device until they are shown, so that the log does not slow the run. Speed is
    that of `Pace`, without evaluations and saves. The remaining time adds those that are to come,
    as long as the ones so far.

    Args:
        batch_size: images per step over all processes.
        log_interval: steps between lines.
        bar: show a progress bar, if stderr is a terminal.
        clock: the one of the process.

    Attributes:
        epoch_loss: mean of the finite losses of the last epoch.
        last_line: step, its loss, and images per second (None if unknown) of the last log line.
        first_steps: which steps included the compilation.
    """

    def __init__(
        self,
        watch: FiniteWatch,
        batch_size: int,
        log_interval: int,
        bar: bool = False,
        *,
        clock: Clock | None = None,
    ):
        self.watch, self.batch_size, self.log_interval = watch, batch_size, log_interval
        self.clock = clock or Clock()
        self.epoch_loss = float("nan")
        self.last_line: tuple[int, float, float | None] = (0, float("nan"), None)
        self.first_steps = ""
        self._steps = len(watch.rates)
        self._has_bar = bar and sys.stderr.isatty()
        self._bar = tqdm(disable=True)
        self._pending: list[tuple[Position, Tensor, Tensor]] = []  # with loss and applied
        self._losses: list[float] = []
        self._losses_before: list[float] = []  # of an epoch begun before a resume
        self._pace = Pace()
        self._measured = (0, 0.0)  # step until which the pace is known, and its time
        self._trained = (0, 0.0)  # steps after the first one, and their seconds
        self._epochs = 0  # that this process has ended
        self._compiled = 0.0  # seconds of graphs before the one of the first steps
        self._shown = 0.0  # time when the bar last showed a loss

    @property
    def images_per_second(self) -> float | None:
        """Speed of all steps but the first, without evaluation and saving; None if unknown."""
        steps, seconds = self._trained
        return steps * self.batch_size / seconds if seconds else None

    def restore(self, losses: Sequence[float]) -> None:
        """Continue the next epoch after these losses."""
        self._losses_before = list(losses)

    def begin(self, at: Position) -> None:
        is_over("restore")
        step = at.count(self.watch.steps_per_epoch)
        self._measured = (step, 0.0)
        self.watch.begin(step)
        if step >= self._steps:
            return
        self.clock.switch(COMPILE)
        is_compiled = ms.get_context("mode") == ms.GRAPH_MODE
        if is_compiled:
            _logger.info("compiling the training step ...")
        self._bar = tqdm(
            total=self._steps,
            initial=step,
            bar_format=_COMPILING if is_compiled else _TRAINING,
            colour="green" if shows_colour(sys.stderr) else None,
            disable=not self._has_bar,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
        )
        if self._has_bar:
            threading.Thread(target=self._tick, name="compiling", daemon=True).start()

    def begin_graph(self, at: Position) -> None:
        """Expect another graph, which is compiled with the next step."""
        self._measured = (at.count(self.watch.steps_per_epoch), 0.0)
        self.first_steps = ""
        self.clock.switch(COMPILE)
        self._compiled = self.clock.seconds[COMPILE]

    def begin_epoch(self) -> None:
        self._losses, self._losses_before = self._losses_before, []

    def add(self, at: Position, loss: Tensor, applied: Tensor) -> None:
        """Take the outputs of a step, or of all steps up to it, see `each_step`."""
        step = at.count(self.watch.steps_per_epoch)
        self._pending.append((at, loss, applied))
        is_line = step % self.log_interval == 0 or at.step == self.watch.steps_per_epoch
        if not self.first_steps:
            self._report_first(at, step)
        elif is_line or (self._has_bar and time.monotonic() - self._shown > _TICK):
            self.take_losses()
            self._measure(step)
            self._draw(at, step)
            if is_line:
                self._report(at, step)

    def end_epoch(self) -> None:
        finite = [loss for loss in self._losses if np.isfinite(loss)]
        self.epoch_loss = float(np.mean(finite)) if finite else float("nan")
        self._epochs += 1

    def close(self) -> None:
        self._bar.close()

    def take_losses(self) -> list[float]:
        """Fetch and check the losses still on the device; return those of the epoch so far.

        Before the epoch continues after a resume, these are the ones restored.
        """
        for outputs in self._pending:
            for at, loss, applied in each_step(*outputs):
                self.watch.look(at, loss, applied)
                self._losses.append(loss)
        self._pending.clear()
        return [*self._losses_before, *self._losses]

    def _tick(self) -> None:
        """Show how long the compilation has taken, until it ends."""
        while self._bar.bar_format == _COMPILING and not self._bar.disable:
            self._bar.refresh()
            time.sleep(_TICK)

    def _draw(self, at: Position, step: int) -> None:
        if self._has_bar:
            self._shown = time.monotonic()
            self._bar.n, self._bar.bar_format = step, _TRAINING
            state = f"{self._epoch(at)} loss {self._losses[-1]:.4f}{self._speed(at, step)}"
            self._bar.set_description_str(state)

    def _report_first(self, at: Position, step: int) -> None:
        """Log the first step, or first sink of steps, separately: it compiles the graph."""
        self.take_losses()  # waits until the step is really done
        is_over("first step")
        count = step - self._measured[0]
        self.first_steps = "first step" if count == 1 else f"first {count} steps"
        self.clock.switch(STEPS)
        seconds = self.clock.seconds
        self._draw(at, step)
        self._measured = (step, seconds[STEPS] + seconds[DATA])
        took = seconds[COMPILE] - self._compiled
        text = f"{self.first_steps} with graph compilation: {took:.1f} s"
        _logger.info("%s, %s", text, self._state())
        self.last_line = (step, self._losses[-1], None)

    def _measure(self, step: int) -> None:
        seconds = self.clock.seconds
        now = seconds[STEPS] + seconds[DATA]
        steps, taken = step - self._measured[0], now - self._measured[1]
        if steps:
            self._pace.add(steps, taken)
            self._trained = (self._trained[0] + steps, self._trained[1] + taken)
            self._measured = (step, now)

    def _report(self, at: Position, step: int) -> None:
        pace = self._pace.seconds
        self.last_line = (step, self._losses[-1], pace and self.batch_size / pace)
        line = f"{self._epoch(at)} step {at.step}/{self.watch.steps_per_epoch} {self._state()}"
        line += self._speed(at, step)
        if self.watch.skipped:
            line += f", {plural(self.watch.skipped, 'update')} skipped"
        _logger.info(line)

    def _epoch(self, at: Position) -> str:
        return f"epoch {at.epoch}/{self._steps // self.watch.steps_per_epoch}"

    def _state(self) -> str:
        return f"loss {self._losses[-1]:.4f} lr {self.watch.rate:.6g}"

    def _speed(self, at: Position, step: int) -> str:
        pace = self._pace.seconds
        if not pace:
            return ""
        left = (self._steps - step) * pace
        if self._epochs:
            seconds = self.clock.seconds
            epochs = self._steps // self.watch.steps_per_epoch - at.epoch + 1
            left += epochs * (seconds[EVALUATION] + seconds[CHECKPOINT]) / self._epochs
        return f" {self.batch_size / pace:.0f} images/s, {timedelta(seconds=round(left))} left"
