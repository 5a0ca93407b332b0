"""Image files for prediction: found in folders, read as evaluation reads them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.samples.image_walk import IMAGE_SUFFIXES, Watcher, images_below
from ...errors import DataError


def find_images(places: Sequence[str]) -> list[str]:
    """Return the files named, and the images in the folders named and below, each path once.

    Folders are searched as those of a dataset are (see `images_below`), links to folders followed;
    the plots in a run folder are no images to classify. A file named by itself may have any suffix,
    and need not exist: reading it tells.

    Raises:
        DataError: a folder without an image, or one that cannot be read.
    """
    found = {}
    for place in places:
        inside = _search(place) if os.path.isdir(place) else [place]
        if not inside:
            raise DataError(
                f"folder {place!r} holds no image ({', '.join(IMAGE_SUFFIXES)}), or it is a run "
                "folder, whose plots are not classified"
            )
        for path in inside:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _search(folder: str) -> list[str]:
    """Return the images below a folder in sorted order, a folder's own before its subfolders'."""
    found = [os.fsdecode(path) for path in images_below(Path(folder), b".", Watcher())]
    paths = [os.path.join(folder, os.path.relpath(path, ".")) for path in found]
    plots = {place for place in set(map(os.path.dirname, paths)) if _is_run_folder(place)}
    return sorted((path for path in paths if os.path.dirname(path) not in plots), key=_place)


def _is_run_folder(place: str) -> bool:
    return all(os.path.isfile(os.path.join(place, name)) for name in ("config.yaml", "metrics.csv"))


def _place(path: str) -> list[tuple[bool, str]]:
    *folders, name = path.split(os.sep)
    return [*((True, folder) for folder in folders), (False, name)]


def read_image(path: str, operations: Sequence) -> np.ndarray:
    """Return what the evaluation transforms make of a file.

    Args:
        operations: `create_transforms(is_training=False, normalize_on_device=True)`; they give
            uint8 (H, W, 3).

    Raises:
        DataError: `read_file`, `decodable` or the operations refuse it.
    """
    # With these comes mindspore; folders are found without.
    from ...data.image_check import decodable
    from ...data.samples.files import read_file

    image = decodable(read_file(os.fsencode(path)))
    try:
        for operation in operations:
            image = operation(image)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.startswith("[ERROR]")]
        raise DataError(reason[0][8:] if reason else str(error).splitlines()[0]) from None
    return image
