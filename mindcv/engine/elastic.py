"""Continue a run on another number of ranks: the same updates, divided into other batches.

An update of `before` batches on each rank becomes one of `now`. What is counted in batches follows:
positions, losses, rows of metrics.csv, draws of dropout. What belongs to an update, an epoch or the
run stays. Per-rank state, the running statistics of normalisation, becomes the mean over the ranks,
which an epoch's end would make of it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checkpoint import Manifest, Position
from ..data.batches import EpochBatches
from ..errors import ConfigError
from .replaced_layers import DROPOUT_COUNT
from .train_step import ACCUMULATED, ACCUMULATED_BATCHES

_COUNTS = (ACCUMULATED_BATCHES, DROPOUT_COUNT)
_STEP = 1  # column of metrics.csv


@dataclass(frozen=True)
class Division:
    """How the images of an epoch become updates, and an update becomes batches.

    Attributes:
        images: of an update, over all ranks.
        batches: of an update on each rank, one after another.
        images_of_epoch: that all ranks train together.
    """

    images: int
    batches: int
    images_of_epoch: int

    @classmethod
    def of_batches(cls, batches: EpochBatches, updates: int, world_size: int) -> "Division":
        of_update = batches.steps // updates
        images = world_size * sum(map(batches.images_of, range(batches.steps)))
        return cls(world_size * of_update * batches.batch_size, of_update, images)

    @classmethod
    def of(cls, checkpoint: Manifest) -> "Division | None":
        """Return that of a checkpoint; None if an earlier version saved it."""
        found = checkpoint.record.get("update")
        return found and cls(**{name: found[name] for name in cls.__dataclass_fields__})

    def check_follows(self, before: "Division") -> None:
        """Check that an epoch has the same updates as before.

        Raises:
            ConfigError: the last update of an epoch is smaller, and other ranks would divide that
                one into other shares.
        """
        images = before.images_of_epoch
        if images % before.images or images != self.images_of_epoch:
            raise ConfigError(
                f"resume: with drop_remainder False an epoch trained {images} images, whose last "
                f"update is smaller than the others of {before.images}; another number of ranks "
                "would divide and weigh it otherwise: resume on as many ranks as before"
            )


def position_on(at: Position, before: int, now: int) -> Position:
    return Position(at.epoch, at.step * now // before, at.is_evaluated)


def losses_on(losses: np.ndarray, before: int, now: int) -> np.ndarray:
    """Return a loss for each step, with the same mean over all images.

    Raises:
        ValueError: the steps before do not make whole ones now.
    """
    each = np.repeat(losses.astype(np.float64), now).reshape(-1, before)
    return each.mean(1).astype(np.float32)


def rows_on(rows: Sequence[Sequence[str]], before: int, now: int) -> list[list[str]]:
    """Return the rows of metrics.csv with other steps; they may come from somebody else."""
    return [
        [
            str(int(cell) * now // before) if column == _STEP and cell.isdecimal() else cell
            for column, cell in enumerate(row)
        ]
        for row in rows
    ]


def state_on(
    state: Mapping[str, np.ndarray], own: Mapping[str, Any], before: int, now: int
) -> dict[str, np.ndarray]:
    """Return the state of the step for other batches; `own` are its parameters by name.

    Sums of gradients exist if an update has several batches. They are means over all images of the
    update, so they stay; between two updates nothing reads them.
    """
    found = {
        name: values * now // before if name in _COUNTS else values
        for name, values in state.items()
        if name in own or not name.startswith(ACCUMULATED)
    }
    missing = [name for name in own if name.startswith(ACCUMULATED) and name not in found]
    return found | {name: np.zeros(own[name].shape, np.float32) for name in missing}
