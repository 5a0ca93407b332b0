"""The base class of our own optimizers, with Adan, Lion and RMSProp; the rest is MindSpore's."""

import logging
from collections.abc import Callable

from mindspore import Parameter, Tensor, jit, nn, ops
from mindspore import dtype as mstype

from ..process import environment  # noqa: F401
from .clip import create_clip

SGD, Momentum, Adagrad = nn.SGD, nn.Momentum, nn.Adagrad

_apply_momentum = ops.ApplyMomentum()
_logger = logging.getLogger(__name__)


class RuleOptimizer(nn.Optimizer):
    """Divides gradients by the loss scale, counts the step, and maps a rule over the parameters.

    Of ungrouped parameters those with beta or gamma in their names do not decay, as everywhere in
    MindSpore. Parameters with the same rate and decay are of one kind, for which the rule's scalars
    are computed once. `clip` limits the norm of all gradients to 5 first, as MindCV's AdamW and
    Lion can.
    """

    rule: ops.MultitypeFuncGraph

    def __init__(self, params, learning_rate, weight_decay=0.0, loss_scale=1.0, clip=False):
        params = list(params)
        if params and isinstance(params[0], Parameter):
            decayed = [p for p in params if "beta" not in p.name and "gamma" not in p.name]
            free = [p for p in params if "beta" in p.name or "gamma" in p.name]
            groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
            params = [*(group for group in groups if group["params"]), {"order_params": params}]
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        if any(getattr(self, "group_grad_centralization", ())):
            _logger.warning(
                "%s does not centralize gradients, nor does MindCV's: grad_centralization of its "
                "parameter groups has no effect",
                type(self).__name__,
            )
        kinds = list(zip(map(id, self.group_lr), self.group_weight_decay))
        distinct = list(dict.fromkeys(kinds))
        self.kinds = tuple(distinct.index(kind) for kind in kinds)
        self.first_of_kind = tuple(kinds.index(kind) for kind in distinct)
        self.clip = create_clip("global_norm", 5.0) if clip else None

    @jit  # as in MindSpore: in PyNative mode a single assignment takes milliseconds
    def construct(self, gradients):
        gradients = self.scale_grad(self.flatten_gradients(gradients))
        if self.clip is not None:
            gradients = self.clip(gradients)
        decays, shared = self.get_weight_decay(), self.begin_step()
        scalars = ()
        for index in self.first_of_kind:
            # The base class multiplies the decay by loss_scale, for rules that add it to gradients.
            decay = decays[index] * self.reciprocal_scale if self.decay_flags[index] else None
            scalars += (self.scalars(self.rate(index), decay, *shared),)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        rule = ops.partial(self.rule, scalars)
        return self.hyper_map(rule, self.kinds, self._parameters, *self.states(), gradients)

    def rate(self, index):
        """Return the current rate of one parameter; get_lr would compute those of all."""
        rate = self.learning_rate[index] if self.is_group_lr else self.learning_rate
        return rate(self.global_step).reshape(()) if self.dynamic_lr else rate

    def begin_step(self) -> tuple:
        """Return the scalars that all parameters share."""
        return ()

    def scalars(self, rate, decay, *shared) -> tuple:
        """Return the rule's scalars for one kind; decay is None if there is none."""
        raise NotImplementedError

    def states(self) -> tuple:
        """Return the states that the rule takes between the weight and the gradient."""
        raise NotImplementedError

    def state(self, name: str, init="zeros"):
        """Return a state for each parameter, named `name.` plus the parameter's name."""
        return self._parameters.clone(prefix=name, init=init)


def rule(function: Callable) -> ops.MultitypeFuncGraph:
    """Make a graph of a function of (scalars of all kinds, kind, tensors …).

    HyperMap compiles such a graph once for all parameters of a shape; compiling a loop over the
    parameters takes five times as long.
    """
    graph = ops.MultitypeFuncGraph(function.__name__)
    tensors = function.__code__.co_argcount - 2
    graph.register("Tuple", "Number", *["Tensor"] * tensors)(function)
    return graph


def constant(value: float) -> Tensor:
    return Tensor(value, mstype.float32)


class BiasCorrection(nn.Cell):
    """`1 - beta ** step`, updated as `c * beta + (1 - beta)`.

    Subtracting the power loses half of its digits, and MindSpore's expm1 on CPU subtracts too.
    """

    def __init__(self, beta: float, name: str):
        super().__init__(auto_prefix=False)
        self.beta = constant(beta)
        self.value = Parameter(constant(0.0), name=name, requires_grad=False)

    def construct(self):
        value = self.value * self.beta + (1.0 - self.beta)
        ops.assign(self.value, value)
        return value


@rule
def adan(scalars, kind, weight, m, d, n, last, gradient):
    rate, rate_d, keep, beta1, rest1, beta2, rest2, share, beta3, rest3, eps = scalars[kind]
    change = gradient - last
    new_m = beta1 * m + rest1 * gradient
    new_d = beta2 * d + rest2 * change
    new_n = beta3 * n + rest3 * ops.square(gradient + share * change)
    new = weight - (rate * new_m + rate_d * new_d) / (ops.sqrt(new_n) + eps)
    ops.assign(m, new_m)
    ops.assign(d, new_d)
    ops.assign(n, new_n)
    ops.assign(last, gradient)
    return ops.assign(weight, new if keep is None else new * keep)


@rule
def lion(scalars, kind, weight, m, gradient):
    rate, keep, beta1, rest1, beta2, rest2 = scalars[kind]
    step = rate * ops.sign(beta1 * m + rest1 * gradient)
    ops.assign(m, beta2 * m + rest2 * gradient)
    return ops.assign(weight, (weight if keep is None else weight * keep) - step)


@rule
def rmsprop(scalars, kind, weight, mean_square, moment, gradient):
    rate, decay, share, rest, momentum, eps, one = scalars[kind]
    if decay is not None:
        gradient = gradient + decay * weight
    new = share * mean_square + rest * ops.square(gradient)
    ops.assign(mean_square, new)
    step = rate * gradient / ops.sqrt(new + eps)
    return _apply_momentum(weight, moment, one, step, momentum)


class Adan(RuleOptimizer):
    """Nesterov momentum estimated from gradient differences (Xie et al., 2022, algorithm 1).

    `w = (w - lr * (m + beta2 * d) / (sqrt(n) + eps)) / (1 + lr * decay)`; m, d and n are
    bias-corrected averages of the gradient g, of its difference from the last step's, and of the
    square of g + beta2 * difference. The betas are the shares that are kept, as in the authors'
    code; the paper and MindCV write 1 - beta, and MindCV sets that to 0.98. `use_locking` has no
    effect, as in MindCV.
    """

    rule = adan

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.98,
        beta2=0.92,
        beta3=0.99,
        eps=1e-8,
        use_locking=False,
        weight_decay=0.0,
        loss_scale=1.0,
    ):
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2 = constant(beta1), constant(beta2)
        self.beta3, self.eps = constant(beta3), constant(eps)
        self.correction1 = BiasCorrection(beta1, "bias_correction1")
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.correction3 = BiasCorrection(beta3, "bias_correction3")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")
        self.difference, self.last = self.state("difference"), self.state("last_gradient")

    def begin_step(self):
        # No gradient precedes the first step: the difference is 0.
        has_last = ops.cast(self.global_step.reshape(()) > 0, mstype.float32)
        return has_last, self.correction1(), self.correction2(), ops.sqrt(self.correction3())

    def scalars(self, rate, decay, has_last, correction1, correction2, root3):
        keep = None if decay is None else 1.0 / (1.0 + rate * decay)
        rate = rate * root3
        rates = rate / correction1, rate * self.beta2 / correction2
        betas1 = self.beta1, 1.0 - self.beta1
        betas2 = self.beta2, has_last * (1.0 - self.beta2), has_last * self.beta2
        betas3 = self.beta3, 1.0 - self.beta3
        return *rates, keep, *betas1, *betas2, *betas3, self.eps * root3

    def states(self):
        return self.moment1, self.difference, self.moment2, self.last


class Lion(RuleOptimizer):
    """`w = w * (1 - lr * decay) - lr * sign(beta1 * m + (1 - beta1) * g)` (Chen et al., 2023).

    Then `m = beta2 * m + (1 - beta2) * g`. Rates are 3 to 10 times smaller than AdamW's, and decays
    larger by the same factor.
    """

    rule = lion

    def __init__(
        self,
        params,
        learning_rate=2e-4,
        beta1=0.9,
        beta2=0.99,
        weight_decay=0.0,
        loss_scale=1.0,
        clip=False,
    ):
        frame = dict(weight_decay=weight_decay, loss_scale=loss_scale, clip=clip)
        super().__init__(params, learning_rate, **frame)
        self.beta1, self.beta2 = constant(beta1), constant(beta2)
        self.moment1 = self.state("moment1")

    def scalars(self, rate, decay):
        keep = None if decay is None else 1.0 - rate * decay
        return rate, keep, self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2

    def states(self):
        return (self.moment1,)


class RMSProp(RuleOptimizer):
    """`b = momentum * b + lr * g / sqrt(s + eps)`, `w -= b`, as in TensorFlow.

    s is the running mean of g squared, starting at 1; weight decay is added to g. The MobileNet and
    EfficientNet recipes use this form, which is timm's `rmsprop_tf`; torch has eps outside the
    root, s starting at 0 and the rate outside b. MindSpore's `nn.RMSProp` is meant to be the same,
    but its CPU kernel (2.10) adds eps outside the root for all but the last few elements of a
    parameter. The kernel of `nn.Momentum` updates b and w.
    """

    rule = rmsprop

    def __init__(self, params, learning_rate=0.1, decay=0.9, momentum=0.0, eps=1e-10, **frame):
        super().__init__(params, learning_rate, **frame)
        self.decay, self.momentum = constant(decay), constant(momentum)
        self.eps, self.one = constant(eps), constant(1.0)
        self.mean_square = self.state("mean_square", "ones")
        self.moment = self.state("moment")

    def scalars(self, rate, decay):
        return rate, decay, self.decay, 1.0 - self.decay, self.momentum, self.eps, self.one

    def states(self):
        return self.mean_square, self.moment
