"""How much each class counts in the training loss."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..process.files import open_regular, reading

BALANCED = "balanced"
_MOST_NAMED = 5


def class_weights(
    given: str | Sequence[float], counts: Sequence[int], names: Sequence[str]
) -> list[float]:
    """Return the weight of each class, for `create_loss`.

    Args:
        given: balanced: images / (classes * images of the class), as in scikit-learn's
            `compute_class_weight`; numbers in the order of the classes; or the path of a JSON file
            with an object, class name to weight, or a list of weights.
        counts: images of each class.
        names: of the classes.

    Raises:
        ConfigError: the file cannot be read; a class has no weight or one that is not a positive
            number; or the file weighs a class that does not exist.
        DataError: balanced, but a class has no image.
    """
    if given == BALANCED:
        if missing := [name for name, count in zip(names, counts) if not count]:
            raise DataError(
                f"class_weights balanced: {_some(missing)} of the training set has no image, so no "
                "weight balances it; give the weights as numbers or in a file"
            )
        return (sum(counts) / (len(names) * np.array(counts, np.float64))).tolist()
    place, weights = "class_weights", given
    if isinstance(given, str):
        place, weights = f"class_weights {given}", _read(given)
    if isinstance(weights, dict):
        if unknown := [name for name in weights if name not in names]:
            raise ConfigError(
                f"{place}: {_some(unknown)} is not a class of the training set, which has "
                f"{_some(names)}"
            )
        weights = [weights.get(name) for name in names]
    if not isinstance(weights, Sequence) or len(weights) != len(names):
        raise ConfigError(
            f"{place}: expected one weight for each of {len(names)} classes, in the order of "
            f"{_some(names)}"
        )
    for name, weight in zip(names, weights):
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise ConfigError(
                f"{place}: class {name!r} has the weight {weight!r:.40}; expected a number above 0"
            )
    return [*map(float, weights)]


def _read(path: str) -> Any:
    with reading(path, ConfigError), open(path, "rb", opener=open_regular) as file:
        try:
            return json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"class_weights {path} is not JSON: {error}") from None


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names][:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
