"""Save, rank and prune the checkpoints of a run."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoint import (
    STATE,
    BackgroundWriter,
    CheckpointStore,
    Kept,
    Manifest,
    Position,
    check_record,
    position_of,
    read_manifest,
    superfluous,
)
from ..errors import WeightsError
from ..weights import Metadata, ckpt, npz
from ..weights.metadata import ENTRY
from .state import Snapshot

_logger = logging.getLogger("mindcv.train")


class CheckpointKeeper:
    """Keeps the latest or the best checkpoints, and the best one beside them.

    A checkpoint is `<model>-<epoch>_<steps done in it>.ckpt`, a plain MindSpore checkpoint of the
    network with further entries: the metadata, averaged weights under the names `ema.<weight>`, and
    the state of a dynamic loss scale. Beside it lie `….state.npz` with the optimizer and all else,
    and the manifest `….json` that seals it. The best weights are `<model>_best.ckpt`.

    A thread writes while the training goes on; one save is under way at a time. What goes wrong in
    it is raised by the next call, at the latest after the next step.

    Args:
        folder: run folder.
        metadata: travels with the weights; its model is the first part of the names.
        policy: latest_k, or top_k by score.
        keep: how many to keep; the best one, the newest one and those within an epoch not counted.
        record: JSON values about the run, for each manifest.
    """

    def __init__(
        self,
        folder: Path,
        metadata: Metadata,
        policy: str,
        keep: int,
        record: Mapping[str, Any] | None = None,
    ):
        self.store, self.metadata = CheckpointStore(folder), metadata
        self.policy, self.keep, self.record = policy, keep, dict(record or {})
        self.best_score: float | None = None
        self._writer = BackgroundWriter()
        self._kept: list[Kept] = []

    def resume(self, manifest: Manifest) -> None:
        """Go on from a checkpoint: with its best score, and with what else the folder keeps."""
        best = f"{self.metadata.model}_best"
        if (self.store.folder / f"{best}.json").exists():
            try:
                self.store.verify(best)
                self.best_score = manifest.record["best_score"]
            except WeightsError as error:
                _logger.warning("%s; the next evaluation counts as the best so far", error)
        for name in self.store.names():
            place = position_of(name)
            if name != place.name(self.metadata.model):
                continue  # of another model
            try:
                found = read_manifest(self.store.folder / f"{name}.json")
                check_record(found, is_resumed=False)
            except WeightsError as error:
                _logger.warning("%s; it is left where it is", error)
                continue
            self._kept.append(Kept(place, found.record["is_midway"], found.record["score"]))

    def save(
        self,
        snapshot: Snapshot,
        place: Position,
        score: float | None = None,
        is_midway: bool = False,
        is_kept: bool = True,
    ) -> bool:
        """Save a checkpoint, and prune the superfluous ones when it is sealed.

        Args:
            score: of the weights; where it beats all before they are saved as the best, too; None:
                they were not evaluated.
            is_midway: it is there to resume from, and does not count as one of an epoch.
            is_kept: False: save the best weights only, if they are.

        Returns:
            whether they are the best so far. `wait` tells when everything is written.

        Raises:
            WeightsError: the save before this one could not be written; older ones are untouched.
        """
        is_best = score is not None and (self.best_score is None or score > self.best_score)
        if is_best:
            self.best_score = score
        name = place.name(self.metadata.model)
        record = {**self.record, **snapshot.figures}
        record |= {"epoch": place.epoch, "steps": place.step, "is_evaluated": place.is_evaluated}
        record |= {"is_midway": is_midway, "score": score, "best_score": self.best_score}
        if is_best or is_kept:
            self._writer.start(partial(self._save, name, snapshot, record, is_best, is_kept))
        return is_best

    def check(self) -> None:
        """Raise what went wrong in a save, if it is known already.

        Raises:
            WeightsError: it could not be written.
        """
        self._writer.check()

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            WeightsError: it could not be.
        """
        self._writer.wait()

    def _save(
        self,
        name: str,
        snapshot: Snapshot,
        record: Mapping[str, Any],
        is_best: bool,
        is_kept: bool,
    ) -> None:
        entries = {**snapshot.weights, ENTRY: self.metadata.to_array()}
        weights = partial(ckpt.write, tensors=entries)
        # The best weights first: a run that goes on from the checkpoint counts on them.
        if is_best:
            best = f"{self.metadata.model}_best"
            self.store.save(best, {f"{best}.ckpt": weights}, {"score": record["score"]})
        if not is_kept:
            return
        state = partial(npz.write, tensors=snapshot.state)
        writers = {f"{name}.ckpt": weights, f"{name}{STATE}": state}
        manifest = self.store.save(name, writers, record)
        self._kept = [one for one in self._kept if one.place != position_of(name)]
        self._kept.append(Kept(position_of(name), record["is_midway"], record["score"]))
        stale = superfluous(self._kept, self.policy, self.keep)
        if stale:
            manifest.check_files()  # what is removed may be the last good one but for this
        for one in stale:
            self.store.remove(one.place.name(self.metadata.model))
            self._kept.remove(one)
