"""A checkpoint's predictions for the validation images, each counted once."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from ...engine.multi_label import LabelFigures
from ...engine.results import ClassFigures, FiguresOfClasses, Outcomes
from ...errors import DataError
from ...models import create_model_from_file
from ...task import MULTI_LABEL
from ...weights import WeightFile, describe_choice

# Longer side of thumbnails, pixels; images up to the second size are stored losslessly.
_SIDE, _TINY = 192, 64


@dataclass(frozen=True)
class Predictions:
    """The outcome for the N intact images of the validation split, in the order of the files."""

    checkpoint: Path
    averaged: bool  # whether the averaged weights were evaluated
    accuracy: Measured
    class_names: tuple[str, ...]  # in the order of the logits; numbers if unknown
    labels: np.ndarray  # (N,)
    predicted: np.ndarray  # (N,)
    losses: np.ndarray  # (N,), cross entropy without label smoothing
    shares: np.ndarray  # (N, 2), probabilities of the predicted and of the true class
    samples: Samples  # all images of the split
    places: np.ndarray  # (N,), indices into `samples`: all but bad images
    of_several: LabelFigures | None = None  # where images show several classes; then N is 0

    @cached_property
    def figures(self) -> FiguresOfClasses:
        return self.of_several or ClassFigures.of(self.class_names, self.labels, self.predicted)

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
    outcomes, of_several = evaluator.outcomes(len(names)), None
    accuracy = evaluator.evaluate(step, loader, config.batch_size, runtime, watch=outcomes)
    if accuracy.task is MULTI_LABEL:
        of_several = LabelFigures.of(names, *outcomes.of_all_ranks(runtime))
        outcomes = Outcomes()
    labels, predicted, losses, shares = outcomes.arrays()
    places = np.flatnonzero(labels >= 0)
    is_same = len(labels) == len(samples) and (labels == samples.labels)[places].all()
    if not (is_same or of_several):
        raise DataError(
            f"the images of {config.data_dir} changed while they were read; run it again"
        )
    return Predictions(
        Path(file.path),
        averaged=describe_choice(file, ema)[0] == "averaged",
        accuracy=accuracy,
        class_names=names,
        labels=labels[places],
        predicted=predicted[places],
        losses=losses[places],
        shares=shares[places],
        samples=samples,
        places=places,
        of_several=of_several,
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
