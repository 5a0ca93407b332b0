"""What a run was trained on, kept in its folder: classes.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...plain_files import read_regular, replacing
from .protocol import Samples

_LARGEST = 2**26  # bytes


def write_class_map(path: Path, samples: Samples) -> None:
    """Write classes (name to index), number of images and fingerprint of a training set.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(_description(samples), indent=1), encoding="ascii")


def compare_class_map(path: Path, samples: Samples) -> str | None:
    """Return the first difference between the training set of a run and this one; None: equal.

    Raises:
        DataError: the file cannot be read.
    """
    then, now = _read(path), _description(samples)
    if then["num_classes"] != now["num_classes"]:
        return f"{then['num_classes']} classes then, {now['num_classes']} now"
    if then["classes"] != now["classes"]:
        return _first_other_class(then["classes"] or {}, now["classes"] or {})
    if then["images"] != now["images"]:
        return f"{then['images']} images then, {now['images']} now"
    if then["fingerprint"] != now["fingerprint"]:
        return f"{now['images']} images as then, but with other names or labels"
    return None


def _description(samples: Samples) -> dict[str, Any]:
    names = samples.class_names
    return {
        "num_classes": int(samples.num_classes),
        "images": len(samples),
        "fingerprint": samples.fingerprint(),
        "classes": names and {name: index for index, name in enumerate(names)},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path, _LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from None
    keys = {"num_classes", "images", "fingerprint", "classes"}
    if not isinstance(content, dict) or not keys <= set(content) or not _is_map(content["classes"]):
        raise DataError(f"{path} is not what train.py writes: expected {', '.join(sorted(keys))}")
    return content


def _is_map(classes: Any) -> bool:
    """Tell whether each class has an index of its own; None: the classes have no names."""
    if classes is None:
        return True
    indices = list(classes.values()) if isinstance(classes, dict) else [None]
    return all(type(index) is int for index in indices) and len(set(indices)) == len(indices)


def _first_other_class(then: Mapping[str, int], now: Mapping[str, int]) -> str:
    old, new = ({index: name for name, index in names.items()} for names in (then, now))
    index = min(i for i in {*old, *new} if old.get(i) != new.get(i))
    return f"class {index} was {old.get(index)!r} then and is {new.get(index)!r} now"
