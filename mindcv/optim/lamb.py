"""LAMB."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import BiasCorrection, RuleOptimizer


class Lamb(RuleOptimizer):
    """Adam's step plus `decay * w`, rescaled to the weight's norm (You et al., 2020, algorithm 2).

    `w -= lr * norm(w) / norm(u) * u`, `u = m / (sqrt(v) + eps) + decay * w`, m, v bias-corrected;
    the ratio is 1 where a norm is 0. Gradients are not clipped (timm clips them to a norm of 1).

    Args:
        trust_clip: no ratio above 1.
        always_adapt: rescale parameters without decay too; timm and we leave them to Adam.
    """

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

    def update(self, index, gradient, rate, decay, scalars):
        correction1, root2 = scalars
        weight = self._parameters[index]
        m = self.beta1 * self.moment1[index] + (1.0 - self.beta1) * gradient
        v = self.beta2 * self.moment2[index] + (1.0 - self.beta2) * ops.square(gradient)
        step = m / correction1 / (ops.sqrt(v) / root2 + self.eps)
        if self.decay_flags[index]:
            step = step + decay * weight
        if self.decay_flags[index] or self.always_adapt:
            step = step * self.trust_ratio(weight, step)
        ops.assign(self.moment1[index], m)
        ops.assign(self.moment2[index], v)
        ops.assign(weight, weight - rate * step)
        return True

    def trust_ratio(self, weight, step):
        weight_norm = ops.sqrt(ops.square(weight).sum())
        step_norm = ops.sqrt(ops.square(step).sum())
        has_both = ops.logical_and(weight_norm > 0.0, step_norm > 0.0)
        ratio = ops.select(has_both, weight_norm / step_norm, self.one)
        return ops.minimum(ratio, self.one) if self.trust_clip else ratio
