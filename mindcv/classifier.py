"""Classify images with a network that knows its preprocessing and its classes."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from mindspore import Tensor, get_context, nn
from PIL import Image

from .data import Normalize
from .data.image_files import as_file, decodable
from .data.samples.files import read_file
from .data.samples.pictures import find_images
from .data.transforms import evaluation_transforms
from .engine.evaluation import probabilities
from .errors import ConfigError, DataError, first_line
from .hub import is_address, require_classifier
from .models import create_model_from_file, create_published_model, find_published, fold_on_cpu
from .task import TASKS
from .weights import ENDINGS, Metadata, Preprocessing

# A file or folder, a Pillow image, or pixels: (H, W, 3) or (H, W), uint8.
Picture = str | os.PathLike | Image.Image | np.ndarray


@dataclass(frozen=True)
class Guess:
    """A likely class of an image; the fields are the columns of the csv."""

    rank: int  # from 1
    class_index: int
    class_name: str  # empty: unknown
    probability: float  # of the softmax over all classes; with several labels: that it is shown

    def __str__(self) -> str:
        return f"{self.class_name or f'class {self.class_index}'} ({self.probability:.1%})"


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image, the likeliest first; of several labels maybe none."""

    path: str  # as the user wrote it; empty: the image was no file
    guesses: tuple[Guess, ...]

    @property
    def name(self) -> str:
        """Name of the likeliest class; empty: unknown, or there is none."""
        return self.guesses[0].class_name if self.guesses else ""

    @property
    def probability(self) -> float:
        return self.guesses[0].probability if self.guesses else 0.0

    def __str__(self) -> str:
        found = ", ".join(map(str, self.guesses)) or "no class"
        return f"{self.path}{': ' if self.path else ''}{found}"


class Classifier:
    """A network that classifies photos: files, folders, Pillow images or arrays.

    ```python
    classifier = Classifier.from_pretrained("regnet_y_400mf")
    print(classifier("photo.jpg"))
    ```

    Args:
        network: maps normalised images to logits.
        metadata: provides preprocessing and class names.
        source: where the weights come from, for `repr`.

    Raises:
        ConfigError: the weights have no classifier.
    """

    def __init__(self, network: nn.Cell, metadata: Metadata, source: str = ""):
        require_classes(metadata)
        self.network, self.metadata, self.source = network.set_train(False), metadata, source

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        weights: str | Literal[True] = True,
        *,
        ema: bool | None = None,
        class_names: Sequence[str] | None = None,
    ) -> "Classifier":
        """Load weights that somebody published, or those of a file.

        Args:
            name: a model, whose `weights` are downloaded once and verified; or a weight file,
                such as a checkpoint of `mindcv train`; or `hf-hub:owner/name` or
                `modelscope:owner/name`, a RegNet of timm.
            weights: of a model: the source, see `mindcv.hub.published_weights` and
                docs/pretrained.md; True: its default. Of a file that does not name its model: the
                model.
            ema: of a file with averaged weights: True: the averaged ones, False: the raw ones,
                None: the averaged ones.
            class_names: in the order of the logits; None: those of the weights.

        Raises:
            ConfigError: unknown model or source, weights without a classifier, or a choice where
                there is none.
            WeightsError: the weights cannot be fetched or do not fit.
        """
        text = os.fspath(name)
        if not weights:
            raise ConfigError(f"weights {weights!r}: expected a source, or True for the default")
        is_named = isinstance(name, os.PathLike) or text.endswith(ENDINGS)
        if os.path.isfile(text) or (is_named and not is_address(text)):
            model = weights if isinstance(weights, str) else ""
            network, metadata = create_model_from_file(text, model, ema=ema)
            source = text
        elif ema is not None:
            raise ConfigError(f"ema {ema}: is for weight files; published weights are one set")
        else:
            require_classifier(find_published(text, weights))
            network, metadata, published = create_published_model(text, weights)
            source = published.source
        if class_names is not None:
            metadata = metadata.with_class_names(class_names)
        return cls(network, metadata, source)

    def __repr__(self) -> str:
        used = self.metadata
        return (
            f"Classifier({used.model}, {used.num_classes} classes, images of "
            f"{' x '.join(map(str, used.preprocessing.sides))}, weights {self.source or 'given'})"
        )

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        batch_size: int = 16,
    ) -> Prediction | list[Prediction]:
        """Classify an image, or several.

        Args:
            images: one image, (H, W, 3) or (H, W) uint8 where it is an array; or a list of images,
                a folder, or an array (N, H, W, 3), for a list of predictions.
            top_k: classes of each prediction at most; None: 5, or all of several labels.
            threshold: smallest probability of a class; None: 0, or 0.5 for several labels.

        Raises:
            ConfigError: `top_k` or `batch_size` is below 1, or threshold not from 0 to 1.
            DataError: an image cannot be read, or an array is no image.
            WeightsError: the logits are not finite.
        """
        several = _several(images)
        pictures = [images] if several is None else several
        how = dict(top_k=top_k, threshold=threshold, batch_size=batch_size)
        found = self.stream(pictures, **how, on_bad=_refuse)
        predictions = [prediction for prediction, _ in found]
        return predictions[0] if several is None else predictions

    @cached_property
    def _step(self) -> nn.Cell:
        used = self.metadata.preprocessing
        network = fold_on_cpu(self.network, get_context("device_target"))
        return nn.SequentialCell(Normalize(used.mean, used.std), network).set_train(False)

    def stream(
        self,
        images: Sequence[Picture],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        batch_size: int,
        on_bad: Callable[[Any, str], None],
    ) -> Iterator[tuple[Prediction, np.ndarray]]:
        """Yield the prediction of each readable image and the network's view of it.

        The view is the resized and cropped image before normalisation, uint8 (H, W, 3).

        Args:
            images: files, Pillow images or arrays, no folders.
            top_k, threshold: as for a call.
            batch_size: the last batch is padded, so that the graph is compiled only once.
            on_bad: called with image and reason where an image cannot be read.

        Raises:
            ConfigError: as for a call.
            WeightsError: the logits are not finite.
        """
        task = TASKS[self.metadata.task]
        top_k = task.top_k if top_k is None else top_k
        threshold = task.threshold if threshold is None else threshold
        for name, number in (("top_k", top_k), ("batch_size", batch_size)):
            if number is not None and not (isinstance(number, Integral) and number >= 1):
                raise ConfigError(f"{name} {number!r}: expected a whole number of at least 1")
        if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise ConfigError(f"threshold {threshold!r}: expected a number from 0 to 1")
        batch_size = min(batch_size, len(images))
        names = self.metadata.class_names
        for batch in batches_of(images, self.metadata.preprocessing, batch_size, on_bad):
            pictures, views = zip(*batch)
            padding = np.zeros((batch_size - len(views), *views[0].shape), np.uint8)
            logits = self._step(Tensor(np.concatenate([np.stack(views), padding])))
            logits = logits[0] if isinstance(logits, tuple) else logits
            shares = probabilities(task, logits.asnumpy()[: len(views)])
            for picture, view, row in zip(pictures, views, shares):
                best = np.argsort(-row, kind="stable")[:top_k].tolist()
                best = [index for index in best if row[index] >= threshold]
                guesses = (
                    Guess(rank, index, names[index] if names else "", float(row[index]))
                    for rank, index in enumerate(best, 1)
                )
                is_file = isinstance(picture, (str, os.PathLike))
                yield Prediction(os.fspath(picture) if is_file else "", tuple(guesses)), view


def require_classes(metadata: Metadata) -> None:
    """Raise a ConfigError if the weights have no classifier and so give features only."""
    if not metadata.num_classes:
        raise ConfigError(
            f"{metadata.model}: these weights have no classifier; `mindcv embed` writes the "
            "features that they give"
        )


def _several(images: Picture | Sequence[Picture]) -> list[Picture] | None:
    """Return the images of a collection; None: it is a single one."""
    if isinstance(images, (str, os.PathLike)):
        return find_images([os.fspath(images)]) if os.path.isdir(images) else None
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else None
    return list(images) if isinstance(images, (list, tuple)) else None


def _refuse(image: Any, reason: str) -> None:
    name = image if isinstance(image, (str, os.PathLike)) else type(image).__name__
    raise DataError(f"{name}: {reason}")


def batches_of(
    images: Sequence[Picture],
    preprocessing: Preprocessing,
    batch_size: int,
    on_bad: Callable[[Any, str], None],
) -> Iterator[list[tuple[Picture, np.ndarray]]]:
    """Yield lists of images and the network's views of them, uint8 (H, W, 3); see `stream`."""
    operations = evaluation_transforms(preprocessing)
    batch = []
    for image in images:
        try:
            batch.append((image, read_image(image, operations)))
        except DataError as error:
            on_bad(image, str(error))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def read_image(image: Picture, operations: Sequence[Callable]) -> np.ndarray:
    """Read an image and apply the evaluation transforms.

    Args:
        operations: `evaluation_transforms(preprocessing)`; they return uint8 (H, W, 3).

    Raises:
        DataError: it cannot be read or decoded, or an operation fails.
    """
    is_file = isinstance(image, (str, os.PathLike))
    image = decodable(read_file(os.fsencode(image))) if is_file else as_file(image)
    try:
        for operation in operations:
            image = operation(image)
    except RuntimeError as error:
        raise DataError(first_line(error)) from None
    return image
