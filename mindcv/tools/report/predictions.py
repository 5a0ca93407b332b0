"""A checkpoint's predictions for the validation images, each counted once."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ... import engine
from ...config import Config
from ...data.image_files import as_picture, decode
from ...data.samples import ImageError, Samples
from ...engine import build
from ...engine.classes import check_classes, check_task, name_classes, number_classes
from ...engine.evaluation import Measured
from ...engine.results import ClassFigures, Outcomes
from ...errors import DataError
from ...models import create_model_from_file
from ...task import SINGLE_LABEL
from ...weights import WeightFile, describe_choice

# Longer side of thumbnails, pixels; images up to the second size are stored losslessly.
_SIDE, _TINY = 192, 64


@dataclass(frozen=True)
class Predictions:
    """The outcome for the validation split.

    Its N intact images are in the order of the files; N is 0 where images show several classes.
    """

    checkpoint: Path
    averaged: bool  # whether the averaged weights were evaluated
    accuracy: Measured
    figures: ClassFigures  # a class without a name is called by its number
    labels: np.ndarray  # (N,)
    predicted: np.ndarray  # (N,)
    losses: np.ndarray  # (N,), cross entropy without label smoothing
    shares: np.ndarray  # (N, 2), probabilities of the predicted and of the true class
    samples: Samples  # all images of the split
    places: np.ndarray  # (N,), indices into `samples`: all but bad images

    def worst(self, count: int) -> list[int]:
        """Return the indices of the wrong predictions with the highest loss, worst first."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:count].tolist()


def predict_split(config: Config, file: WeightFile, ema: bool | None = None) -> Predictions:
    """Evaluate a checkpoint on the validation split of a run, as the run itself did.

    Preprocessing and class names come from the checkpoint if it has them, else from the config;
    mixed precision is that of training; nothing is downloaded. `ema` chooses the averaged weights;
    None: only if the file holds any.
    """
    check_task(config, file.metadata, file.path)
    runtime = engine.start_runtime(config.mode, seed=config.seed)
    config = replace(config, tta=None, dataset_download=False)
    if file.metadata:
        config = replace(config, **file.metadata.preprocessing.to_options())
    numbers = number_classes(config, file.metadata)
    samples = build.open_val_samples(config, numbers)
    loader, found = build.build_evaluation_batches(config, runtime, numbers, samples)
    network, metadata = create_model_from_file(file, "" if file.metadata else config.model, ema=ema)
    if not metadata.class_names:
        check_classes(config, found, metadata.num_classes, file.path)
        numbers = numbers or {name: i for i, name in enumerate(samples.class_names or ())}
    names = name_classes(numbers, metadata)
    network = engine.mixed_precision(
        network, config.amp_level, config.amp_cast_list or (), config.keep_bn_fp32
    )
    step = build.build_evaluation_step(config, network, len(names))
    evaluator = engine.evaluator_of(config.dataset)
    outcomes = evaluator.outcomes(len(names))
    accuracy = evaluator.evaluate(step, loader, config.batch_size, runtime, watch=outcomes)
    figures = evaluator.figures(names, *outcomes.of_all_ranks(runtime))
    has_one = accuracy.task is SINGLE_LABEL
    labels, predicted, losses, shares = (outcomes if has_one else Outcomes()).arrays()
    places = np.flatnonzero(labels >= 0)
    if has_one and (len(labels) != len(samples) or (labels != samples.labels)[places].any()):
        raise DataError(
            f"the images of {config.data_dir} changed while they were read; run it again"
        )
    return Predictions(
        Path(file.path),
        averaged=describe_choice(file, ema)[0] == "averaged",
        accuracy=accuracy,
        figures=figures,
        labels=labels[places],
        predicted=predicted[places],
        losses=losses[places],
        shares=shares[places],
        samples=samples,
        places=places,
    )


def make_thumbnails(found: Predictions, indices: Sequence[int]) -> dict[int, str]:
    """Return data URIs of the original images, by index.

    Raises:
        DataError: an image cannot be read again.
    """
    pictures = {}
    for index in indices:
        place = int(found.places[index])
        try:
            content = found.samples.read(place)
            image = as_picture(content) if content.ndim == 3 else decode(content)
        except (ImageError, OSError, ValueError) as error:
            name = found.samples.name(place)
            raise DataError(f"{name} cannot be read again: {error}") from None
        pictures[index] = _data_uri(image.convert("RGB"))
    return pictures


def _data_uri(image: Image.Image) -> str:
    tiny = max(image.size) <= _TINY
    image.thumbnail((_SIDE, _SIDE))
    kind, options = ("png", {}) if tiny else ("jpeg", {"quality": 82})
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
