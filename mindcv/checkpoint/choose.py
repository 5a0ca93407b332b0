"""Choose the checkpoint that a run resumes from."""

import logging
from pathlib import Path

from ..errors import ConfigError, WeightsError
from ..names import plural
from .manifest import STATE, Manifest, position_of
from .store import CheckpointStore

_logger = logging.getLogger("mindcv.train")


def choose_checkpoint(folder: Path, asked: str | None) -> Manifest | None:
    """Return the checkpoint to resume from; None to start from scratch.

    Call it with the folder locked: it completes or removes what a killed process left there, and
    moves damaged checkpoints newer than the chosen one to `damaged-<n>/`, since the run will need
    their names again. It changes nothing in other folders, which a running process may use.

    Args:
        folder: run folder.
        asked: auto for the newest checkpoint in the folder that verifies; the path of a
            checkpoint's .ckpt or .json, or of a folder whose newest one to take; or None to start
            from scratch.

    Raises:
        WeightsError: none of the checkpoints verifies, the one at the path does not, or what a
            killed process left cannot be removed.
        ConfigError: the folder holds checkpoints that the run would overwrite.
    """
    store = CheckpointStore(folder)
    for line in store.recover():
        _logger.warning(line)
    if asked is None:
        _refuse_others(store, "the run would start from scratch")
        return None
    if asked == "auto":
        manifest = _newest_of(store)
        if manifest is None:
            _refuse_unsealed(store)
            _logger.info("resume: %s holds no checkpoint, the run starts from scratch", folder)
        return manifest
    path = Path(asked)
    if path.is_dir():
        is_own = path.resolve() == folder.resolve()
        manifest = _newest_of(store) if is_own else _newest_of(CheckpointStore(path), is_own=False)
        if manifest is None:
            raise WeightsError(f"resume: the folder {path} holds no checkpoint to go on from")
    else:
        manifest = _named(path)
    if manifest.path.parent.resolve() != folder.resolve():
        _refuse_others(store, f"the run would go on from {manifest.path}")
        return manifest
    chosen = position_of(manifest.path.stem)
    later = [name for name in store.names() if position_of(name) > chosen]
    if later:
        raise ConfigError(
            f"resume: {manifest.path} is not the newest checkpoint of its folder, {later[0]} is; "
            "--resume auto goes on from that one. To take the run another way from here, add "
            "--ckpt_save_dir with a new folder"
        )
    return manifest


def _newest_of(store: CheckpointStore, is_own: bool = True) -> Manifest | None:
    """Return the newest checkpoint that verifies, and warn of newer ones; None if there are none.

    `is_own`: the folder is this run's, so damaged checkpoints are moved aside.
    """
    manifest, problems = store.newest()
    if manifest is None and problems:
        raise WeightsError(
            f"resume: none of the {len(problems)} checkpoints in {store.folder} can be used, and a "
            "run is never begun anew in silence; to begin anew name another ckpt_save_dir\n  "
            + "\n  ".join(problems)
        )
    for name, problem in zip(store.names(), problems):
        aside = f", its files are in {store.set_aside(name)}" if is_own else ""
        _logger.warning("resume: %s; the one before is used%s", problem, aside)
    return manifest


def _named(path: Path) -> Manifest:
    name = path.name
    for suffix in (".json", ".ckpt", STATE):
        name = name.removesuffix(suffix)
    if not path.exists():
        raise WeightsError(f"resume: no checkpoint {path}; expected a .ckpt, a .json or a folder")
    if not path.with_name(f"{name}.json").exists():
        raise WeightsError(
            f"resume: {path} has no {name}.json beside it (MindCV writes none), so its run cannot "
            "be resumed; to start a new run from these weights, use --ckpt_path without --resume "
            "and --resume_opt"
        )
    manifest = CheckpointStore(path.parent).verify(name)
    if position_of(name) is None:
        raise WeightsError(
            f"resume: {path} holds the best weights only; name a checkpoint <model>-<epoch>_<steps>"
        )
    return manifest


def _refuse_others(store: CheckpointStore, what: str) -> None:
    names = store.names()
    if names:
        raise ConfigError(
            f"ckpt_save_dir {store.folder} holds {plural(len(names), 'checkpoint')}, the newest "
            f"{names[0]}, and {what}; add --resume auto to go on from the newest, or name another "
            "folder"
        )
    _refuse_unsealed(store)


def _refuse_unsealed(store: CheckpointStore) -> None:
    unsealed = store.unsealed()
    if unsealed:
        raise ConfigError(
            f"ckpt_save_dir {store.folder} holds {len(unsealed)} weight files of another run, e.g. "
            f"{unsealed[0].name}, which this one would write over; name another folder"
        )
