"""Write, rank and prune the checkpoints of a run."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import mindspore as ms
from mindspore import Parameter, nn

from ..errors import WeightsError
from ..weights import Metadata
from ..weights.metadata import ENTRY


class CheckpointKeeper:
    """Keeps the latest or the best checkpoints, and the best one beside them.

    Files are `<model>-<epoch>_<steps per epoch>.ckpt` and `<model>_best.ckpt`, plain MindSpore
    checkpoints of the network with further entries: the metadata, averaged weights under the names
    `ema.<weight>`, and the state of a dynamic loss scale. A file appears under its name only when
    it is complete.

    Args:
        folder: run folder.
        metadata: travels with the weights; its model is the first part of the names.
        policy: latest_k, or top_k by score.
        keep: how many to keep, the best one not counted.
        state: parameters saved beside the network's; see `TrainStep.state`.
    """

    def __init__(
        self,
        folder: Path,
        metadata: Metadata,
        policy: str,
        keep: int,
        state: Sequence[Parameter] = (),
    ):
        self.folder, self.metadata, self.policy, self.keep = folder, metadata, policy, keep
        self.state = state
        self.best_score: float | None = None
        self._kept: list[tuple[float, Path]] = []  # oldest first, with scores

    def save(self, network: nn.Cell, epoch: int, steps_per_epoch: int, score: float | None) -> Path:
        """Write the checkpoint of a finished epoch and prune the superfluous ones.

        Raises:
            WeightsError: the file cannot be written; older ones are untouched.
        """
        path = self.folder / f"{self.metadata.model}-{epoch}_{steps_per_epoch}.ckpt"
        self._write(network, path)
        self._kept = [(value, kept) for value, kept in self._kept if kept != path]
        self._kept.append((score if score is not None else float("-inf"), path))
        while len(self._kept) > self.keep:
            # min() takes the oldest of equals, so that a later equal stays.
            victim = (
                min(self._kept, key=lambda e: e[0]) if self.policy == "top_k" else self._kept[0]
            )
            self._kept.remove(victim)
            victim[1].unlink(missing_ok=True)
        return path

    def save_if_best(self, network: nn.Cell, score: float) -> Path | None:
        """Write `<model>_best.ckpt` when the score beats all before; else return None."""
        if self.best_score is not None and score <= self.best_score:
            return None
        path = self.folder / f"{self.metadata.model}_best.ckpt"
        self._write(network, path)
        self.best_score = score
        return path

    def _write(self, network: nn.Cell, path: Path) -> None:
        # MindSpore removes the old file before it writes the new one, hence the detour.
        unfinished = path.parent / f".unfinished-{os.getpid()}" / path.name
        entries = {parameter.name: parameter for parameter in self.state}
        entries[ENTRY] = ms.Tensor(self.metadata.to_array())
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            ms.save_checkpoint(network, str(unfinished), append_dict=entries)
            os.replace(unfinished, path)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise WeightsError(f"checkpoint {path} cannot be written: {reason}") from None
        finally:
            shutil.rmtree(unfinished.parent, ignore_errors=True)
