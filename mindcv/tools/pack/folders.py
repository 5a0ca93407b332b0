"""The image folder to pack, and the folder of the packed dataset: begun, locked, resumed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...checkpoint import FolderLock
from ...data.samples.folder import (
    SPLITS,
    FolderSamples,
    checked_classes,
    class_folders,
    folders_beside,
    holds_image,
    is_there,
    split_folders,
)
from ...data.samples.packed_set import FILE, WORK, PackedSet, read_packed_set, write_json
from ...errors import ConfigError, DataError
from ...process.files import reading, writing

_PLAN = "plan.json"


@dataclass(frozen=True)
class SourceSplit:
    """The images of a split, in the order in which the image folder is read."""

    name: str
    folder: Path  # of the class folders
    paths: list[str]  # of the images, relative to the folder
    labels: np.ndarray  # (n,) int32
    sizes: np.ndarray  # (n,) int64, bytes; 0: unknown
    class_names: tuple[str, ...]  # in the order of the labels

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, start: int, stop: int) -> "SourceSplit":
        part = slice(start, stop)
        return replace(
            self, paths=self.paths[part], labels=self.labels[part], sizes=self.sizes[part]
        )


def list_source(source: str, wanted: list[str] | None) -> tuple[list[SourceSplit], str]:
    """Return the splits and a hash of the names, sizes and times of all files.

    All splits number the classes as `train` does; without a `train` split, they share the numbering
    of all their classes together.

    Args:
        source: folder of split folders, or of class folders, which then form a single split named
            like the folder.
        wanted: split folders; None: those named as in `SPLITS`.

    Raises:
        ConfigError: a split is named twice, or its name is not a folder's or not UTF-8.
        DataError: a folder is missing or unreadable, a class has no image or is not in the training
            split, or images lie beside the splits and `wanted` is None.
    """
    if not is_there(Path(source)):
        raise DataError(f"there is no folder {source}; expected class folders, or train/ and val/")
    root = Path(os.path.abspath(source))
    if wanted and len(set(wanted)) < len(wanted):
        raise ConfigError(f"command line: splits {' '.join(wanted)}: one is named twice")
    names = wanted or _splits_in(root)
    folders = {name: root / name for name in names} or {root.name: root}
    for name in folders:
        _check_name(name)
    classes = {name: checked_classes(folder) for name, folder in folders.items()}
    known = classes["train"] if "train" in classes else set().union(*classes.values())
    numbers = {name: number for number, name in enumerate(sorted(known, key=os.fsencode))}
    digest = hashlib.sha256()
    splits = [_list(name, folder, numbers, digest) for name, folder in folders.items()]
    return splits, digest.hexdigest()


def _check_name(split: str) -> None:
    if not split or split.startswith(".") or os.sep in split:
        raise ConfigError(
            f"split {split!r}: expected the name of a folder that lies in SRC and is not hidden, "
            "such as train"
        )
    require_utf8(split, f"split {split!r}", "rename the folder")


def require_utf8(path: str, what: str, remedy: str) -> None:
    """Raise a ConfigError for a path that MindSpore cannot take."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{what} is not UTF-8, which MindSpore needs; {remedy}") from None


def _splits_in(root: Path) -> tuple[str, ...]:
    """Return the splits, or () if the folder holds the classes itself; refuse images beside."""
    names = split_folders(root)
    flat = [name for name in names if not class_folders(root / name) and holds_image(root, name)]
    beside = folders_beside(root, names) if names else []
    if not flat and not beside:
        return names
    left = [name for name in names if name not in flat]
    reasons = [f"{', '.join(flat)} (images without class folders)"] if flat else []
    if beside:
        shown = ", ".join(beside[:5]) + (", …" if len(beside) > 5 else "")
        reasons.append(f"{shown} (none of the names {', '.join(SPLITS)})")
    raise DataError(
        f"{root} also holds images in {' and '.join(reasons)}; name the splits to pack, "
        f"--splits {' '.join(left)} …; if all of its folders are classes: pack {root.parent} "
        f"with --splits {root.name}"
    )


def _list(name: str, folder: Path, numbers: dict[str, int], digest) -> SourceSplit:
    samples = FolderSamples(folder, numbers)
    start = len(os.path.join(os.fsencode(folder), b""))
    paths = [samples.path(index)[start:] for index in range(len(samples))]
    sizes = np.zeros(len(paths), np.int64)
    for index, path in enumerate(paths):
        try:
            found = os.stat(samples.path(index))
            state = b"%d %d" % (found.st_size, found.st_mtime_ns)
            sizes[index] = found.st_size
        except OSError:  # a dangling link; reading it later gives the reason
            state = b"-"
        digest.update(b"%s/%s\0%s\0" % (os.fsencode(name), path, state))
    return SourceSplit(
        name,
        folder,
        paths=[*map(os.fsdecode, paths)],
        labels=samples.labels,
        sizes=sizes,
        class_names=samples.class_names,
    )


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
        if not was_sealed and not (work / _PLAN).exists():
            if others := [entry.name for entry in root.iterdir() if entry.name != WORK]:
                raise ConfigError(
                    f"{root} is not empty ({others[0]}) and was not begun by this command; choose "
                    "another folder"
                )
        work.mkdir(exist_ok=True)
    lock = FolderLock(work, called=str(root))
    try:
        with writing(root, DataError):
            _begin(root, plan)
        yield
    finally:
        _remove_unfinished(work)
        lock.release()


def _begin(root: Path, plan: dict) -> None:
    path = root / WORK / _PLAN
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
