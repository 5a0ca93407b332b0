"""Trackers take the figures of a run as it goes: event files for TensorBoard, or a user's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..process.files import writing
from .evaluation import Measured
from .progress import Progress

Track = Callable[[dict[str, float], int], None]
Begin = Callable[[Mapping[str, Any]], Track]

_registered: list[Begin] = []


def register_tracker(begin: Begin) -> Begin:
    """Register a tracker, in a module that the option `import_module` names; returns `begin`.

    When a training begins, its first process calls `begin` with the options of the run by name. It
    returns a function that takes values by name, and the step of the run that they belong to: the
    values of `Figures`. An error that it raises ends the run.
    """
    _registered.append(begin)
    return begin


def begin_trackers(options: Mapping[str, Any]) -> list[Track]:
    """Begin all registered trackers."""
    return [begin(options) for begin in _registered]


def event_files(folder: str) -> Track:
    """Return a tracker that writes an event file for TensorBoard into the folder.

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
        writer = SummaryWriter(folder)

    def track(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # a killed run keeps what it wrote

    return track


class Figures:
    """Passes to trackers what `Progress` logs and what an evaluation measures.

    Every log line adds train/loss, train/lr and train/images_per_second; every epoch adds
    train/epoch_loss and, if it was evaluated, val/loss, val/top1 and val/top5, and ema_val/… for a
    weight average. Of several labels an image: val/map, val/micro_f1 and val/macro_f1.
    """

    def __init__(self, trackers: Sequence[Track], progress: Progress):
        self.trackers, self.progress = trackers, progress

    def after_step(self, step: int) -> None:
        shown, loss, speed = self.progress.last_line
        if step == shown:
            values = {"loss": loss, "lr": self.progress.watch.rate, "images_per_second": speed}
            self._pass_on("train", values, step)

    def after_epoch(self, step: int, accuracies: Sequence[Measured | None]) -> None:
        self._pass_on("train", {"epoch_loss": self.progress.epoch_loss}, step)
        for group, accuracy in zip(("val", "ema_val"), accuracies):
            if accuracy:
                self._pass_on(group, accuracy.figures(), step)

    def _pass_on(self, group: str, values: dict[str, float | None], step: int) -> None:
        known = {f"{group}/{name}": value for name, value in values.items() if value is not None}
        for track in self.trackers:
            track(known, step)
