"""Load a checkpoint into a network: all of it or an error, never a part and never in silence."""

import logging
import os
import re
from dataclasses import dataclass

import mindspore as ms
from mindspore import nn

from ..errors import WeightsError
from ..weights.metadata import ENTRY

_logger = logging.getLogger(__name__)

# What optimizers, loss scalers and EMA leave in a checkpoint, apart from `<prefix>.<weight>`.
_TRAINING_STATE = {
    "beta1_power",
    "beta2_power",
    "counter",
    "current_iterator_step",
    "epoch_num",
    "global_step",
    "last_overflow_iterator_step",
    "learning_rate",
    "loss_scale",
    "momentum",
    "scale_sense",
    "scale_value",
    "step_num",
    "updates",
    ENTRY,
}


_MINDCV_BLOCK = re.compile(
    r"((?:(?!stages\.)[a-z]\w*\.)?)0\.blocks\.(\d+)\.(?:blocks\.(\d+)\.)?(.*)"
)


@dataclass(frozen=True)
class LoadReport:
    """What a weight file gave.

    Attributes:
        loaded: number of tensors taken over.
        set_aside: entries that are training state, not weights.
        reinitialized: tensors of the classifier that keep their fresh values.
    """

    loaded: int
    set_aside: tuple[str, ...]
    reinitialized: tuple[str, ...]


def load_weights(
    network: nn.Cell, path: str | os.PathLike, ema: bool = False, new_head: bool = True
) -> LoadReport:
    """Load a MindSpore checkpoint of the same network into `network`.

    Args:
        network: the network; unchanged if anything is wrong.
        path: a `.ckpt` file of any name, written by this library, MindCV or any MindSpore program.
        ema: take the averaged weights, the entries `ema.*`.
        new_head: keep the fresh classifier where the file has another number of classes; else
            that is an error.

    Raises:
        WeightsError: no such file, not a checkpoint, entries missing, left over or misshapen.
    """
    path = os.fspath(path)
    file = _read(path)
    wanted = network.parameters_dict()
    weights, set_aside = _sort_entries(file, wanted, ema, path)
    head = _classifier_parameters(network)
    misshapen = [
        name for name in wanted if name in weights and weights[name].shape != wanted[name].shape
    ]
    fresh = [
        name
        for name in misshapen
        if new_head and name in head and weights[name].shape[1:] == wanted[name].shape[1:]
    ]
    missing = [name for name in wanted if name not in weights]
    surplus = [name for name in weights if name not in wanted]
    wrong = [name for name in misshapen if name not in fresh]
    if missing or surplus or wrong:
        raise WeightsError(_mismatch(path, weights, wanted, missing, surplus, wrong))
    for name, parameter in wanted.items():
        if name not in fresh:
            parameter.set_data(ms.Tensor(weights[name].asnumpy(), parameter.dtype))
    report = LoadReport(len(wanted) - len(fresh), tuple(set_aside), tuple(fresh))
    _say(path, report, weights, wanted)
    return report


def _read(path: str) -> dict[str, ms.Parameter]:
    if not os.path.isfile(path):
        kind = "is a directory" if os.path.isdir(path) else "does not exist"
        raise WeightsError(f"weight file {path!r} {kind}; expected a MindSpore checkpoint")
    if os.path.getsize(path) == 0:
        raise WeightsError(f"weight file {path!r} is empty; fetch or write it again")
    # load_checkpoint insists on the suffix; a file's name says nothing about its content.
    alias = None
    try:
        if not path.endswith(".ckpt"):
            alias = _alias(path)
        return ms.load_checkpoint(alias or path)
    except Exception as error:  # MindSpore raises many types here, all meaning the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"weight file {path!r} is no MindSpore checkpoint: {reason}") from None
    finally:
        if alias:
            os.unlink(alias)
            os.rmdir(os.path.dirname(alias))


def _alias(path: str) -> str:
    import tempfile

    alias = os.path.join(tempfile.mkdtemp(), "weights.ckpt")
    os.symlink(os.path.abspath(path), alias)
    return alias


def _sort_entries(file, wanted, ema: bool, path: str) -> tuple[dict, list[str]]:
    """Split the file into weights under our names, and training state."""
    entries = {_our_name(name): parameter for name, parameter in file.items()}
    if ema:
        averaged = {name[4:]: value for name, value in entries.items() if name.startswith("ema.")}
        if not averaged:
            raise WeightsError(f"weight file {path!r} holds no averaged weights (entries ema.*)")
        # BatchNorm's statistics are not averaged; they stand under their plain names. A weight
        # without an average is missing: its plain value would be of another network.
        statistics = {
            name: entries[name]
            for name in wanted
            if name in entries and name.endswith(("moving_mean", "moving_variance"))
        }
        return {**statistics, **averaged}, [name for name in entries if name not in wanted]
    state = [
        name
        for name in entries
        if name not in wanted
        and (name in _TRAINING_STATE or _our_name(name.split(".", 1)[-1]) in wanted)
    ]
    return {name: value for name, value in entries.items() if name not in state}, state


def _our_name(name: str) -> str:
    """Translate MindCV's block names into ours.

    MindCV nests its stages by accident: `0.blocks.{block}.…` is the first stage and
    `0.blocks.{stage}.blocks.{block}.…` a later one, maybe behind the prefix of an optimizer or EMA.
    """
    match = _MINDCV_BLOCK.fullmatch(name)
    if not match:
        return name
    prefix, first, second, rest = match.groups()
    stage, block = (0, first) if second is None else (first, second)
    return f"{prefix}stages.{stage}.blocks.{block}.{rest}"


def _classifier_parameters(network: nn.Cell) -> set[str]:
    """Return the parameter names of the last fully connected layer."""
    dense = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.Dense)]
    return {parameter.name for parameter in dense[-1].get_parameters()} if dense else set()


def _mismatch(path, weights, wanted, missing, surplus, wrong) -> str:
    def some(names):
        return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

    lines = [
        f"weight file {path!r} does not fit the model: {len(weights)} tensors in the file, "
        f"{len(wanted)} in the model; nothing was loaded"
    ]
    if missing:
        lines.append(f"  {len(missing)} missing from the file: {some(missing)}")
    if surplus:
        lines.append(f"  {len(surplus)} unknown to the model: {some(surplus)}")
    if wrong:
        shapes = [f"{name} {weights[name].shape} for {wanted[name].shape}" for name in wrong]
        lines.append(f"  {len(wrong)} of another shape: {some(shapes)}")
    lines.append("  check model and num_classes against the file")
    return "\n".join(lines)


def _say(path: str, report: LoadReport, weights, wanted) -> None:
    line = f"loaded {report.loaded} tensors from {path}"
    if report.set_aside:
        line += f", set aside {len(report.set_aside)} of training state"
    if report.reinitialized:
        name = report.reinitialized[-1]
        line += (
            f"; classifier re-initialised: {weights[name].shape[0]} classes in the file, "
            f"{wanted[name].shape[0]} here"
        )
    # A fresh classifier must not be overlooked, even where a program shows warnings only.
    _logger.log(logging.WARNING if report.reinitialized else logging.INFO, line)
