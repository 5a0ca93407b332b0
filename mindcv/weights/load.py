"""Load a weight file into a network: all of it or an error, never a part and never in silence."""

import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import WeightsError
from . import ckpt
from .match import Contents, sort_contents
from .read import WeightFile, read_weights

_logger = logging.getLogger(__name__)

_CLASSIFIER = "head.fc."  # of a RegNet
_STEM = "stem.conv.weight"
_FLOATS = (ms.float32, ms.float16, ms.bfloat16)


@dataclass(frozen=True)
class LoadReport:
    """What a weight file gave.

    Attributes:
        loaded: number of tensors taken over.
        set_aside: entries that are not weights of this network.
        reinitialized: tensors of the classifier that keep their fresh values.
        scheme: the library whose names the file uses; empty: the network's own.
        notes: what was changed: types, order and number of input channels.
        line: all of this in one line, as logged.
    """

    loaded: int
    set_aside: tuple[str, ...]
    reinitialized: tuple[str, ...]
    scheme: str = "mindcv"
    notes: tuple[str, ...] = ()
    line: str = ""


def load_weights(
    network: nn.Cell,
    path: str | os.PathLike | WeightFile,
    ema: bool | None = False,
    new_head: bool = True,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Load a weight file of any library into `network`.

    A stem for other images than the file's takes the sum of the three filters (one channel; a grey
    image then gives what it gives in three equal channels), or repeats them in turn, scaled by
    3 / channels (timm's `adapt_input_conv`). A network without classifier leaves the file's.

    Args:
        network: the network; unchanged if anything is wrong.
        path: a file of any name that `read_weights` reads, or what it returned.
        ema: take the averaged weights; None: where the file holds them, else the raw ones.
        new_head: keep the fresh classifier where the file has other classes, or none; else that is
            an error.
        class_names: the network's; by them a classifier of as many other classes is known.

    Raises:
        WeightsError: no such file, no weight file, entries missing, left over or misshapen.
    """
    file = path if isinstance(path, WeightFile) else read_weights(path)
    wanted = network.parameters_dict()
    contents = sort_contents(file, wanted, ema)
    weights, notes = dict(contents.weights), list(contents.notes)
    set_aside = list(contents.set_aside)
    if _lacks_classifier(wanted):
        extra = [name for name in weights if name.startswith(_CLASSIFIER)]
        set_aside += extra
        if extra:
            notes.append(f"the file's classifier of {contents.num_classes} classes set aside")
        weights = {name: value for name, value in weights.items() if name not in extra}
    if _STEM in wanted and _STEM in weights:
        weights[_STEM] = _fit_stem(weights[_STEM], wanted[_STEM].shape, notes)
    known = file.metadata.class_names if file.metadata else None
    has_others = bool(known and class_names and tuple(known) != tuple(class_names))
    fresh = _fresh_classifier(network, contents, weights, wanted, has_others) if new_head else []
    missing = [name for name in wanted if name not in weights and name not in fresh]
    surplus = [name for name in weights if name not in wanted]
    wrong = [
        name
        for name in wanted
        if name in weights and name not in fresh and weights[name].shape != wanted[name].shape
    ]
    # Numbers of a quantised network would be cast without complaint.
    typed = [
        name
        for name in wanted
        if name in weights and wanted[name].dtype in _FLOATS and weights[name].dtype.kind != "f"
    ]
    if missing or surplus or wrong or typed:
        raise WeightsError(_mismatch(file.path, weights, wanted, missing, surplus, wrong, typed))
    for name, parameter in wanted.items():
        if name not in fresh:
            # Aligned: an array of a .ckpt may lie anywhere, and MindSpore 2.7 refuses that.
            values = np.require(weights[name], requirements="CA").reshape(parameter.shape)
            parameter.set_data(ms.Tensor(values, parameter.dtype))
    line = _line(contents, len(wanted) - len(fresh), set_aside, notes, fresh, wanted)
    if has_others and fresh:
        line += f", of other names: {_first_difference(known, class_names)}"
    report = LoadReport(
        len(wanted) - len(fresh),
        tuple(set_aside),
        tuple(fresh),
        contents.scheme,
        tuple(notes),
        line,
    )
    # A fresh classifier must not be overlooked, even where a program shows warnings only.
    _logger.log(logging.WARNING if fresh else logging.INFO, line)
    return report


def _lacks_classifier(wanted) -> bool:
    """Tell whether this is a RegNet built for features."""
    return _STEM in wanted and not any(name.startswith(_CLASSIFIER) for name in wanted)


def _fit_stem(weight: np.ndarray, shape: tuple[int, ...], notes: list[str]) -> np.ndarray:
    """Fit the filters of RGB images to another number of channels; see `load_weights`."""
    channels = shape[1]
    if weight.ndim != 4 or weight.shape[1] != 3 or channels == 3:
        return weight
    if channels == 1:
        notes.append("the stem's 3 input channels summed to 1")
        return weight.sum(axis=1, keepdims=True)
    notes.append(f"the stem's 3 input channels repeated to {channels}, scaled by 3/{channels}")
    return weight[:, np.arange(channels) % 3] * np.float32(3 / channels)


def _fresh_classifier(
    network: nn.Cell, contents: Contents, weights, wanted, has_others: bool
) -> list[str]:
    """Return the classifier's parameters where the file has other classes, or none."""
    dense = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Dense)]
    head = [parameter.name for parameter in dense[-1].get_parameters()] if dense else []
    if head and not any(name in weights for name in head) and _tells_it_has_no_head(contents):
        return head
    # Another number of features would be another network.
    return [
        name
        for name in head
        if name in weights
        and (has_others or weights[name].shape != wanted[name].shape)
        and weights[name].shape[1:] == wanted[name].shape[1:]
    ]


def _tells_it_has_no_head(contents: Contents) -> bool:
    """Tell whether a file without classifier is whole.

    A checkpoint of MindSpore can be cut between two entries and still be read; only what this
    library wrote beside the weights shows that nothing is missing.
    """
    file = contents.file
    told = file.metadata is not None and file.metadata.num_classes == 0
    return told or file.format != ckpt.NAME


def _mismatch(path, weights, wanted, missing, surplus, wrong, typed) -> str:
    lines = [
        f"weight file {path!r} does not fit the model: {len(weights)} tensors in the file, "
        f"{len(wanted)} in the model; nothing was loaded"
    ]
    if missing:
        lines.append(f"  {len(missing)} missing from the file: {_some(missing)}")
    if surplus:
        lines.append(f"  {len(surplus)} unknown to the model: {_some(surplus)}")
    if wrong:
        shapes = [f"{name} {weights[name].shape} for {wanted[name].shape}" for name in wrong]
        lines.append(f"  {len(wrong)} of another shape: {_some(shapes)}")
    if typed:
        types = [f"{name} {weights[name].dtype}" for name in typed]
        lines.append(f"  {len(typed)} that are not floating point: {_some(types)}")
    theirs, ours = _architecture(weights), _architecture(wanted)
    if theirs and ours and theirs != ours:
        lines.append(f"  the file is of a RegNet with {theirs}; the model has {ours}")
    lines.append("  check model and num_classes against the file")
    return "\n".join(lines)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _architecture(weights) -> str:
    """Describe a RegNet by its parameters; empty: it is none."""
    stages = {}
    for name in weights:
        parts = name.split(".")
        if parts[0] == "stages" and len(parts) > 4 and parts[1].isdigit() and parts[3].isdigit():
            stages.setdefault(int(parts[1]), set()).add(int(parts[3]))
    if not stages:
        return ""
    depths = "-".join(str(len(stages[stage])) for stage in sorted(stages))
    ends = [weights.get(f"stages.{stage}.blocks.0.f.c.weight") for stage in sorted(stages)]
    widths = "-".join(str(end.shape[0]) for end in ends if end is not None)
    has_se = any(".se." in name for name in weights)
    return f"depths {depths}, widths {widths}, {'with' if has_se else 'without'} SE"


def _line(contents: Contents, loaded: int, set_aside, notes, fresh, wanted) -> str:
    names = f"names of {contents.scheme}" if contents.scheme else "the network's own names"
    line = f"loaded {loaded} tensors from {contents.file.path}, {names}"
    if contents.choice:
        line += f": {contents.choice}"
    if set_aside:
        line += f"; set aside {len(set_aside)} that are no weights of this network"
    for note in notes:
        line += f"; {note}"
    if fresh:
        classes = wanted[fresh[-1]].shape[0]
        line += f"; classifier re-initialised: {_classes(contents, fresh)} in the file, "
        line += f"{classes} here"
    return line


def _first_difference(known: Sequence[str], here: Sequence[str]) -> str:
    """Return the first class that is another one."""
    pairs = enumerate(itertools.zip_longest(known, here, fillvalue="none"))
    number, (old, new) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    return f"class {number} is {old!r} there and {new!r} here"


def _classes(contents: Contents, fresh: list[str]) -> str:
    weight = contents.weights.get(fresh[-1])
    return "none" if weight is None else f"{weight.shape[0]} classes"
