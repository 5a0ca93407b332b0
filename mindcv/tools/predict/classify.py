"""From image files to the classes that a network sees in them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from mindspore import Tensor, nn

from ...data import Normalize, create_transforms
from ...errors import DataError, WeightsError
from ...weights import Preprocessing
from .images import read_image
from .results import Prediction


def classify(
    network: nn.Cell,
    paths: Sequence[str],
    preprocessing: Preprocessing,
    top_k: int,
    batch_size: int,
    on_bad: Callable[[str, str], None],
) -> Iterator[tuple[Prediction, np.ndarray]]:
    """Yield the prediction of each image that can be read, and the network's view of it.

    The view is uint8 (H, W, 3): the resized and cropped image before normalisation.

    Args:
        network: normalised images to logits, in evaluation mode.
        top_k: classes of a prediction; at most those there are.
        batch_size: images of a batch. The last one is padded, so that one graph serves all.
        on_bad: called with path and reason for each file that cannot be read.

    Raises:
        WeightsError: the logits are not finite.
    """
    step = nn.SequentialCell(Normalize(preprocessing.mean, preprocessing.std), network)
    step.set_train(False)
    for names, views in _batches(paths, preprocessing, batch_size, on_bad):
        padding = np.zeros((batch_size - len(views), *views[0].shape), np.uint8)
        logits = step(Tensor(np.concatenate([np.stack(views), padding])))
        logits = logits[0] if isinstance(logits, tuple) else logits
        probabilities = softmax(logits.asnumpy()[: len(views)])
        for name, view, row in zip(names, views, probabilities):
            best = np.argsort(-row, kind="stable")[:top_k]
            chosen = Prediction(name, tuple(best.tolist()), tuple(row[best].tolist()))
            yield chosen, view


def _batches(paths, preprocessing: Preprocessing, batch_size: int, on_bad):
    operations = create_transforms(
        image_resize=preprocessing.image_size,
        interpolation=preprocessing.interpolation,
        crop_pct=preprocessing.crop_pct,
        crop_mode=preprocessing.crop_mode,
        antialias=preprocessing.antialias,
        normalize_on_device=True,
    )
    names, views = [], []
    for path in paths:
        try:
            view = read_image(path, operations)
        except DataError as error:
            on_bad(path, str(error))
            continue
        names.append(path)
        views.append(view)
        if len(views) == batch_size:
            yield names, views
            names, views = [], []
    if views:
        yield names, views


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits (N, classes), in float64.

    Raises:
        WeightsError: a logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise WeightsError(
            "the network's outputs are not finite numbers: the training diverged before these "
            "weights were written, or they belong to other preprocessing"
        )
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(1, keepdims=True)
