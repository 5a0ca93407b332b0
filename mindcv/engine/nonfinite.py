"""Losses and weights that are not finite: they end the run, or their steps are skipped and told."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mindspore import Tensor

from ..errors import NonFiniteLossError

_NAMED = 10  # images in a message; the log has them all

_logger = logging.getLogger("mindcv.train")


@dataclass(frozen=True)
class StepPlace:
    """Where a step stands.

    Attributes:
        epoch, step: from 1, the step over the whole run.
        steps_per_epoch: of this process.
    """

    epoch: int
    step: int
    steps_per_epoch: int

    @property
    def in_epoch(self) -> int:
        """The step within its epoch, from 1."""
        return (self.step - 1) % self.steps_per_epoch + 1


def each_step(
    last: StepPlace, losses: Tensor, applied: Tensor
) -> Iterator[tuple[StepPlace, float, bool]]:
    """Yield place, loss and applied of the steps up to the last one.

    Args:
        losses, applied: of that step alone, or of as many steps as they are long, see
            `EpochOutputs`.
    """
    found = list(zip(*(np.atleast_1d(one.asnumpy()).tolist() for one in (losses, applied))))
    for step, (loss, was_applied) in enumerate(found, last.step - len(found) + 1):
        yield replace(last, step=step), loss, bool(was_applied)


class FiniteWatch:
    """Looks at the loss of every step, in their order.

    Args:
        rates: learning rate of every step of the run.
        accumulation: steps of an update.
        max_skipped: updates skipped in a row, of which one more ends the run; None: no step is
            skipped, and the first loss that is not finite ends it.
        images: names the images of a step, given its epoch and the step in it, both from 0; None:
            they are not known.

    Attributes:
        skipped: updates that were skipped, because a loss or a gradient overflowed.
        in_a_row: how many of them were the last ones.
        rate: learning rate of the last step looked at.
    """

    def __init__(
        self,
        rates: Sequence[float],
        accumulation: int = 1,
        max_skipped: int | None = None,
        images: Callable[[int, int], Sequence[str]] | None = None,
    ):
        self.rates, self.accumulation, self.max_skipped = rates, accumulation, max_skipped
        self.images = images
        self.skipped = self.in_a_row = 0
        self.rate = rates[0]
        self._place: StepPlace | None = None
        self._is_told = False  # of the update at hand

    def look(self, place: StepPlace, loss: float, applied: bool) -> None:
        """Take note of a step.

        Raises:
            NonFiniteLossError: its loss is NaN or infinite and it was not skipped, or too many were
                skipped in a row.
        """
        self._place, self.rate = place, self._rate_at(place.step)
        is_complete = place.step % self.accumulation == 0
        if not np.isfinite(loss):
            if applied and self.max_skipped is None:
                raise NonFiniteLossError(
                    f"loss is {loss} {self._where()}{self._told_images()}; lower lr, lengthen the "
                    "warm-up or check the data; go on from the newest checkpoint with --resume "
                    "auto, where --drop_overflow_update True skips single such steps"
                )
            _logger.warning(
                "loss is %s %s%s; the update is skipped", loss, self._where(), self._told_images()
            )
            self._is_told = True
        if not applied:
            self._skip()
        elif is_complete:
            self.in_a_row = 0
        self._is_told = self._is_told and not is_complete

    def check(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Refuse tensors that are not worth saving.

        Raises:
            NonFiniteLossError: one holds a NaN or an infinity.
        """
        bad = [name for name, values in tensors.items() if not _is_finite(values)]
        if bad:
            where = f" {self._where()}{self._told_images()}" if self._place else ""
            raise NonFiniteLossError(
                f"{len(bad)} of {len(tensors)} tensors are not finite, e.g. {bad[0]}, after a "
                f"finite loss{where}; they are not saved; lower lr, lengthen the warm-up or check "
                "the data; go on from the newest checkpoint with --resume auto, where "
                "--drop_overflow_update True skips steps with such gradients"
            )

    def restore(self, skipped: int, in_a_row: int) -> None:
        """Go on with these counts."""
        self.skipped, self.in_a_row = skipped, in_a_row

    def begin(self, step: int) -> None:
        """Go on behind a step of the run."""
        if step:
            was_skipped = self.in_a_row > 0 and step % self.accumulation == 0
            self.rate = self._rate_at(step, self.skipped - was_skipped)

    def tell_end(self) -> None:
        """Tell how many updates were skipped in all."""
        if self.skipped:
            _logger.warning(
                "%d of %d updates were skipped: a loss or a gradient overflowed",
                self.skipped,
                len(self.rates) // self.accumulation,
            )

    def _skip(self) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if not self._is_told:
            _logger.info("gradients overflowed %s; the update is skipped", self._where())
        if self.max_skipped is not None and self.in_a_row > self.max_skipped:
            raise NonFiniteLossError(
                f"{self.in_a_row} updates in a row were skipped, since a loss or a gradient "
                f"overflowed, more than max_skipped_steps {self.max_skipped}; the last one "
                f"{self._where()}{self._told_images()}; lower lr or loss_scale, or check the data"
            )

    def _rate_at(self, step: int, skipped: int | None = None) -> float:
        """The optimizer counts its own updates: a skipped one takes no learning rate."""
        skipped = self.skipped if skipped is None else skipped
        return self.rates[max(0, step - 1 - self.accumulation * skipped)]

    def _where(self) -> str:
        place = self._place
        update = (place.step - 1) // self.accumulation + 1
        return (
            f"at step {place.step} (epoch {place.epoch}, step {place.in_epoch} of "
            f"{place.steps_per_epoch}, update {update}), learning rate {self.rate:g}"
        )

    def _told_images(self) -> str:
        if self.images is None:
            return ""
        place = self._place
        names = self.images(place.epoch - 1, place.in_epoch - 1)
        more = f", … {len(names) - _NAMED} more in the log" if len(names) > _NAMED else ""
        if more:
            _logger.warning("images of step %d: %s", place.step, ", ".join(names))
        return f", images of the batch: {', '.join(names[:_NAMED])}{more}"


def _is_finite(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    # A finite sum has finite parts, and is found in a fraction of the time.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
