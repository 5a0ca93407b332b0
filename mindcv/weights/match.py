"""Find the weights among a file's entries and translate their names to ours."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.preprocessing import Preprocessing
from ..errors import WeightsError
from .file import WeightFile
from .schemes import CLASSIFIER, FIRST_CONV, NATIVE, Scheme, native_name, recognise

# State of optimizers, loss scalers and EMA in a checkpoint, apart from `<prefix>.<weight>`.
_TRAINING_STATE = re.compile(
    r"(?:optimizer\.)?(?:learning_rate\w*\.)?(?:accumulated_batches|accumulation_step"
    r"|beta[12]_power|bias_correction\d|counter|current_iterator_step|dropout_count|epoch_num"
    r"|global_step|last_overflow_iterator_step|learning_rate\w*|loss_scale|momentum|mu_product"
    r"|mu_schedule|scale_sense|scale_value|step_num|updates|(?:losses|applied|position)_\w+_epoch)"
)
# Prefixes that training programs put before parameter names: containers and wrappers.
_CONTAINER = (
    r"(?:state|model_state|model_state_dict|state_dict|model|network|net"
    r"|classy_state_dict\.base_model\.model)\."
)
_WRAPPER = r"(?:(?:module|_orig_mod)\.)"
_PLAIN = re.compile(rf"(?P<container>(?:{_CONTAINER})*){_WRAPPER}*")
_AVERAGED = re.compile(
    rf"(?:{_CONTAINER})*(?:ema|ema_state|ema_model|model_ema|state_dict_ema)\.{_WRAPPER}*"
)
_CHOICES = {
    True: "the averaged weights; ema False takes the raw ones",
    False: "the raw weights; ema True takes the averaged ones",
}
STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class Contents:
    """A file's weights under our names."""

    file: WeightFile
    scheme: str  # library whose names the file uses; empty: unknown, the names stay as they are
    weights: dict[str, np.ndarray]  # by our names; unknown entries keep their names
    set_aside: tuple[str, ...]  # entries of the file that are not weights of the network
    notes: tuple[str, ...]  # changes made to the weights
    averaged: bool = False  # whether these are the averaged weights
    others: tuple[str, ...] = ()  # the set that was not chosen, of raw and averaged weights

    @property
    def num_classes(self) -> int:
        """Classes of the classifier; 0: the file has no classifier."""
        return len(self.weights.get(CLASSIFIER, ()))

    @property
    def in_channels(self) -> int:
        """Input channels of the first convolution; 0: the file has none."""
        weight = self.weights.get(FIRST_CONV)
        return weight.shape[1] if weight is not None and weight.ndim == 4 else 0

    @property
    def choice(self) -> str:
        """Which set of weights these are, for messages; empty: the file holds only the raw set."""
        if not self.others:
            return "the averaged weights" if self.averaged else ""
        return _CHOICES[self.averaged]


def count_classes(file: WeightFile) -> int:
    """Return the number of classes by the metadata or a RegNet's classifier; 0: unknown."""
    return file.metadata.num_classes if file.metadata else sort_contents(file).num_classes


def count_channels(file: WeightFile) -> int:
    """Return the number of input channels by the metadata or a RegNet's stem; 0: unknown."""
    return file.metadata.in_channels if file.metadata else sort_contents(file).in_channels


def preprocessing_of(file: WeightFile) -> Preprocessing:
    """Return the preprocessing that the file's metadata states.

    Without metadata: the defaults, with the antialiasing of the library whose names the file uses.
    """
    if file.metadata:
        return file.metadata.preprocessing
    scheme = recognise(file.tensors)
    return Preprocessing(antialias=scheme is not None and scheme.uses_pillow)


def has_averages(file: WeightFile) -> bool:
    """Return whether a file holds averaged weights, with or without the raw ones."""
    return bool(_twins(file)) or sort_contents(file, ema=None).averaged


def shown_names(file: WeightFile) -> set[str]:
    """Return the names that a file itself shows to be weights, of a network with any names.

    They are those with an averaged twin, and the running statistics beside them.
    """
    twins = _twins(file)
    others = (name for name in file.tensors if name.endswith(STATISTICS))
    return twins | {name for name in others if twins and not _AVERAGED.match(name)}


def _twins(file: WeightFile) -> set[str]:
    """Return the raw weights that have an averaged twin, which any network's names show."""
    starts = ((name, _AVERAGED.match(name)) for name in file.tensors)
    return {name[start.end() :] for name, start in starts if start} & file.tensors.keys()


def describe_choice(file: WeightFile, ema: bool | None) -> tuple[str, str]:
    """Return "averaged" or "raw", and the first line of each command that evaluates the file.

    `ema` chooses; None: the averaged weights where the file holds any.
    """
    if not has_averages(file):
        return "raw", f"{file.path}: the raw weights; the file holds no averaged ones"
    averaged = ema is not False
    return "averaged" if averaged else "raw", f"{file.path}: {_CHOICES[averaged]}"


def sort_contents(
    file: WeightFile, wanted: Collection[str] = (), ema: bool | None = False
) -> Contents:
    """Find the weights in a file and translate their names to ours.

    pycls reads images as BGR, so the first convolution of its files is flipped to RGB.

    Args:
        wanted: the network's parameter names, if known; needed for networks other than RegNet.
        ema: take the averaged weights, and the raw running statistics if those were not averaged;
            None: only if the file holds averaged weights.

    Raises:
        WeightsError: no averaged weights although `ema` is True, several sets of weights, or a
            weight that appears twice.
    """
    scheme = recognise(file.tensors)
    groups, unknown = _group(file, scheme, set(wanted))
    plains = [prefix for prefix in groups if _PLAIN.fullmatch(prefix)]
    if len(plains) > 1:
        places = ", ".join(f"{prefix!r} ({len(groups[prefix])} tensors)" for prefix in plains)
        raise WeightsError(
            f"weight file {file.path!r} holds several sets of weights, under {places}; keep one"
        )
    plain = plains[0] if plains else ""
    raw = dict(groups.get(plain, {}))
    # With gradient accumulation MindCV saves the trained weights as `optimizer.<weight>`.
    trained = groups.get(f"{plain}optimizer.", {})
    chosen = raw = trained | raw if trained.keys().isdisjoint(raw) else raw
    averages = [group for prefix, group in groups.items() if _AVERAGED.fullmatch(prefix)]
    ema = bool(averages) if ema is None else ema
    if ema:
        if not averages:
            raise WeightsError(
                f"weight file {file.path!r} holds no averaged weights (entries ema.*, ema_state, "
                "model_ema or state_dict_ema)"
            )
        statistics = {ours: name for ours, name in chosen.items() if ours.endswith(STATISTICS)}
        chosen = statistics | averages[0]
    else:
        container = _PLAIN.fullmatch(plain)["container"]
        for name in unknown:
            if not _is_beside(name, container, chosen, file.tensors):
                _add(chosen, name, name, file.path)
    weights = {ours: file.tensors[name] for ours, name in chosen.items()}
    notes = list(file.notes)
    stem = weights.get(FIRST_CONV)
    if scheme and scheme.is_bgr and stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        weights[FIRST_CONV] = stem[:, ::-1]
        notes.append("the stem's input channels turned from BGR to RGB")
    used = set(chosen.values())
    rest = [name for name in file.tensors if name not in used and not _is_counter(name)]
    twins = {twin for group in ([raw] if ema else averages[:1]) for twin in group.values()}
    return Contents(
        file,
        scheme.name if scheme else NATIVE if any(map(native_name, weights)) else "",
        weights,
        set_aside=tuple(name for name in rest if name not in twins),
        notes=tuple(notes),
        averaged=ema,
        others=tuple(name for name in rest if name in twins),
    )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # a counter of torch's BatchNorm that nothing uses


def _group(file: WeightFile, scheme: Scheme | None, wanted: set[str]):
    """Return {prefix: {our name: the file's name}}, and the names that are not understood."""
    groups: dict[str, dict[str, str]] = {}
    unknown = []
    for name in file.tensors:
        if _is_counter(name):
            continue
        found = scheme.to_native(name) if scheme else _split(name, wanted)
        if found is None:
            unknown.append(name)
            continue
        prefix, ours = found
        _add(groups.setdefault(prefix, {}), ours, name, file.path)
    return groups, unknown


def _add(group: dict[str, str], ours: str, name: str, path: str) -> None:
    if ours in group:
        raise WeightsError(f"weight file {path!r} gives {ours} twice: as {group[ours]} and {name}")
    group[ours] = name


def _split(name: str, wanted: set[str]) -> tuple[str, str] | None:
    """Split a name in our scheme into prefix and parameter."""
    parts = name.split(".")
    for start in range(len(parts)):
        rest = ".".join(parts[start:])
        if rest in wanted:
            return name[: len(name) - len(rest)], rest
    return native_name(name)


def _is_beside(name: str, container: str, chosen: dict, tensors: dict) -> bool:
    """Return whether an entry with an unknown name may be ignored, as training state."""
    if container and not name.startswith(container):
        return True
    # Projection heads of self-supervised training are not a classifier.
    if ".heads." in f".{name}" and "head.fc.weight" not in chosen:
        return True
    rest = name.split(".", 1)[-1]
    return _TRAINING_STATE.fullmatch(name) is not None or (rest != name and rest in tensors)


def without_statistics(weights: Collection[str]) -> list[str]:
    """Return messages if batch normalisations have weights but no running statistics."""
    names = [name.removesuffix("gamma") for name in weights if name.endswith("bn.gamma")]
    lone = [f"{name}moving_mean" for name in names if f"{name}moving_mean" not in weights]
    if not lone:
        return []
    return [
        f"{len(lone)} batch normalisations have no running statistics, e.g. {lone[0]}: if this is "
        "an optimizer's file (optim_*.ckpt), take the checkpoint of the network"
    ]


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], surplus: str = "unknown to the model"
) -> dict[str, list[str]]:
    """Return the names of tensors that are missing, surplus or misshapen, by kind of problem."""
    return {
        "missing from the file": [name for name in wanted if name not in found],
        surplus: [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {found[name].shape} for {wanted[name].shape}"
            for name in wanted
            if name in found and found[name].shape != wanted[name].shape
        ],
    }


def counted(problems: Mapping[str, list[str]], of: str = "") -> list[str]:
    """Return a line for each kind of problem: the number of tensors and the first three."""
    return [
        f"{len(names)}{of} {kind}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for kind, names in problems.items()
        if names
    ]
