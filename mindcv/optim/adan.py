"""Adan."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import BiasCorrection, RuleOptimizer, rule


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


class Adan(RuleOptimizer):
    """Nesterov momentum estimated from gradient differences (Xie et al., 2022, algorithm 1).

    `w = (w - lr * (m + beta2 * d) / (sqrt(n) + eps)) / (1 + lr * decay)`, m, d and n the bias-
    corrected averages of the gradient g, of its difference to the last one's and of
    `(g + beta2 * difference) ** 2`. The betas are kept shares, as in the authors' code; the paper
    and MindCV write 1 - beta, and MindCV takes 0.98 for it.
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

    def scalars(self, rate, decay, has_last, correction1, correction2, root3):
        keep = None if decay is None else 1.0 / (1.0 + rate * decay)
        rate = rate * root3
        rates = rate / correction1, rate * self.beta2 / correction2
        betas1 = self.beta1, 1.0 - self.beta1
        # Without a last gradient the change is 0.
        betas2 = self.beta2, has_last * (1.0 - self.beta2), has_last * self.beta2
        betas3 = self.beta3, 1.0 - self.beta3
        return *rates, keep, *betas1, *betas2, *betas3, self.eps * root3

    def states(self):
        return self.moment1, self.difference, self.moment2, self.last
