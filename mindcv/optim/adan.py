"""Adan."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import BiasCorrection, RuleOptimizer


class Adan(RuleOptimizer):
    """Nesterov momentum estimated from gradient differences (Xie et al., 2022, algorithm 1).

    `w = (w - lr * (m + beta2 * d) / (sqrt(n) + eps)) / (1 + lr * decay)`, m, d and n the bias-
    corrected averages of the gradient g, of its difference to the last one's and of
    `(g + beta2 * difference) ** 2`. The betas are kept shares, as in the authors' code; the paper
    and MindCV write 1 - beta, and MindCV takes 0.98 for it.
    """

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.98,
        beta2=0.92,
        beta3=0.99,
        eps=1e-8,
        weight_decay=0.0,
        loss_scale=1.0,
    ):
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2, self.beta3, self.eps = (
            Tensor(value, mstype.float32) for value in (beta1, beta2, beta3, eps)
        )
        self.correction1 = BiasCorrection(beta1, "bias_correction1")
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.correction3 = BiasCorrection(beta3, "bias_correction3")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")
        self.difference, self.last = self.state("difference"), self.state("last_gradient")

    def begin_step(self):
        # The first step has no gradient before it: the difference is 0.
        has_last = ops.cast(self.global_step.reshape(()) > 0, mstype.float32)
        return has_last, self.correction1(), self.correction2(), ops.sqrt(self.correction3())

    def update(self, index, gradient, rate, decay, scalars):
        has_last, correction1, correction2, root3 = scalars
        weight = self._parameters[index]
        change = has_last * (gradient - self.last[index])
        m = self.beta1 * self.moment1[index] + (1.0 - self.beta1) * gradient
        d = self.beta2 * self.difference[index] + (1.0 - self.beta2) * change
        ahead = gradient + self.beta2 * change
        n = self.beta3 * self.moment2[index] + (1.0 - self.beta3) * ops.square(ahead)
        step = m / correction1 + self.beta2 / correction2 * d
        new = weight - rate * step / (ops.sqrt(n) / root3 + self.eps)
        if self.decay_flags[index]:
            new = new / (1.0 + rate * decay)
        ops.assign(self.moment1[index], m)
        ops.assign(self.difference[index], d)
        ops.assign(self.moment2[index], n)
        ops.assign(self.last[index], gradient)
        ops.assign(weight, new)
        return True
