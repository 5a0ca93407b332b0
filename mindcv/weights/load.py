"""Load a weight file into a network: completely, or raise an error and change nothing."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import WeightsError
from ..names import plural
from . import ckpt
from .file import Metadata, WeightFile, read_weights
from .guards import ENTRY
from .match import counted, differences, sort_contents, without_statistics
from .schemes import CLASSIFIER, FIRST_CONV, NATIVE, names_of

_logger = logging.getLogger(__name__)

_FLOATS = (ms.float32, ms.float16, ms.bfloat16)
_HEAD = CLASSIFIER.removesuffix("weight")


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` loaded."""

    loaded: int  # number of tensors
    set_aside: tuple[str, ...]  # entries of the file that are not weights of this network
    reinitialized: tuple[str, ...]  # classifier parameters that keep their fresh values
    scheme: str = NATIVE  # library whose names the file uses; empty: the network's own names
    notes: tuple[str, ...] = ()  # changes made to the weights, such as casts
    line: str = ""  # summary, as logged


def load_weights(
    network: nn.Cell,
    path: str | os.PathLike | WeightFile | Mapping[str, ms.Parameter],
    ema: bool | None = False,
    new_head: bool = True,
    class_names: Sequence[str] | None = None,
    first_conv: str = "",
    classifier: str = "",
) -> LoadReport:
    """Load a weight file of any supported library into `network`.

    The first convolution's three filters (RGB) are adapted to other numbers of input channels:
    summed for one channel, so that a grey image gives what it gives as RGB; otherwise repeated in
    turn and scaled by 3 / channels, as timm's `adapt_input_conv` does. A network without a
    classifier ignores the file's. A network may declare its `first_conv` and `classifier`;
    otherwise the first convolution is the one with RegNet's name, and the classifier the last
    Dense. The arguments of these names are names of cells and go before both.

    Args:
        path: a file, its content, or what MindSpore's `load_checkpoint` returns.
        ema: load the averaged weights; None: only if the file holds any.
        new_head: if the file has other classes or no classifier, keep the fresh classifier; False:
            raise an error.
        class_names: the network's; if they differ from the file's, the file has other classes.

    Raises:
        WeightsError: the file cannot be read or does not fully match the network, which then stays
            unchanged.
    """
    file = path
    if isinstance(path, Mapping):
        file = file_of_parameters(path)
    elif not isinstance(path, WeightFile):
        file = read_weights(path)
    wanted = network.parameters_dict()
    contents = sort_contents(file, wanted, ema)
    weights, notes = dict(contents.weights), list(contents.notes)
    first_conv, head = _ends(network, first_conv, classifier)
    ignored = []
    if first_conv in wanted and not any(name.startswith(_HEAD) for name in wanted):
        ignored = [name for name in weights if name.startswith(_HEAD)]
        weights = {name: value for name, value in weights.items() if name not in ignored}
    if ignored:
        notes.append(f"ignored the file's classifier of {contents.num_classes} classes")
    if first_conv in weights and first_conv in wanted:
        weights[first_conv] = _fit_channels(weights[first_conv], wanted[first_conv].shape, notes)
    others = _other_classes(file, class_names)
    fresh = _fresh(head, weights, wanted, has_others=bool(others)) if new_head else []
    if new_head and _is_headless(file) and not any(name in weights for name in head):
        fresh = head
    _check_fit(file.path, weights, wanted, fresh)
    for name, parameter in wanted.items():
        if name not in fresh:
            # MindSpore 2.7 refuses unaligned arrays, and those of a .ckpt may be.
            values = np.require(weights[name], requirements="CA").reshape(parameter.shape)
            parameter.set_data(ms.Tensor(values, parameter.dtype))
    set_aside = (*contents.set_aside, *ignored)
    line = f"loaded {len(wanted) - len(fresh)} tensors from {file.path}, "
    line += names_of(contents.scheme)
    if contents.choice:
        line += f": {contents.choice}"
    if set_aside:
        kind = "is not a weight" if len(set_aside) == 1 else "are not weights"
        line += f"; ignored {plural(len(set_aside), 'entry')} that {kind} of this network"
    line = "; ".join([line, *notes])
    if fresh:
        theirs, ours = contents.weights.get(fresh[-1]), wanted[fresh[-1]]
        classes = "none" if theirs is None else f"{len(theirs)} classes"
        line += f"; classifier re-initialised: {classes} in the file, {len(ours)} here{others}"
    # A fresh classifier is a warning, so that it shows even where INFO is hidden.
    _logger.log(logging.WARNING if fresh else logging.INFO, line)
    return LoadReport(
        len(wanted) - len(fresh),
        set_aside,
        tuple(fresh),
        contents.scheme,
        notes=tuple(notes),
        line=line,
    )


def file_of_parameters(parameters: Mapping[str, ms.Parameter]) -> WeightFile:
    """Return what MindSpore's `load_checkpoint` read as the content of a weight file."""
    arrays, place = {}, "given as parameters"
    for name, parameter in parameters.items():
        # NumPy has no bfloat16.
        value = parameter.float() if parameter.dtype == ms.bfloat16 else parameter
        arrays[name] = value.asnumpy()
    entry = arrays.pop(ENTRY, None)
    metadata = None if entry is None else Metadata.from_array(entry, place)
    return WeightFile(place, "MindSpore parameters", arrays, metadata=metadata)


def _ends(network: nn.Cell, first_conv: str, classifier: str) -> tuple[str, list[str]]:
    """Return the names of the first convolution's weight and of the classifier's parameters."""
    cells = {name: cell for name, cell in network.cells_and_names() if name}
    conv = cells.get(first_conv, getattr(network, "first_conv", None))
    head = cells.get(classifier, getattr(network, "classifier", None))
    first_conv = conv.weight.name if isinstance(conv, nn.Conv2d) else FIRST_CONV
    is_declared = isinstance(head, nn.Cell)
    cells = (head if is_declared else network).cells_and_names()
    dense = [cell for _, cell in cells if isinstance(cell, nn.Dense)]
    if dense or not is_declared:
        head = dense[-1] if dense else nn.Identity()
    return first_conv, [parameter.name for parameter in head.get_parameters()]


def _fit_channels(weight: np.ndarray, shape: tuple[int, ...], notes: list[str]) -> np.ndarray:
    """Adapt filters of RGB images to another number of channels; see `load_weights`."""
    channels = shape[1]
    if weight.ndim != 4 or weight.shape[1] != 3 or channels == 3:
        return weight
    if channels == 1:
        notes.append("the stem's 3 input channels summed to 1")
        return weight.sum(axis=1, keepdims=True)
    notes.append(f"the stem's 3 input channels repeated to {channels}, scaled by 3/{channels}")
    return weight[:, np.arange(channels) % 3] * np.float32(3 / channels)


def _other_classes(file: WeightFile, class_names: Sequence[str] | None) -> str:
    """Return the first difference between the file's class names and the network's, as text."""
    known = file.metadata.class_names if file.metadata else None
    pairs = zip_longest(known, class_names, fillvalue="none") if known and class_names else ()
    for number, (old, new) in enumerate(pairs):
        if old != new:
            return f", of other names: class {number} is {old!r} there and {new!r} here"
    return ""


def _fresh(head: list[str], weights: Mapping, wanted: Mapping, *, has_others: bool) -> list[str]:
    # Only the number of classes may differ; a different number of features is an error.
    return [
        name
        for name in head
        if name in weights
        and (has_others or weights[name].shape != wanted[name].shape)
        and weights[name].shape[1:] == wanted[name].shape[1:]
    ]


def _is_headless(file: WeightFile) -> bool:
    """Return whether the file is complete although it has no classifier.

    A MindSpore checkpoint cut between two entries can still be read; only metadata shows that the
    classifier is not missing by accident. From parameters in memory it may be taken on purpose.
    """
    has_no_classes = file.metadata is not None and file.metadata.num_classes == 0
    return has_no_classes or file.format != ckpt.NAME


def _check_fit(path: str, weights: Mapping, wanted: Mapping, fresh: Sequence[str]) -> None:
    problems = differences(
        {name: value for name, value in weights.items() if name not in fresh},
        {name: value for name, value in wanted.items() if name not in fresh},
    )
    # MindSpore would silently cast the integers of a quantised network.
    problems["that are not floating point"] = [
        f"{name} {weights[name].dtype}"
        for name in wanted
        if name in weights and wanted[name].dtype in _FLOATS and weights[name].dtype.kind != "f"
    ]
    lines = counted(problems)
    if not lines:
        return
    lines += without_statistics(weights)
    theirs, ours = _architecture(weights), _architecture(wanted)
    if theirs and ours and theirs != ours:
        lines.append(f"the file is of a RegNet with {theirs}; the model has {ours}")
    head = (
        f"weight file {path!r} does not fit the model: {len(weights)} tensors in the file, "
        f"{len(wanted)} in the model; nothing was loaded"
    )
    raise WeightsError("\n  ".join([head, *lines, "check model and num_classes against the file"]))


def _architecture(weights: Mapping) -> str:
    # Empty for networks other than RegNet.
    stages = {}
    for name in weights:
        parts = name.split(".")
        if parts[0] == "stages" and len(parts) > 4 and parts[1].isdigit() and parts[3].isdigit():
            stages.setdefault(int(parts[1]), set()).add(int(parts[3]))
    depths = "-".join(str(len(blocks)) for _, blocks in sorted(stages.items()))
    ends = [weights.get(f"stages.{stage}.blocks.0.f.c.weight") for stage in sorted(stages)]
    widths = "-".join(str(end.shape[0]) for end in ends if end is not None)
    has_se = any(".se." in name for name in weights)
    return depths and f"depths {depths}, widths {widths}, {'with' if has_se else 'without'} SE"
