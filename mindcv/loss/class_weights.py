"""How much each class counts in the training loss."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..process.files import read_regular

BALANCED = "balanced"
_MOST_BYTES = 2**26
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
        missing = [name for name, count in zip(names, counts) if not count]
        if missing:
            raise DataError(
                f"class_weights balanced: {_some(missing)} of the training set has no image, so no "
                "weight balances it; give the weights as numbers or in a file"
            )
        return (sum(counts) / (len(names) * np.array(counts, np.float64))).tolist()
    place, weights = "class_weights", given
    if isinstance(given, str):
        place, weights = f"class_weights {given}", _read(Path(given))
    if isinstance(weights, dict):
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise ConfigError(
                f"{place}: {_some(unknown)} is not a class of the training set, whose classes are "
                f"{_some(names)}"
            )
        weights = [weights.get(name) for name in names]
    if len(weights) != len(names):
        raise ConfigError(f"{place}: {len(weights)} weights for {len(names)} classes")
    for name, weight in zip(names, weights):
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < float("inf"):
            got = "no weight" if weight is None else f"the weight {weight!r:.40}"
            raise ConfigError(f"{place}: class {name!r} has {got}; expected a number above 0")
    return [float(weight) for weight in weights]


def _read(path: Path) -> dict | list:
    try:
        content = json.loads(read_regular(path, _MOST_BYTES))
    except OSError as error:
        raise ConfigError(
            f"class_weights {path} cannot be read: {error.strerror or error}; expected balanced, a "
            "number for each class, or the path of a JSON file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"class_weights {path} is not JSON: {error}") from None
    if not isinstance(content, (dict, list)):
        raise ConfigError(f"class_weights {path}: expected an object class name -> weight")
    return content


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names][:_MOST_NAMED]) + (", …" if len(names) > _MOST_NAMED else "")
