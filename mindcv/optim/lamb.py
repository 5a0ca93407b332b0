"""LAMB."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import BiasCorrection, RuleOptimizer, rule


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


class Lamb(RuleOptimizer):
    """Adam's step plus `decay * w`, rescaled to the weight's norm (You et al., 2020, algorithm 2).

    `w -= lr * norm(w) / norm(u) * u`, `u = m / (sqrt(v) + eps) + decay * w`, m, v bias-corrected;
    the ratio is 1 where a norm is 0. Gradients are not clipped (timm clips them to a norm of 1).

    Args:
        trust_clip: no ratio above 1.
        always_adapt: rescale parameters without decay too; timm and we leave them to Adam.
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
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2, self.eps, self.one = (
            Tensor(value, mstype.float32) for value in (beta1, beta2, eps, 1.0)
        )
        self.trust_clip, self.always_adapt = trust_clip, always_adapt
        self.correction1 = BiasCorrection(beta1, "bias_correction1")
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")

    def begin_step(self):
        return self.correction1(), ops.sqrt(self.correction2())

    def scalars(self, rate, decay, correction1, root2):
        adapts = decay is not None or self.always_adapt
        betas = self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2
        most = self.one if self.trust_clip else None
        return rate, root2 / correction1, decay, adapts, most, *betas, self.eps * root2

    def states(self):
        return self.moment1, self.moment2
