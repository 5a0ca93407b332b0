"""The mean of several sets of weights of one network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

import numpy as np

from ..errors import WeightsError
from ..weights.metadata import Metadata

Weights = tuple[str, Mapping[str, np.ndarray], Metadata | None]


def average_weights(
    files: Iterable[Weights], shares: Sequence[float]
) -> tuple[dict[str, np.ndarray], Metadata | None]:
    """Return the weighted mean of all float tensors, summed in float64, and the common metadata.

    Tensors of whole numbers must be the same in all files, and are kept. The files are taken one
    after the other, so that an iterator may read each only then.

    Args:
        files: (path, tensors, metadata) of each.
        shares: a positive number for each; only their ratios count.

    Raises:
        WeightsError: names, shapes, types or metadata differ, whole numbers differ, or a value is
            not finite.
    """
    first, sums = None, {}
    for current, share in zip(files, shares, strict=True):
        first = first or current
        _check_same_kind(first, current)
        path, tensors, _ = current
        for name, tensor in tensors.items():
            if not np.issubdtype(tensor.dtype, np.floating):
                if not np.array_equal(tensor, first[1][name]):
                    raise WeightsError(
                        f"tensor {name} holds whole numbers, which have no mean, and {path!r} and "
                        f"{first[0]!r} disagree on it"
                    )
                continue
            if not np.isfinite(tensor).all():
                raise WeightsError(f"weight file {path!r}: tensor {name} is not finite everywhere")
            sums[name] = sums.get(name, 0.0) + tensor.astype(np.float64) * share
    _, tensors, metadata = first
    mean = {
        name: (sums[name] / sum(shares)).astype(tensor.dtype) if name in sums else tensor
        for name, tensor in tensors.items()
    }
    return mean, metadata


def running_statistics(names: Iterable[str]) -> list[str]:
    """Return the names of batch normalisation's running means and variances."""
    ends = ("moving_mean", "moving_variance", "running_mean", "running_var")
    return [name for name in names if name.endswith(ends)]


def _check_same_kind(first: Weights, other: Weights) -> None:
    problems = [*_tensor_differences(first, other), *_metadata_differences(first, other)]
    if problems:
        lines = [f"{other[0]!r} is not of the same network as {first[0]!r}; nothing was averaged"]
        raise WeightsError("\n  ".join(lines + problems))


def _tensor_differences(first: Weights, other: Weights) -> list[str]:
    ours, theirs = first[1], other[1]
    missing = [name for name in ours if name not in theirs]
    surplus = [name for name in theirs if name not in ours]
    both = [name for name in ours if name in theirs]
    shapes = [
        f"{name} {theirs[name].shape} for {ours[name].shape}"
        for name in both
        if theirs[name].shape != ours[name].shape
    ]
    types = [
        f"{name} {theirs[name].dtype} for {ours[name].dtype}"
        for name in both
        if theirs[name].dtype != ours[name].dtype
    ]
    kinds = (
        ("missing", missing),
        ("only there", surplus),
        ("of another shape", shapes),
        ("of another type", types),
    )
    return [
        f"{len(found)} of {len(ours)} tensors {kind}: {', '.join(found[:3])}"
        + (", …" if len(found) > 3 else "")
        for kind, found in kinds
        if found
    ]


def _metadata_differences(first: Weights, other: Weights) -> list[str]:
    ours, theirs = first[2], other[2]
    if ours is None or theirs is None:
        if ours is theirs:
            return []
        silent, telling = (first, other) if ours is None else (other, first)
        return [f"{telling[0]!r} is of model {telling[2].model}, {silent[0]!r} does not tell"]
    differing = [
        entry.name
        for entry in fields(Metadata)
        if getattr(ours, entry.name) != getattr(theirs, entry.name)
    ]
    return [f"{name}: {_short(theirs, name)} for {_short(ours, name)}" for name in differing]


def _short(metadata: Metadata, name: str) -> str:
    text = repr(getattr(metadata, name))
    return text if len(text) <= 60 else f"{text[:57]}..."
