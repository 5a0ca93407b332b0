"""The position of a run, and the checkpoint names that state it."""

import re
from dataclasses import dataclass

_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_NAME = re.compile(
    rf"(?P<model>.+)-(?P<epoch>{_NUMBER})_(?P<step>{_NUMBER})(?P<mark>|_unevaluated)"
)


@dataclass(frozen=True, order=True)
class Position:
    """A position in a run; later positions compare as larger.

    Attributes:
        epoch: from 1.
        step: steps done in the epoch.
        is_evaluated: False after the last step of an epoch until its evaluation and logging are
            done; otherwise True.
    """

    epoch: int = 1
    step: int = 0
    is_evaluated: bool = True

    def name(self, model: str) -> str:
        """Return the name, without suffix, of a checkpoint saved here."""
        return f"{model}-{self.epoch}_{self.step}{'' if self.is_evaluated else '_unevaluated'}"

    def count(self, steps_per_epoch: int) -> int:
        """Return the steps done in the whole run."""
        return (self.epoch - 1) * steps_per_epoch + self.step


def position_of(name: str) -> Position | None:
    """Return the position that a name without suffix states; None if it is not a checkpoint's."""
    found = _NAME.fullmatch(name)
    return found and Position(int(found["epoch"]), int(found["step"]), not found["mark"])
