"""What a run records in the manifests of its checkpoints, by types: they may be somebody else's."""

from collections.abc import Mapping
from typing import Any

from ..errors import WeightsError
from .manifest import Manifest
from .position import position_of

_KEPT = {"is_midway": bool, "score": (float, int, None)}
_RUN = _KEPT | {
    "best_score": (float, int, None),
    "config": dict,
    "data": {
        "class_names": [str],
        "files?": {"names?": [str], "sizes?": [str], "times?": [str]},
        "fingerprint": str,
        "images_of_classes": [int],
    },
    "epoch": int,
    "is_evaluated": bool,
    "rows": [[str]],
    "runtime": dict,
    "skipped": int,
    "skipped_in_a_row?": int,
    "steps": int,
    "versions": dict,
    "workers": int,
}
_LARGEST = 2**53


def check_record(manifest: Manifest, is_resumed: bool = True) -> None:
    """Refuse a record that is not a run's.

    Args:
        is_resumed: the run goes on from here; else it only has to rank the checkpoint.

    Raises:
        WeightsError: an entry is missing, of another type, or of another place in the run than the
            checkpoint's name tells.
    """
    record = manifest.record
    problem = _problem(record, _RUN if is_resumed else _KEPT, "record")
    if not problem and is_resumed:
        place = position_of(manifest.path.stem)
        told = (record["epoch"], record["steps"], record["is_evaluated"])
        if place is None or told != (place.epoch, place.step, place.is_evaluated):
            problem = f"epoch, steps and is_evaluated are {told}, the name tells others"
    if problem:
        raise WeightsError(f"checkpoint manifest {manifest.path} is not a run's: {problem}")


def _problem(value: Any, kind: Any, place: str) -> str | None:
    """Return where a JSON value is not of a kind, None where it is.

    Args:
        kind: a type; several; [kind] of all items; or a mapping of keys to kinds, where a key that
            ends in ? may be missing.
    """
    if isinstance(kind, Mapping):
        if type(value) is not dict:
            return f"{place} is {_named(value)}, expected a mapping"
        kinds = {key.rstrip("?"): each for key, each in kind.items()}
        missing = [key for key in kinds if key not in value and key in kind]
        if missing:
            return f"{place} has no {missing[0]}"
        items = [(value[key], kinds[key], f"{place}.{key}") for key in kinds if key in value]
    elif isinstance(kind, list):
        if type(value) is not list:
            return f"{place} is {_named(value)}, expected a list"
        items = [(item, kind[0], f"an item of {place}") for item in value]
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not (value is None and None in kinds or type(value) in kinds):
            return f"{place} is {_named(value)}"
        is_small = type(value) not in (int, float) or -_LARGEST < value < _LARGEST
        return None if is_small else f"{place} is {_named(value)}, out of range"
    return next((found for item in items if (found := _problem(*item))), None)


def _named(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
