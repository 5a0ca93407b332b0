"""What is to be packed: splits, images, classes, and a hash that tells of a change."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.datasets import IMAGE_SUFFIXES, class_index
from ..errors import ConfigError, DataError

SPLITS = ("train", "val", "test", "validation", "valid")


@dataclass(frozen=True)
class SourceSplit:
    """The images of one split, in the order in which the image folder is read too.

    Attributes:
        name: of the split.
        folder: of its class folders.
        paths: of the images, below the folder.
        labels: (n,) int32.
        sizes: (n,) int64, bytes; 0 where the file system does not tell.
        class_names: in the order of the labels.
    """

    name: str
    folder: Path
    paths: list[str]
    labels: np.ndarray
    sizes: np.ndarray
    class_names: tuple[str, ...]


def list_source(source: str, wanted: list[str] | None) -> tuple[list[SourceSplit], str]:
    """Return the splits, all with the same numbers for the classes, and the hash of the files.

    Args:
        source: folder of split folders, or of class folders; those are one split with the name of
            the folder.
        wanted: split folders; None: those named train, val, test, validation or valid that hold
            folders.

    Raises:
        ConfigError: a split is named twice.
        DataError: no such folder, a class without an image, or a class that the training split
            lacks.
    """
    if not os.path.isdir(source):
        raise DataError(f"there is no folder {source}; expected class folders, or train/ and val/")
    root = Path(os.path.abspath(source))
    if wanted and len(set(wanted)) < len(wanted):
        raise ConfigError(f"command line: splits {' '.join(wanted)}: one is named twice")
    names = wanted or [name for name in SPLITS if _holds_folders(root / name)]
    folders = {name: root / name for name in names} or {root.name: root}
    digest = hashlib.sha256()
    splits = [_list_split(name, folder, digest) for name, folder in folders.items()]
    return _with_common_classes(splits), digest.hexdigest()


def _holds_folders(folder: Path) -> bool:
    """Tell a split from a class of that name: CIFAR-100 has a class `train`."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return all(entry.is_dir() or not entry.name.endswith(IMAGE_SUFFIXES) for entry in entries)


def _list_split(name: str, folder: Path, digest) -> SourceSplit:
    numbers = class_index(folder)
    paths, labels = [], []
    for class_name, number in numbers.items():
        files = sorted(
            (entry for entry in os.listdir(folder / class_name) if entry.endswith(IMAGE_SUFFIXES)),
            key=os.fsencode,
        )
        paths += [f"{class_name}/{file}" for file in files]
        labels += [number] * len(files)
    sizes = np.zeros(len(paths), np.int64)
    for index, path in enumerate(paths):
        try:
            found = os.stat(folder / path)
        except OSError:  # a dangling link: reading it will tell
            digest.update(os.fsencode(f"{name}/{path}\0"))
            continue
        sizes[index] = found.st_size
        digest.update(os.fsencode(f"{name}/{path}\0{found.st_size} {found.st_mtime_ns}\0"))
    return SourceSplit(name, folder, paths, np.array(labels, np.int32), sizes, tuple(numbers))


def _with_common_classes(splits: list[SourceSplit]) -> list[SourceSplit]:
    """Number the classes as the training split does, or as all splits together do."""
    training = [split for split in splits if split.name == "train"]
    known = sorted({name for split in training or splits for name in split.class_names})
    numbers = {name: number for number, name in enumerate(known)}
    common = []
    for split in splits:
        unknown = [name for name in split.class_names if name not in numbers]
        if unknown:
            raise DataError(
                f"{split.folder} holds classes that are not in {training[0].folder}: "
                f"{', '.join(unknown[:5])}; name the splits that belong together with --splits"
            )
        own = np.array([numbers[name] for name in split.class_names], np.int32)
        common.append(
            SourceSplit(
                split.name, split.folder, split.paths, own[split.labels], split.sizes, tuple(known)
            )
        )
    return common
