"""Small images and datasets for the tests of the pipeline."""

import io

import mindspore.dataset as ds
import numpy as np
from PIL import Image

from mindcv.data import create_transforms


def png(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def rows_of(images, labels=None) -> ds.Dataset:
    """Return a dataset of encoded images, or of plain ones where they are (H, W, 3)."""
    labels = range(len(images)) if labels is None else labels
    rows = [(image, np.int64(label)) for image, label in zip(images, labels)]
    return ds.GeneratorDataset(rows, ["image", "label"], shuffle=False, num_parallel_workers=1)


def smooth_image(height: int, width: int, phase: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * 5 + phase), np.cos(y / height * 4), np.sin((x + y) / 40 + phase)]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def random_images(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def transformed(images, *arguments, **named) -> np.ndarray:
    """Return the images after `create_transforms`, by a plain `dataset.map` of a user."""
    dataset = rows_of(images).map(create_transforms(*arguments, **named), "image")
    return np.stack(
        [row[0] for row in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]
    )


def batches_of(loader, epochs: int = 1) -> list[dict]:
    rows = loader.create_dict_iterator(num_epochs=epochs, output_numpy=True)
    return [batch for _ in range(epochs) for batch in rows]
