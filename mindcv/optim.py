"""Optimizers by name, with weight-decay filters."""

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore import dtype as mstype

from .errors import ConfigError


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
        opt: sgd, momentum, nesterov, adam (decay added to the gradient) or adamw (decoupled decay,
            Loshchilov and Hutter, 2019).
        lr: the rate, or one rate per step.
        weight_decay: decay of every parameter that the filter does not exempt.
        momentum: momentum of sgd, momentum and nesterov.
        nesterov: Nesterov's form of the momentum.
        weight_decay_filter: disable, decay all; auto, not gamma, beta and bias; norm_and_bias, not
            1-D parameters and biases. Groups given by the caller keep their own decay.
        layer_decay: must be None in this version.
        loss_scale: gradients are divided by it before the update.
        schedule_decay: momentum decay of nadam, which this version has not.
        checkpoint_path: optimizer state to start from.
        eps: added to the denominator of adam and adamw.
        **kwargs: further arguments of MindSpore's optimizer class.

    Raises:
        ValueError: unknown optimizer or filter, or an argument this version cannot serve.
        ConfigError: the checkpoint does not fit the optimizer.
    """
    if layer_decay is not None:
        raise ValueError(
            f"layer_decay {layer_decay} is not available in this version; leave it None"
        )
    params = _decay_groups(model_or_params, weight_decay, weight_decay_filter)
    rates = list(lr) if isinstance(lr, (list, tuple)) else lr
    shared = dict(learning_rate=rates, weight_decay=weight_decay, loss_scale=loss_scale, **kwargs)
    if opt == "sgd" or opt == "nesterov" or nesterov and opt == "momentum":
        # nn.Momentum ignores use_nesterov on CPU (seen in 2.10); nn.SGD equals torch's.
        nesterov = nesterov or opt == "nesterov"
        optimizer = nn.SGD(params, momentum=momentum, nesterov=nesterov, **shared)
    elif opt == "momentum":
        optimizer = nn.Momentum(params, momentum=momentum, **shared)
    elif opt == "adam":
        optimizer = nn.Adam(params, eps=eps, **shared)
    elif opt == "adamw":
        optimizer = AdamW(params, eps=eps, **shared)
    else:
        raise ValueError(
            f"optimizer {opt!r} is unknown; expected sgd, momentum, nesterov, adam or adamw"
        )
    if checkpoint_path:
        _restore(optimizer, checkpoint_path)
    return optimizer


class AdamW(nn.Optimizer):
    """Adam with decoupled weight decay: `w -= lr * (m / (sqrt(v) + eps) + decay * w)`.

    m and v are bias-corrected. MindSpore's `nn.AdamWeightDecay` leaves the correction out, and its
    `experimental.optim.AdamW` takes no list of rates; the update itself is MindSpore's fused Adam.
    """

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        weight_decay=0.0,
        loss_scale=1.0,
    ):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        self.beta1, self.beta2, self.eps = (Tensor(v, mstype.float32) for v in (beta1, beta2, eps))
        self.beta1_power = Parameter(Tensor(1.0, mstype.float32), name="beta1_power")
        self.beta2_power = Parameter(Tensor(1.0, mstype.float32), name="beta2_power")
        self.moment1 = self._parameters.clone(prefix="moment1", init="zeros")
        self.moment2 = self._parameters.clone(prefix="moment2", init="zeros")
        self.adam = ops.Adam()

    def construct(self, gradients):
        gradients = self.flatten_gradients(gradients)
        gradients = self.scale_grad(gradients)
        rates, decays = self.get_lr(), self.get_weight_decay()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        power1 = self.beta1_power * self.beta1
        power2 = self.beta2_power * self.beta2
        self.beta1_power = power1
        self.beta2_power = power2
        # The fused kernel adds eps before the bias correction of v, the formula after it.
        eps = self.eps * ops.sqrt(1.0 - power2)
        for index in range(len(self._parameters)):
            weight = self._parameters[index]
            rate = rates[index] if self.is_group_lr else rates
            decay = decays[index] if self.is_group else decays
            # The base class multiplies the decay by loss_scale, for rules that add it to gradients.
            decayed = ops.assign(weight, weight * (1.0 - rate * decay * self.reciprocal_scale))
            gradient = ops.depend(gradients[index], decayed)
            self.adam(
                weight,
                self.moment1[index],
                self.moment2[index],
                power1,
                power2,
                rate,
                self.beta1,
                self.beta2,
                eps,
                gradient,
            )
        return True


def _decay_groups(model_or_params, weight_decay: float, weight_decay_filter: str) -> list:
    if isinstance(model_or_params, nn.Cell):
        params = model_or_params.trainable_params()
    else:
        params = list(model_or_params)
    if weight_decay_filter == "auto":
        exempt = [p for p in params if _last_name(p) in ("gamma", "beta", "bias")]
    elif weight_decay_filter == "norm_and_bias":
        exempt = [p for p in params if _last_name(p) == "bias" or _dimensions(p) == 1]
    elif weight_decay_filter == "disable":
        exempt = []
    else:
        raise ValueError(
            f"weight_decay_filter {weight_decay_filter!r} is unknown; expected disable, auto or "
            "norm_and_bias"
        )
    if any(isinstance(p, dict) for p in params):
        return params
    # Always in groups: left alone, MindSpore exempts every name with beta or gamma in it.
    exempt_ids = {id(p) for p in exempt}
    groups = [
        {"params": [p for p in params if id(p) not in exempt_ids], "weight_decay": weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # Gradients come in the order of the network's parameters, also in a training loop of one's own.
    return [*groups, {"order_params": params}]


def _last_name(parameter) -> str:
    return "" if isinstance(parameter, dict) else parameter.name.rsplit(".", 1)[-1]


def _dimensions(parameter) -> int:
    return 0 if isinstance(parameter, dict) else parameter.ndim


def _restore(optimizer: nn.Optimizer, path: str) -> None:
    try:
        state = ms.load_checkpoint(path)
    except Exception as error:
        raise ConfigError(f"optimizer state {path!r} cannot be read: {error}") from None
    missing, _ = ms.load_param_into_net(optimizer, state)
    if missing:
        raise ConfigError(f"optimizer state {path!r} lacks {len(missing)} entries: {missing[:3]}")
