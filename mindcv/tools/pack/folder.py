"""The folder of a dataset that is being packed: begun, locked, resumed."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...checkpoint import FolderLock
from ...data.samples.packed_set import FILE, WORK, PackedSet, read_packed_set, write_json
from ...errors import ConfigError, DataError
from ...process.files import reading, writing
from .shard import ShardResult, ShardTask, write_record

PLAN = "plan.json"


def sealed_before(root: Path, plan: dict) -> PackedSet | None:
    """Return the dataset that an earlier run packed completely, if any; it must match `plan`."""
    with reading(root, DataError):
        if not (root / FILE).exists():
            return None
    sealed = read_packed_set(root)
    if sealed:
        _check_plan(root, plan, {"source": sealed.source, "options": sealed.options})
    return sealed


@contextmanager
def held(root: Path, plan: dict, was_sealed: bool) -> Iterator[None]:
    """Lock the folder, whether new or left by an interrupted run; remove unfinished shards."""
    work = root / WORK
    with writing(root, DataError):
        root.mkdir(parents=True, exist_ok=True)
        if not was_sealed and not (work / PLAN).exists():
            _check_empty(root)
        work.mkdir(exist_ok=True)
    lock = FolderLock(work, called=str(root))
    try:
        with writing(root, DataError):
            _begin(root, plan)
        yield
    finally:
        _remove_unfinished(work)
        lock.release()


def _check_empty(root: Path) -> None:
    others = [entry.name for entry in root.iterdir() if entry.name != WORK]
    if others:
        raise ConfigError(
            f"{root} is not empty ({others[0]}) and was not begun by this command; choose another "
            "folder"
        )


def _begin(root: Path, plan: dict) -> None:
    path = root / WORK / PLAN
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_json(path, plan)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}; remove {root} to start over") from None
    else:
        if not isinstance(before, dict):
            raise DataError(f"{path} is damaged: no plan; remove {root} to start over")
        _check_plan(root, plan, before)
    _remove_unfinished(path.parent)


def _check_plan(root: Path, plan: dict, before: dict) -> None:
    """Refuse to resume with other images or options than before."""
    remedy = f"remove {root} to start over, or choose another folder"
    if before.get("options") != plan["options"]:
        raise ConfigError(
            f"{root} was begun with the options {before.get('options')}; now they are "
            f"{plan['options']}; {remedy}"
        )
    if before.get("source") != plan["source"]:
        raise DataError(
            f"the images changed since {root} was begun: names, sizes or times of files "
            f"differ; {remedy}"
        )


def _remove_unfinished(work: Path) -> None:
    """Remove the work of ended processes; the lock excludes running ones."""
    for entry in work.glob("*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


def reopen(root: Path, sealed: PackedSet, tasks: list[ShardTask]) -> None:
    """Turn a packed dataset back into an unfinished one with all its shards.

    The shards are verified later, as after any interruption. Shards with skipped images count as
    missing, since dataset.json does not name these images.
    """
    shards = {shard.file: shard for split in sealed.splits.values() for shard in split.shards}
    with writing(root, DataError):
        for task in tasks:
            shard = shards.get(task.file)
            if shard and shard.images == len(task.images):
                write_record(task, ShardResult(task.split, shard, []))
        (root / FILE).unlink()
