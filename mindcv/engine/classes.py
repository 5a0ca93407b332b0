"""Which class an output stands for: names, and weights that do not name them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import Config
from ..errors import DataError
from ..weights import Metadata


def check_classes(
    config: Config, found: int, known: int, file: str | Path, *, remedy: str = ""
) -> None:
    """Check that weights without class names, for `known` classes, fit images of `found` classes.

    Raises:
        DataError: they differ, unless `config.num_classes` says that the images show the first
            classes.
    """
    if found > known or (found < known and config.num_classes is None):
        raise DataError(
            f"{config.data_dir} holds {found} classes and {file} knows {known}, without their "
            f"names, so nothing says which is which{remedy}"
        )


def name_classes(numbers: Mapping[str, int] | None, metadata: Metadata) -> tuple[str, ...]:
    """Return a name for each output of a network: its own, those of `number_classes`, numbers."""
    known = sorted(numbers, key=numbers.get) if numbers else ()
    others = map(str, range(len(known), metadata.num_classes))
    return metadata.class_names or (*known, *others)


def name_all(class_names: Sequence[str] | None, num_classes: int) -> tuple[str, ...] | None:
    """Return a name for every class; a class without images is named by its number."""
    return class_names and (*class_names, *map(str, range(len(class_names), num_classes)))
