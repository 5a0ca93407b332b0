"""Adam, AdamW, LAMB and NAdam: steps by bias-corrected averages m of g and v of g squared."""

from mindspore import Parameter, ops
from mindspore import dtype as mstype

from .rules import BiasCorrection, RuleOptimizer, constant, rule

_apply_adam = ops.Adam()
_apply_nesterov = ops.Adam(use_nesterov=True)


@rule
def adam(scalars, kind, weight, m, v, gradient):
    rate, decay, keep, beta1, beta2, eps, zero, nesterov = scalars[kind]
    if decay is not None:
        gradient = gradient + decay * weight
    if keep is not None:
        ops.assign(weight, weight * keep)
    # Powers of 0 switch off the kernel's own bias correction, `1 - power`: eps would be added
    # before it, and the subtraction would cost digits.
    if nesterov:
        return _apply_nesterov(weight, m, v, zero, zero, rate, beta1, beta2, eps, gradient)
    return _apply_adam(weight, m, v, zero, zero, rate, beta1, beta2, eps, gradient)


@rule
def lamb(scalars, kind, weight, m, v, gradient):
    rate, factor, decay, adapts, most, beta1, rest1, beta2, rest2, eps = scalars[kind]
    new_m = beta1 * m + rest1 * gradient
    new_v = beta2 * v + rest2 * ops.square(gradient)
    step = factor * new_m / (ops.sqrt(new_v) + eps)
    if decay is not None:
        step = step + decay * weight
    if adapts:
        rate = rate * _trust_ratio(weight, step, most)
    ops.assign(m, new_m)
    ops.assign(v, new_v)
    return ops.assign(weight, weight - rate * step)


def _trust_ratio(weight, step, most):
    weight_norm = ops.sqrt(ops.square(weight).sum())
    step_norm = ops.sqrt(ops.square(step).sum())
    has_both = ops.logical_and(weight_norm > 0.0, step_norm > 0.0)
    ratio = ops.where(has_both, weight_norm / step_norm, ops.ones_like(step_norm))
    return ratio if most is None else ops.minimum(ratio, most)


@rule
def nadam(scalars, kind, weight, m, v, gradient):
    now, ahead, decay, beta1, rest1, beta2, rest2, eps = scalars[kind]
    if decay is not None:
        gradient = gradient + decay * weight
    new_m = beta1 * m + rest1 * gradient
    new_v = beta2 * v + rest2 * ops.square(gradient)
    step = (now * gradient + ahead * new_m) / (ops.sqrt(new_v) + eps)
    ops.assign(m, new_m)
    ops.assign(v, new_v)
    return ops.assign(weight, weight - step)


class Adam(RuleOptimizer):
    """`w -= lr * m / (sqrt(v) + eps)`, m and v bias-corrected (Kingma and Ba, 2015, algorithm 1).

    Weight decay is added to the gradient. The update is MindSpore's fused kernel, but `nn.Adam`
    adds eps before the bias correction. With `nesterov`, m is the average one step ahead, as in
    `nn.Adam`: beta1 * m + (1 - beta1) * g.
    """

    rule = adam

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        weight_decay=0.0,
        loss_scale=1.0,
        clip=False,
        nesterov=False,
    ):
        frame = dict(weight_decay=weight_decay, loss_scale=loss_scale, clip=clip)
        super().__init__(params, learning_rate, **frame)
        self.nesterov = nesterov
        self.beta1, self.beta2, self.eps = constant(beta1), constant(beta2), constant(eps)
        self.zero = constant(0.0)
        self.correction1 = BiasCorrection(beta1, "bias_correction1")
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")

    def begin_step(self):
        return self.correction1(), ops.sqrt(self.correction2())

    def scalars(self, rate, decay, correction1, root2):
        betas, eps = (self.beta1, self.beta2), self.eps * root2
        return rate * root2 / correction1, decay, None, *betas, eps, self.zero, self.nesterov

    def states(self):
        return self.moment1, self.moment2


class AdamW(Adam):
    """Adam after `w *= 1 - lr * decay` (Loshchilov and Hutter, 2019).

    MindSpore's `nn.AdamWeightDecay` has no bias correction, and its `experimental.optim.AdamW`
    takes no list of rates.
    """

    def scalars(self, rate, decay, correction1, root2):
        keep = None if decay is None else 1.0 - rate * decay
        betas, eps = (self.beta1, self.beta2), self.eps * root2
        return rate * root2 / correction1, None, keep, *betas, eps, self.zero, self.nesterov


class Lamb(Adam):
    """Adam's step plus `decay * w`, rescaled to the weight's norm (You et al., 2020, algorithm 2).

    `w -= lr * norm(w) / norm(u) * u`, `u = m / (sqrt(v) + eps) + decay * w`, m, v bias-corrected;
    the ratio is 1 where a norm is 0. Gradients are not clipped (timm clips them to a norm of 1).

    Args:
        trust_clip: limit the ratio to 1.
        always_adapt: rescale parameters without decay too; otherwise, as in timm, they take Adam's
            step.
    """

    rule = lamb

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-6,
        weight_decay=0.0,
        loss_scale=1.0,
        trust_clip=False,
        always_adapt=False,
    ):
        frame = dict(weight_decay=weight_decay, loss_scale=loss_scale)
        super().__init__(params, learning_rate, beta1, beta2, eps=eps, **frame)
        self.most = constant(1.0) if trust_clip else None
        self.always_adapt = always_adapt

    def scalars(self, rate, decay, correction1, root2):
        adapts = decay is not None or self.always_adapt
        betas = self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2
        return rate, root2 / correction1, decay, adapts, self.most, *betas, self.eps * root2


class NAdam(RuleOptimizer):
    """Adam with Nesterov momentum that grows to beta1 (Dozat, 2016; as in torch).

    `mu = beta1 * (1 - 0.96 ** (step * schedule_decay) / 2)`; weight decay is added to the gradient.
    """

    rule = nadam

    def __init__(
        self,
        params,
        learning_rate=2e-3,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        weight_decay=0.0,
        loss_scale=1.0,
        schedule_decay=0.004,
    ):
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2, self.eps = constant(beta1), constant(beta2), constant(eps)
        self.base, self.schedule_decay = constant(0.96), schedule_decay
        self.product = Parameter(constant(1.0), "mu_product", requires_grad=False)
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")

    def begin_step(self):
        step = ops.cast(self.global_step.reshape(()) + 1, mstype.float32)
        mu, mu_next = self.momentum(step), self.momentum(step + 1.0)
        product = self.product * mu
        ops.assign(self.product, product)
        now = (1.0 - mu) / (1.0 - product)
        ahead = mu_next / (1.0 - product * mu_next)
        return now, ahead, ops.sqrt(self.correction2())

    def momentum(self, step):
        return self.beta1 * (1.0 - 0.5 * ops.pow(self.base, step * self.schedule_decay))

    def scalars(self, rate, decay, now, ahead, root2):
        rate = rate * root2
        betas = self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2
        return rate * now, rate * ahead, decay, *betas, self.eps * root2

    def states(self):
        return self.moment1, self.moment2
