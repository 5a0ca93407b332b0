"""Event files for TensorBoard, written by tensorboardX, which needs no TensorFlow."""

from collections.abc import Sequence

from ..errors import ConfigError
from ..process.files import writing
from .evaluation import Accuracy
from .progress import Progress


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
