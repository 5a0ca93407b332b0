"""What a checkpoint says of every validation image, each counted once."""

from dataclasses import dataclass
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from ... import data, engine
from ...config import Config
from ...data.failure import pipeline_failures_as_data_errors
from ...data.preprocessing import Preprocessing
from ...data.samples import Samples
from ...engine.build import number_classes
from ...errors import DataError
from ...models import create_model_from_file
from ...weights import Metadata, has_averages, read_weights


@dataclass(frozen=True)
class Predictions:
    """The outcome for each image of the validation split, in the order of the files.

    Attributes:
        checkpoint: the file evaluated.
        averaged: its averaged weights were.
        class_names: one a class, in the order of the logits; numbers where no names are known.
        labels, predicted: classes, (N,).
        losses: cross entropy without label smoothing, (N,).
        shares: probabilities of the predicted and of the true class, (N, 2).
        samples: the images of the split.
        places: which of them these are about, (N,): all but bad ones.
    """

    checkpoint: Path
    averaged: bool
    class_names: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    shares: np.ndarray
    samples: Samples
    places: np.ndarray

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return float(100.0 * np.mean(self.labels == self.predicted))

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    def confusion(self) -> np.ndarray:
        """Return counts, (classes, classes): a row is a true class, a column a predicted one."""
        size = len(self.class_names)
        flat = np.bincount(self.labels * size + self.predicted, minlength=size * size)
        return flat.reshape(size, size)

    def worst(self, count: int) -> list[int]:
        """Return the indices of the wrong predictions of highest loss, worst first."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:count].tolist()


def predict_split(config: Config, checkpoint: Path, ema: bool | None = None) -> Predictions:
    """Evaluate a checkpoint on the validation split of a run, as the run itself did.

    Preprocessing and class names are the checkpoint's own where it tells them, else the config's;
    mixed precision is the training's.

    Args:
        ema: take the averaged weights; None: where the file holds them, else the raw ones.

    Raises:
        ConfigError, DataError, WeightsError: unknown model; no images, or of other classes; the
            file cannot be used.
        NonFiniteLossError: an output of the network is NaN or infinite.
    """
    engine.start_runtime(config.mode, seed=config.seed)
    file = read_weights(checkpoint)
    how = file.metadata.preprocessing if file.metadata else Preprocessing.from_options(config)
    numbers = number_classes(config, file.metadata)
    samples = data.open_samples(config.dataset, config.data_dir, config.val_split, numbers)
    loader = data.create_evaluation_loader(
        samples,
        how,
        config.batch_size,
        num_parallel_workers=config.num_parallel_workers,
        allow_bad_images=config.allow_bad_images,
    )
    found = max(len(numbers or ()), samples.num_classes)
    network, metadata = create_model_from_file(file, "" if file.metadata else config.model, ema=ema)
    averaged = has_averages(file) if ema is None else ema
    names = _class_names(config, metadata, found, samples)
    step = _Logits(
        engine.mixed_precision(
            network, config.amp_level, config.amp_cast_list or (), config.keep_bn_fp32
        ),
        data.create_normalize(config.dataset, how.mean, how.std),
    )
    parts = _evaluate(step, loader, config.batch_size, len(names))
    labels, predicted, losses, shares = map(np.concatenate, zip(*parts))
    places = np.flatnonzero(labels >= 0)
    if not len(places):
        raise DataError("no image to evaluate")
    if len(labels) != len(samples) or (labels != samples.labels)[places].any():
        raise DataError(
            f"the images of {config.data_dir} changed while they were read; run it again"
        )
    broken = np.count_nonzero(~np.isfinite(losses[places]))
    if broken:
        raise engine.non_finite_outputs(broken, len(places))
    outcomes = (part[places] for part in (labels, predicted, losses, shares))
    return Predictions(checkpoint, averaged, names, *outcomes, samples, places)


class _Logits(nn.Cell):
    def __init__(self, network: nn.Cell, normalize: nn.Cell):
        super().__init__(auto_prefix=False)
        self.network, self.normalize = network, normalize

    def construct(self, image):
        logits = self.network(self.normalize(image))
        if isinstance(logits, tuple):
            logits = logits[0]
        return ops.cast(logits, mstype.float32)


def _evaluate(
    step: nn.Cell, loader: ds.Dataset, batch_size: int, num_classes: int
) -> list[tuple[np.ndarray, ...]]:
    """Return (labels, predicted, losses, shares) of each batch; the last one is padded and cut."""
    step.set_train(False)
    parts = []
    with pipeline_failures_as_data_errors(loader):
        for image, label in loader.create_tuple_iterator(num_epochs=1, output_numpy=True):
            if label.max() >= num_classes:
                raise DataError(f"label {label.max()} lies outside the {num_classes} classes")
            padding = np.zeros((batch_size - len(label), *image.shape[1:]), image.dtype)
            logits = step(Tensor(np.concatenate([image, padding]))).asnumpy()
            parts.append(_outcome(label.astype(np.int64), logits[: len(label)].astype(np.float64)))
    return parts


def _outcome(labels: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, ...]:
    rows, predicted = np.arange(len(labels)), logits.argmax(1)
    logits[~np.isfinite(logits).all(1)] = np.nan  # an infinity beside numbers, too, is no answer
    logits = logits - logits.max(1, keepdims=True)
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    shares = np.exp(np.stack([log_shares[rows, predicted], log_shares[rows, labels]], 1))
    return labels, predicted, -log_shares[rows, labels], shares


def _class_names(
    config: Config, metadata: Metadata, found: int, samples: Samples
) -> tuple[str, ...]:
    """Return one name a class.

    Raises:
        DataError: the checkpoint has no names and its classes are not the data's.
    """
    if metadata.class_names:
        return metadata.class_names
    if found > metadata.num_classes or (
        found < metadata.num_classes and config.num_classes is None
    ):
        raise DataError(
            f"{config.data_dir} holds {found} classes and the checkpoint knows "
            f"{metadata.num_classes}, without their names: which is which cannot be told"
        )
    known = samples.class_names or ()
    return (*known, *map(str, range(len(known), metadata.num_classes)))
