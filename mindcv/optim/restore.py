"""Start an optimizer from a file: from its own state, or MindCV's `optim_<model>.ckpt`."""

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import ConfigError, WeightsError
from ..weights import read_weights
from ..weights.schemes import SCHEMES

# MindCV's names of states that mean the same here. Its Adan averages other quantities, and its
# Lamb does not count its steps: neither can be continued.
_SAME = {
    "adam_m": "moment1",
    "adam_v": "moment2",
    "nadam_m": "moment1",
    "nadam_v": "moment2",
    "lion_m": "moment1",
    "mu_schedule": "mu_product",
}
# beta ** step there, 1 - beta ** step here.
_POWERS = {"beta1_power": "bias_correction1", "beta2_power": "bias_correction2"}


def restore(optimizer: nn.Optimizer, path: str) -> None:
    """Load the state of an optimizer and its weights, or change nothing.

    The rates stay the optimizer's own; the step count, from the file, is the position in them.

    Raises:
        ConfigError: the file cannot be read or does not fit the optimizer.
    """
    try:
        tensors = read_weights(path).tensors
    except WeightsError as error:
        raise ConfigError(f"optimizer state: {error}") from None
    wanted = {
        parameter.name: parameter
        for parameter in optimizer.get_parameters()
        if not parameter.name.startswith("learning_rate")
    }
    found = {}
    for name, array in tensors.items():
        ours = name if name in wanted else _native(name)
        if ours in _POWERS and ours not in wanted:
            ours, array = _POWERS[ours], 1 - array
        if ours in wanted and array.size == wanted[ours].size:
            found[ours] = array.reshape(wanted[ours].shape)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ConfigError(
            f"optimizer state {path!r} has no entry for {len(missing)} of the optimizer's "
            f"parameters, or one of another shape: {missing[:3]}; take the state of the same "
            "optimizer and network, or begin without it"
        )
    for name, array in found.items():
        wanted[name].set_data(ms.Tensor(np.array(array), wanted[name].dtype))


def _native(name: str) -> str:
    # With gradient accumulation MindCV puts `optimizer.` before the names.
    name = name.removeprefix("optimizer.").removeprefix("learning_rate.")
    prefix, weight = SCHEMES["mindcv"].to_native(name) or ("", name)
    head, dot, rest = f"{prefix}{weight}".partition(".")
    return f"{_SAME.get(head, head)}{dot}{rest}"
