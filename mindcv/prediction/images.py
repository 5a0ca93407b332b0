"""Image files for prediction: found in folders, read as evaluation reads them."""

import os
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from ..errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_FORMATS = ("JPEG", "PNG", "BMP")


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
        DataError: the file is missing or no whole JPEG, PNG or BMP.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(error.strerror or type(error).__name__) from None
    if not content:
        raise DataError("empty file")
    _check_decodable(path)
    image = np.frombuffer(content, np.uint8)
    try:
        for operation in operations:
            image = operation(image)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.startswith("[ERROR]")]
        raise DataError(reason[0][8:] if reason else str(error).splitlines()[0]) from None
    return image


def _check_decodable(path: str) -> None:
    """Decode with PIL first: MindSpore's decoder ends the whole process at a cut JPEG header, and
    leaves a copy of other bad files in the working folder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not matter
            with Image.open(path, formats=_FORMATS) as image:
                image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = "no JPEG, PNG or BMP" if unknown else f"damaged image: {error}"
        raise DataError(reason) from None
