"""Image files for prediction: found in folders, read as evaluation reads them."""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import DataError

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip


def find_images(places: Sequence[str]) -> list[str]:
    """Return the files named, and the images in the folders named and below, each path once.

    Folders are read in sorted order; their hidden files and folders are left out, suffixes may be
    written in any case. A file named by itself may have any suffix, and need not exist: reading it
    tells.

    Raises:
        DataError: a folder without an image.
    """
    found = {}
    for place in places:
        inside = list(_walk(place)) if os.path.isdir(place) else [place]
        if not inside:
            raise DataError(f"folder {place!r} holds no image ({', '.join(SUFFIXES)})")
        for path in inside:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _walk(folder: str) -> Iterable[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(place, name)


def read_image(path: str, operations: Sequence) -> np.ndarray:
    """Return what the evaluation transforms make of a file.

    Args:
        operations: `create_transforms(is_training=False, normalize_on_device=True)`; they give
            uint8 (H, W, 3).

    Raises:
        DataError: `read_file`, `decodable` or the operations refuse it.
    """
    # With these comes mindspore; folders are found without.
    from ..data.images.image_check import decodable
    from ..data.samples.files import read_file

    image = decodable(read_file(os.fsencode(path)))
    try:
        for operation in operations:
            image = operation(image)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.startswith("[ERROR]")]
        raise DataError(reason[0][8:] if reason else str(error).splitlines()[0]) from None
    return image
