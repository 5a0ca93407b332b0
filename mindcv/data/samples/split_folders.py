"""Which folders of a dataset are its splits, where nobody names them."""

import os
from pathlib import Path

from ...errors import DataError
from .image_index import class_folders, holds_image

SPLITS = ("train", "val", "test", "validation", "valid")


def split_folders(root: str | Path) -> tuple[str, ...]:
    """Return the folders named as in `SPLITS`; none where not one of them holds a folder.

    Without folders they may as well be classes: CIFAR-100 has one called `train`. Images and other
    files beside the class folders of a split change nothing: training passes them over too.
    """
    there = tuple(name for name in SPLITS if os.path.isdir(os.path.join(root, name)))
    return there if any(_may_hold_classes(Path(root, name)) for name in there) else ()


def folders_beside(root: str | Path, splits: tuple[str, ...]) -> list[str]:
    """Return the folders below which there are images, other than the splits.

    What cannot be read counts as empty: a `lost+found` lies at the top of many disks.
    """
    try:
        names = class_folders(Path(root))
    except DataError:
        return []
    return [name for name in names if name not in splits and _may_be_meant(Path(root), name)]


def _may_hold_classes(folder: Path) -> bool:
    try:
        return bool(class_folders(folder))
    except DataError:
        return True  # what cannot be read is told when it is listed


def _may_be_meant(root: Path, name: str) -> bool:
    try:
        return holds_image(root, name)
    except DataError:
        return False
