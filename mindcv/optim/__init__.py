"""Optimizers by name, with weight-decay filters and layer-wise rates.

MindSpore's own class is taken where it follows the published formula and takes a list of rates,
groups and a loss scale. g is the gradient, w the weight.

| name | class | weight decay | why not MindSpore's / remarks |
|---|---|---|---|
| sgd, nesterov | nn.SGD | g + decay w | equals torch's SGD |
| momentum | nn.Momentum | g + decay w | with nesterov nn.SGD: nn.Momentum ignores it on CPU |
| adam | Adam | g + decay w | nn.Adam adds eps before the bias correction |
| adamw | AdamW | w (1 - lr decay) | nn.AdamWeightDecay has no bias correction |
| nadam | NAdam | g + decay w | only in experimental.optim: no list of rates |
| adan | Adan | w / (1 + lr decay) | MindSpore has none |
| lion | Lion | w (1 - lr decay) | MindSpore has none |
| lamb | Lamb | step + decay w | nn.Lamb takes no loss scale; its kernel is Ascend's and GPU's |
| rmsprop | RMSProp | g + decay w | TensorFlow's; nn.RMSProp's CPU kernel puts eps in two places |
| adagrad | nn.Adagrad | g + decay w | the sum starts from 0.1, without eps |

All state is in Parameters (moments, step count, bias corrections), so that `save_checkpoint` of an
optimizer holds everything that its next step depends on.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn

from ..errors import ConfigError, WeightsError
from ..weights import read_weights
from .adam import Adam, AdamW, NAdam
from .adan import Adan
from .groups import parameter_groups
from .lamb import Lamb
from .lion import Lion
from .rmsprop import RMSProp

OPTIMIZERS = (
    "sgd",
    "momentum",
    "nesterov",
    "adam",
    "adamw",
    "nadam",
    "adan",
    "lion",
    "lamb",
    "rmsprop",
    "adagrad",
)


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
    **kwargs,
) -> nn.Optimizer:
    """Return an optimizer for a network or a list of parameters (or of parameter groups).

    Args:
        model_or_params: the network, whose trainable parameters are taken, or parameters.
        opt: sgd, momentum, nesterov, adam, adamw, nadam, adan, lion, lamb, rmsprop or adagrad; the
            table above tells the formulas.
        lr: the rate, or one rate per step.
        weight_decay: decay of every parameter that the filter does not exempt.
        momentum: momentum of sgd, momentum, nesterov and rmsprop.
        nesterov: Nesterov's form of the momentum, for sgd and momentum.
        weight_decay_filter: disable, decay all; auto, not gamma, beta and bias; norm_and_bias, not
            1-D parameters and biases. Groups given by the caller keep their own decay and rate.
        layer_decay: factor on the rate from each layer to the one below it; layers are the stem,
            each block and the head, which has the full rate (timm `optim/_param_groups.py`).
        loss_scale: gradients are divided by it before anything else.
        schedule_decay: how fast nadam's momentum grows to beta1.
        checkpoint_path: optimizer state to start from.
        eps: added to the denominator of adam, adamw, nadam, adan and lamb, after the bias
            correction; of rmsprop, inside the root. The others have none.
        **kwargs: further arguments of the optimizer's class: beta1, beta2, beta3, trust_clip, ...

    Raises:
        ValueError: unknown optimizer or filter, or arguments that contradict each other.
        ConfigError: the checkpoint does not fit the optimizer, or layer_decay not the network.
    """
    if opt not in OPTIMIZERS:
        raise ValueError(f"optimizer {opt!r} is unknown; expected {', '.join(OPTIMIZERS)}")
    if nesterov and opt not in ("sgd", "momentum", "nesterov"):
        raise ValueError(f"Nesterov's momentum does not exist for optimizer {opt}")
    params, rates = parameter_groups(
        model_or_params, lr, weight_decay, weight_decay_filter, layer_decay
    )
    shared = dict(learning_rate=rates, weight_decay=weight_decay, loss_scale=loss_scale, **kwargs)
    if opt == "sgd" or opt == "nesterov" or nesterov:
        nesterov = nesterov or opt == "nesterov"
        optimizer = nn.SGD(params, momentum=momentum, nesterov=nesterov, **shared)
    elif opt == "momentum":
        optimizer = nn.Momentum(params, momentum=momentum, **shared)
    elif opt == "rmsprop":
        optimizer = RMSProp(params, momentum=momentum, eps=eps, **shared)
    elif opt == "adagrad":
        optimizer = nn.Adagrad(params, accum=0.1, **shared)
    elif opt == "lion":
        optimizer = Lion(params, **shared)
    elif opt == "nadam":
        optimizer = NAdam(params, eps=eps, schedule_decay=schedule_decay, **shared)
    else:
        classes = {"adam": Adam, "adamw": AdamW, "adan": Adan, "lamb": Lamb}
        optimizer = classes[opt](params, eps=eps, **shared)
    if checkpoint_path:
        _restore(optimizer, checkpoint_path)
    return optimizer


def _restore(optimizer: nn.Optimizer, path: str) -> None:
    try:
        tensors = read_weights(path).tensors
    except WeightsError as error:
        raise ConfigError(f"optimizer state: {error}") from None
    state = {name: ms.Parameter(np.array(array), name=name) for name, array in tensors.items()}
    missing, _ = ms.load_param_into_net(optimizer, state)
    if missing:
        raise ConfigError(f"optimizer state {path!r} lacks {len(missing)} entries: {missing[:3]}")
