"""Optimizers by name, with weight-decay filters and layer-wise rates.

Reading the table needs no MindSpore, so the command line reads it too. An optimizer's state
(moments, step count, bias corrections) is all in Parameters, so `save_checkpoint` saves everything
that its next step depends on.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..mindcv_paths import submodule
from ..names import canonical

if TYPE_CHECKING:
    from mindspore import nn


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer, with MindSpore's class if that follows the published formula.

    Its class must take a list of rates, parameter groups and a loss scale.
    """

    where: str  # module and name of its class
    decays: str  # what weight decay does to the gradient g or the weight w
    remark: str  # why it is not MindSpore's class, or another peculiarity
    takes: tuple[str, ...] = ()  # arguments of `create_optimizer` that not every optimizer has
    fixed: dict[str, Any] = field(default_factory=dict)  # further arguments of the class
    nesterov: str = ""  # the class that has Nesterov's momentum, if it is another one
    states: int = 2  # numbers that it keeps for each weight


_IN_GRADIENT, _IN_WEIGHT = "g + decay w", "w (1 - lr decay)"
OPTIMIZERS = {
    "sgd": OptimizerRow(
        "rules.SGD", _IN_GRADIENT, "equals torch's SGD", takes=("momentum", "nesterov")
    ),
    "momentum": OptimizerRow(
        "rules.Momentum",
        _IN_GRADIENT,
        "with nesterov it is nn.SGD: nn.Momentum ignores it on CPU",
        takes=("momentum", "nesterov"),
        nesterov="rules.SGD",
        states=1,
    ),
    "nesterov": OptimizerRow(
        "rules.SGD",
        _IN_GRADIENT,
        "equals torch's SGD",
        takes=("momentum", "nesterov"),
        fixed={"nesterov": True},
    ),
    "adam": OptimizerRow(
        "adam.Adam",
        _IN_GRADIENT,
        "nn.Adam adds eps before the bias correction",
        takes=("eps", "nesterov"),
    ),
    "adamw": OptimizerRow(
        "adam.AdamW", _IN_WEIGHT, "nn.AdamWeightDecay has no bias correction", takes=("eps",)
    ),
    "nadam": OptimizerRow(
        "adam.NAdam",
        _IN_GRADIENT,
        "MindSpore's, in experimental.optim, takes no list of rates",
        takes=("eps", "schedule_decay"),
    ),
    "adan": OptimizerRow(
        "rules.Adan", "w / (1 + lr decay)", "MindSpore has none", takes=("eps",), states=4
    ),
    "lion": OptimizerRow("rules.Lion", _IN_WEIGHT, "MindSpore has none", states=1),
    "lamb": OptimizerRow(
        "adam.Lamb",
        "step + decay w",
        "nn.Lamb takes no loss scale; its kernel is Ascend's and GPU's",
        takes=("eps",),
    ),
    "rmsprop": OptimizerRow(
        "rules.RMSProp",
        _IN_GRADIENT,
        "TensorFlow's; nn.RMSProp's CPU kernel puts eps in two places",
        takes=("momentum", "eps"),
    ),
    "adagrad": OptimizerRow(
        "rules.Adagrad",
        _IN_GRADIENT,
        "the sum starts from 0.1, without eps",
        fixed={"accum": 0.1},
        states=1,
    ),
}

# Whether a parameter is exempt from decay, by the last part of its name and its dimensions.
WEIGHT_DECAY_FILTERS = {
    "disable": lambda name, ndim: False,
    "auto": lambda name, ndim: name in ("gamma", "beta"),
    "norm_and_bias": lambda name, ndim: ndim == 1 or name == "bias",
}


def __getattr__(name: str):
    return submodule(__name__, name)


def names_taking(argument: str) -> str:
    """Return, as text, the optimizers that take an argument of `create_optimizer`."""
    return ", ".join(name for name, row in OPTIMIZERS.items() if argument in row.takes)


def create_optimizer(
    model_or_params: nn.Cell | Sequence,
    opt: str = "adam",
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float = 0,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay_filter: str = "disable",
    layer_decay: float | None = None,
    loss_scale: float = 1.0,
    schedule_decay: float = 0.004,
    checkpoint_path: str = "",
    eps: float = 1e-8,
    layer_lr: Mapping[str, float] | None = None,
    **kwargs,
) -> nn.Optimizer:
    """Return an optimizer for a network's trainable parameters, or for parameters or groups.

    Args:
        opt: a name in OPTIMIZERS, in any case.
        lr: one rate, or one per step.
        momentum: of sgd, momentum, nesterov and rmsprop.
        nesterov: Nesterov's momentum, for sgd, momentum and adam.
        weight_decay_filter: parameters without decay: disable, none; auto, gamma and beta;
            norm_and_bias, 1-D parameters and biases. Groups given by the caller keep their own
            decay and rate.
        layer_decay: factor on the rate from each layer (stem, block or head) to the one below it;
            the head has the full rate (timm `optim/_param_groups.py`).
        layer_lr: first part of parameters' names, such as stages.0 -> factor on their rate, beside
            that of layer_decay; the longest part counts. With 0 the weights stay, not the running
            statistics: see `mindcv.models.freeze`.
        loss_scale: gradients are divided by it before anything else.
        schedule_decay: how fast nadam's momentum grows to beta1.
        checkpoint_path: optimizer state and weights to start from; rates are the caller's. The file
            is of this optimizer, or MindCV's `optim_<model>.ckpt` (not of adan or lamb, which
            compute otherwise there).
        eps: added to the denominator after the bias correction (adam, adamw, nadam, adan, lamb) or
            inside the root (rmsprop).
        **kwargs: further arguments of the optimizer's class: beta1, beta2, beta3, trust_clip, …

    Raises:
        ValueError: no parameters, unknown optimizer or filter, or arguments that contradict each
            other.
        ConfigError: the checkpoint does not fit the optimizer, or layer_decay or layer_lr the
            network.
    """
    from .groups import parameter_groups

    opt = canonical(opt, OPTIMIZERS)
    if opt not in OPTIMIZERS:
        raise ValueError(f"optimizer {opt!r} is unknown; expected {', '.join(OPTIMIZERS)}")
    row = OPTIMIZERS[opt]
    if nesterov:
        if "nesterov" not in row.takes:
            raise ValueError(f"Nesterov's momentum does not exist for optimizer {opt}")
        row = replace(row, where=row.nesterov or row.where, fixed={"nesterov": True})
    params, rates = parameter_groups(
        model_or_params,
        lr,
        weight_decay=weight_decay,
        weight_decay_filter=weight_decay_filter,
        layer_decay=layer_decay,
        layer_lr=layer_lr,
    )
    own = {"momentum": momentum, "schedule_decay": schedule_decay, "eps": eps}
    taken = {name: value for name, value in own.items() if name in row.takes}
    module, name = row.where.split(".")
    create = getattr(importlib.import_module(f".{module}", __name__), name)
    optimizer = create(
        params,
        learning_rate=rates,
        weight_decay=weight_decay,
        loss_scale=loss_scale,
        **{**row.fixed, **taken, **kwargs},
    )
    if checkpoint_path:
        from .restore import restore

        restore(optimizer, checkpoint_path)
    return optimizer
