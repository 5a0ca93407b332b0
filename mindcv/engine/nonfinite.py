"""Skip an update, or end the run, if a loss, a gradient or a weight is not finite."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ..checkpoint import Position
from ..errors import NonFiniteLossError

_NAMED = 10  # images in a message; the log names them all

_logger = logging.getLogger("mindcv.train")


class OverflowCheck(nn.Cell):
    """Map a loss and groups of values to whether all of them are finite, on all processes.

    Ascend 910B and later, and CPUs, compute infinities and NaN, which the values show. The first
    Ascend 910 saturates: it computes the largest number instead, and sets a status register of the
    process. MindSpore's `all_finite` checks the one or the other, and clears the register: between
    `begin` and the call it collects what this process computed. The processes agree by summing
    flags of 0 and 1, since one may not see a NaN that another one sees.
    """

    def __init__(self, world_size: int = 1, all_finite: Callable = ms.amp.all_finite):
        super().__init__(auto_prefix=False)
        self.all_finite = all_finite
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM) if world_size > 1 else None
        self.anything = Tensor([0.0], mstype.float32)

    def begin(self, x):
        """Clear the register; return x, with which the step must go on."""
        # An evaluation or the last update may have set the register. Asking clears it.
        return ops.depend(x, self.all_finite((self.anything,)))

    def construct(self, loss, *groups):
        good = ops.isfinite(loss)
        for values in groups:
            if len(values) > 0:
                good = ops.logical_and(good, self.all_finite(values))
        if self.all_reduce is not None:
            bad = self.all_reduce(ops.cast(ops.logical_not(good), mstype.float32))
            good = ops.less(bad, 0.5)
        return good


def each_step(
    last: Position, losses: Tensor, applied: Tensor
) -> Iterator[tuple[Position, float, bool]]:
    """Yield position, loss and applied of the steps of an epoch up to the last one.

    The tensors hold that step alone, or an entry for each of the steps, see `EpochOutputs`.
    """
    found = list(zip(*(np.atleast_1d(one.asnumpy()).tolist() for one in (losses, applied))))
    for step, (loss, was_applied) in enumerate(found, last.step - len(found) + 1):
        yield replace(last, step=step), loss, bool(was_applied)


class FiniteWatch:
    """Checks the loss of every step, in order.

    Args:
        rates: learning rate of every step of the run.
        accumulation: steps per update.
        max_skipped: how many updates may be skipped in a row; one more ends the run. None: no step
            is skipped, and the first loss that is not finite ends the run.
        images: returns the image names of a step, given its epoch and its step in the epoch, both
            from 0; None if unknown.

    Attributes:
        skipped: number of updates skipped because a loss or a gradient overflowed.
        in_a_row: updates skipped since the last one that was applied.
        rate: learning rate of the last step checked.
    """

    def __init__(
        self,
        rates: Sequence[float],
        steps_per_epoch: int,
        accumulation: int = 1,
        max_skipped: int | None = None,
        images: Callable[[int, int], Sequence[str]] | None = None,
    ):
        self.rates, self.steps_per_epoch = rates, steps_per_epoch
        self.accumulation, self.max_skipped, self.images = accumulation, max_skipped, images
        self.skipped = self.in_a_row = 0
        self.rate = rates[0]
        self._at: Position | None = None
        self._is_logged = False  # whether the log says that this update is skipped

    def begin(self, step: int) -> None:
        """Continue after a step of the run."""
        if step:
            was_skipped = self.in_a_row > 0 and step % self.accumulation == 0
            self.rate = self._rate_at(step, self.skipped - was_skipped)

    def look(self, at: Position, loss: float, applied: bool) -> None:
        """Check a step.

        Raises:
            NonFiniteLossError: its loss is NaN or infinite and it was not skipped, or too many
                updates were skipped in a row.
        """
        step = at.count(self.steps_per_epoch)
        self._at, self.rate = at, self._rate_at(step, self.skipped)
        is_complete = step % self.accumulation == 0
        if not np.isfinite(loss):
            if applied and self.max_skipped is None:
                raise NonFiniteLossError(
                    f"loss is {loss} {self._where()}{self._images()}; lower lr, lengthen the "
                    "warm-up or check the data; continue from the newest checkpoint with --resume "
                    "auto, where --drop_overflow_update True skips single such steps"
                )
            _logger.warning(
                "loss is %s %s%s; the update is skipped", loss, self._where(), self._images()
            )
            self._is_logged = True
        if not applied:
            self._skip()
        elif is_complete:
            self.in_a_row = 0
        self._is_logged = self._is_logged and not is_complete

    def check(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Refuse tensors that are not worth saving: NonFiniteLossError if one is not finite."""
        bad = [name for name, values in tensors.items() if not is_finite(values)]
        if bad:
            where = f" {self._where()}{self._images()}" if self._at else ""
            raise NonFiniteLossError(
                f"{len(bad)} of {len(tensors)} tensors are not finite, e.g. {bad[0]}, after a "
                f"finite loss{where}; they are not saved; lower lr, lengthen the warm-up or check "
                "the data; continue from the newest checkpoint with --resume auto, where "
                "--drop_overflow_update True skips steps with such gradients"
            )

    def log_skipped(self) -> None:
        if self.skipped:
            updates, why = len(self.rates) // self.accumulation, "a loss or a gradient overflowed"
            _logger.warning("%d of %d updates were skipped: %s", self.skipped, updates, why)

    def _skip(self) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if not self._is_logged:
            _logger.info("gradients overflowed %s; the update is skipped", self._where())
        if self.max_skipped is not None and self.in_a_row > self.max_skipped:
            raise NonFiniteLossError(
                f"{self.in_a_row} updates in a row were skipped, since a loss or a gradient "
                f"overflowed, more than max_skipped_steps {self.max_skipped}; the last one "
                f"{self._where()}{self._images()}; lower lr or loss_scale, or check the data"
            )

    def _rate_at(self, step: int, skipped: int) -> float:
        """Return a step's rate; skipped updates use up none, as the optimizer counts its own."""
        return self.rates[max(0, step - 1 - self.accumulation * skipped)]

    def _where(self) -> str:
        at, step = self._at, self._at.count(self.steps_per_epoch)
        update = (step - 1) // self.accumulation + 1
        return (
            f"at step {step} (epoch {at.epoch}, step {at.step} of {self.steps_per_epoch}, update "
            f"{update}), learning rate {self.rate:g}"
        )

    def _images(self) -> str:
        if self.images is None:
            return ""
        names = self.images(self._at.epoch - 1, self._at.step - 1)
        more = f", … {len(names) - _NAMED} more in the log" if len(names) > _NAMED else ""
        if more:
            step = self._at.count(self.steps_per_epoch)
            _logger.warning("images of step %d: %s", step, ", ".join(names))
        return f", images of the batch: {', '.join(names[:_NAMED])}{more}"


def is_finite(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return True
    # A finite sum proves finite terms, in a fraction of the time.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
