"""The classes of a run: how many, their numbers and names, and whether weights fit them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import data
from ..config import Config
from ..data.datasets import dataset_task
from ..data.samples.protocol import count_images
from ..errors import DataError
from ..loss.class_weights import class_weights
from ..task import MULTI_LABEL
from ..weights import Metadata


def count_classes(config: Config, train_set) -> int:
    found = train_set.num_classes()
    if config.num_classes is not None and config.num_classes < found:
        raise DataError(
            f"num_classes {config.num_classes} is too small: {config.data_dir} holds {found} "
            "classes; leave num_classes out to take them from the data"
        )
    several = dataset_task(config.dataset) is MULTI_LABEL
    if several and config.num_classes not in (None, found):
        raise DataError(
            f"num_classes {config.num_classes}: {config.data_dir} says of {found} classes whether "
            "an image shows them, and of no others; leave num_classes out"
        )
    if max(found, config.num_classes or 0) < 2 and not several:
        raise DataError(_one_class(config, train_set))
    return config.num_classes or found


def weigh_classes(config: Config, train_set) -> list[float] | None:
    """Return the weight of each class in the loss; None without class_weights."""
    if config.class_weights is None:
        return None
    samples, num_classes = train_set.samples, count_classes(config, train_set)
    counts = count_images(samples.labels, num_classes).tolist()
    names = name_all(samples.class_names, num_classes) or [*map(str, range(num_classes))]
    return class_weights(config.class_weights, counts, names)


def _one_class(config: Config, train_set) -> str:
    """Return the error for a single class and its likely cause: folders one level too deep."""
    name = (train_set.class_names() or ("0",))[0]
    place = getattr(train_set.samples, "folder", config.data_dir)
    hint = "num_classes 2 or more leaves room for others"
    if isinstance(place, Path):
        hint = (
            f"if the class folders lie in {place / name}, as archives unpack, move them up into "
            f"{place}; {hint}"
        )
    return f"{place} holds one class, {name!r}, and nothing can be learnt from it: {hint}"


def number_classes(config: Config, metadata: Metadata | None = None) -> dict[str, int] | None:
    """Return class numbers by name as in training: from the file, else from the training split."""
    if metadata and metadata.class_names:
        return {name: number for number, name in enumerate(metadata.class_names)}
    return data.training_classes(
        config.dataset, config.data_dir, config.train_split, config.val_fraction
    )


def check_classes(
    config: Config, found: int, known: int, file: str | Path, *, remedy: str = ""
) -> None:
    """Check that weights without class names, for `known` classes, fit images of `found` classes.

    Raises:
        DataError: they differ, unless `config.num_classes` says that the images show the first
            classes, and each image shows one.
    """
    several = dataset_task(config.dataset) is MULTI_LABEL
    if found > known or (found < known and (several or config.num_classes is None)):
        remedy = "; list a column for each class of the weights" if several else remedy
        raise DataError(
            f"{config.data_dir} holds {found} classes and {file} knows {known}, without their "
            f"names, so nothing says which is which{remedy}"
        )


def check_task(config: Config, metadata: Metadata | None, file: str | Path) -> None:
    """Check that a weight file which says what its logits decide fits the images.

    Raises:
        DataError: one is of one class an image and the other of several.
    """
    task = dataset_task(config.dataset)
    if metadata and metadata.task != task.name:
        raise DataError(
            f"{file} was trained on {metadata.task} images, those of dataset {config.dataset!r} "
            f"are {task.name}: evaluate it on images labelled like its training images"
        )


def name_classes(numbers: Mapping[str, int] | None, metadata: Metadata) -> tuple[str, ...]:
    """Return a name for each output of a network: its own, those of `number_classes`, numbers."""
    known = sorted(numbers, key=numbers.get) if numbers else ()
    others = map(str, range(len(known), metadata.num_classes))
    return metadata.class_names or (*known, *others)


def name_all(class_names: Sequence[str] | None, num_classes: int) -> tuple[str, ...] | None:
    """Return a name for every class; a class without images is named by its number."""
    return class_names and (*class_names, *map(str, range(len(class_names), num_classes)))
