"""Write the checkpoints of a run while the training goes on, and remove superfluous ones."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError
from .manifest import Manifest, Position, check_record, position_of, read_manifest
from .store import BEST, CheckpointStore

_MIDWAY_KEPT = 2

_logger = logging.getLogger("mindcv.train")


class BackgroundWriter:
    """Runs one job at a time in a thread, and raises its error at the next call.

    The thread is not a daemon: Python waits for it at exit, so that a save finishes even if the
    training ends with an error.
    """

    def __init__(self):
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the previous job, and run this one unless that one failed."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raise the error of the job, if there is one already, without waiting."""
        if self._error is not None:
            self.wait()

    def wait(self) -> None:
        """Wait for the job to finish, and raise its error if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self._error = error


@dataclass(frozen=True)
class Kept:
    """A checkpoint in the folder; one that `is_midway` is within an epoch, to resume from."""

    at: Position
    is_midway: bool
    score: float | None = None


class CheckpointWriter(BackgroundWriter):
    """Keeps the latest or the best checkpoints, and the best weights beside them.

    A checkpoint is `<model>-<epoch>_<steps done in it>.ckpt` with the network's weights and
    `….state.npz` with the rest of the run, sealed by the manifest `….json`. The best weights are
    `<model>_best.ckpt`. Call `check` after each step and `wait` at the end: they raise the error of
    a failed save.

    Args:
        policy: latest_k, top_k by score, or None to keep all.
        keep: number of checkpoints to keep, not counting the best weights, the newest checkpoint
            and those within an epoch.
        record: JSON values about the run, for each manifest.
        measure: what the score is, for the log.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        policy: str | None = "latest_k",
        keep: int = 10,
        *,
        record: Mapping[str, Any] | None = None,
        measure: str = "top-1",
    ):
        super().__init__()
        self.store, self.model = CheckpointStore(folder), model
        self.policy, self.keep, self.record = policy, keep, dict(record or {})
        self.measure = measure
        self.best_score: float | None = None
        self._kept: list[Kept] = []
        self._outdated: list[str] = []

    def resume(self, manifest: Manifest, counts_anew: bool = False) -> None:
        """Continue from a checkpoint, with its best score and the checkpoints in the folder.

        If the run `counts_anew`, with other steps, it must save itself now: then those within the
        epoch, whose names say the steps of before, are removed.
        """
        best = f"{self.model}{BEST}"
        if (self.store.folder / f"{best}.json").exists():
            try:
                self.store.verify(best)
                self.best_score = manifest.record["best_score"]
            except WeightsError as error:
                _logger.warning("%s; the next evaluation counts as the best so far", error)
        for name in self.store.names():
            at = position_of(name)
            if name != at.name(self.model):
                continue  # of another model
            try:
                found = read_manifest(self.store.folder / f"{name}.json")
                check_record(found, is_resumed=False)
            except WeightsError as error:
                _logger.warning("%s; it is left where it is", error)
                continue
            if counts_anew and at.epoch == manifest.position.epoch:
                self._outdated.append(name)
                continue
            self._kept.append(Kept(at, found.record["is_midway"], found.record["score"]))

    def save(
        self,
        at: Position,
        files: Mapping[str, Callable[[BinaryIO], None]],
        figures: Mapping[str, Any],
        *,
        score: float | None = None,
        is_midway: bool = False,
        is_kept: bool = True,
    ) -> None:
        """Save a checkpoint in the background, then remove superfluous ones.

        Args:
            files: file suffix -> function that writes the content.
            figures: further JSON values for the manifest.
            score: of the weights, which are also saved as the best if it is the highest so far;
                None if they were not evaluated.
            is_midway: only to resume from; it does not count as the checkpoint of an epoch.
            is_kept: if False, save only the best weights, if these are the best.

        Raises:
            WeightsError: the previous save failed; older checkpoints are untouched.
        """
        is_best = score is not None and (self.best_score is None or score > self.best_score)
        if is_best:
            self.best_score = score
        record = {**self.record, **figures}
        record |= {"epoch": at.epoch, "steps": at.step, "is_evaluated": at.is_evaluated}
        record |= {"is_midway": is_midway, "score": score, "best_score": self.best_score}
        best = f"{self.model}{BEST}" if is_best else None
        own = at.name(self.model) if is_kept else None
        if best or own:
            self.start(partial(self._write, files, record, best=best, own=own))
        if own:
            _logger.info("saving %s.ckpt", own)
        if best:
            _logger.info("best so far: %s %.3f %% in epoch %d", self.measure, score, at.epoch)

    def _write(
        self,
        files: Mapping[str, Callable],
        record: Mapping[str, Any],
        *,
        best: str | None,
        own: str | None,
    ) -> None:
        # The best weights first: a run that resumes from the checkpoint relies on them.
        if best:
            weights = {f"{best}.ckpt": files[".ckpt"]}
            self.store.save(best, weights, {"score": record["score"]})
        if not own:
            return
        writers = {f"{own}{suffix}": writer for suffix, writer in files.items()}
        manifest = self.store.save(own, writers, record)
        at = position_of(own)
        self._kept = [one for one in self._kept if one.at != at]
        self._kept.append(Kept(at, record["is_midway"], record["score"]))
        stale = superfluous(self._kept, self.policy, self.keep)
        outdated = [name for name in self._outdated if name != own]
        self._outdated.clear()
        if stale or outdated:
            manifest.check_files()  # it may soon be the only good one
        for name in (*outdated, *(one.at.name(self.model) for one in stale)):
            self.store.remove(name)
        self._kept = [one for one in self._kept if one not in stale]


def superfluous(kept: list[Kept], policy: str | None, limit: int) -> list[Kept]:
    """Return the checkpoints to remove; the newest one stays, since a run resumes from it.

    `limit` counts checkpoints of whole epochs, by `policy` the latest (latest_k) or those with the
    best score (top_k), later ones first among equals; policy None keeps all. Of those within an
    epoch, two stay until the epoch is done.
    """
    ordered = sorted(kept, key=lambda one: one.at)
    whole = [one for one in ordered if not one.is_midway]
    midway = [one for one in ordered if one.is_midway]
    done = whole[-1].at if whole else Position(0, 0)
    stale = [one for one in midway if one.at < done]
    stale += [one for one in midway if one.at > done][:-_MIDWAY_KEPT]
    if policy == "top_k":
        lowest = float("-inf")
        ranked = sorted(whole, key=lambda one: (lowest if one.score is None else one.score, one.at))
        stale += [one for one in ranked[:-limit] if one is not ordered[-1]]
    elif policy is not None:
        stale += whole[:-limit]
    return stale
