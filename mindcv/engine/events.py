"""Event files for TensorBoard, by tensorboardX (extra `tensorboard`), which needs no TensorFlow."""

import mindspore as ms

from ..errors import ConfigError
from .callbacks import EpochEnd, Progress


def open_event_writer(folder: str):
    """Return a `SummaryWriter` that begins a file in the folder.

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
    try:
        return SummaryWriter(folder)
    except OSError as error:
        raise ConfigError(f"summary_dir {folder} cannot be written: {error.strerror}") from None


class EventFiles(ms.Callback):
    """Writes what `Progress` and `EpochEnd` tell; stands behind them in the list of callbacks.

    With every log line train/loss, train/lr and train/images_per_second; after every epoch
    train/epoch_loss and, where it was evaluated, val/loss, val/top1 and val/top5, with a weight
    average also ema_val/…. All over steps.

    Args:
        writer: from `open_event_writer`.
        progress, epoch_end: the callbacks of the run.
    """

    def __init__(self, writer, progress: Progress, epoch_end: EpochEnd):
        self.writer, self.progress, self.epoch_end = writer, progress, epoch_end

    def on_train_step_end(self, run_context):
        step, loss, speed = self.progress.last_line
        if step == run_context.original_args().cur_step_num:
            values = {"loss": loss, "lr": self.progress.watch.rate, "images_per_second": speed}
            self._write("train", values, step)

    def on_train_epoch_end(self, run_context):
        step = run_context.original_args().cur_step_num
        self._write("train", {"epoch_loss": self.progress.epoch_loss}, step)
        for group, accuracy in zip(("val", "ema_val"), self.epoch_end.accuracies):
            if accuracy is None:
                continue
            values = {"loss": accuracy.loss, "top1": accuracy.top1, "top5": accuracy.top5}
            self._write(group, values, step)

    def on_train_end(self, run_context):
        self.writer.close()

    def _write(self, group: str, values: dict[str, float | None], step: int) -> None:
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()  # a run that is stopped keeps what it has told
