"""Adam, AdamW and NAdam."""

from mindspore import Parameter, Tensor, ops
from mindspore import dtype as mstype

from .base import BiasCorrection, RuleOptimizer


class Adam(RuleOptimizer):
    """`w -= lr * m / (sqrt(v) + eps)`, m and v bias-corrected (Kingma and Ba, 2015, algorithm 1).

    Weight decay is added to the gradient. MindSpore's `nn.Adam` adds eps before the correction; the
    update itself is its fused kernel.
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
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2, self.eps, self.zero = (
            Tensor(value, mstype.float32) for value in (beta1, beta2, eps, 0.0)
        )
        self.correction1 = BiasCorrection(beta1, "bias_correction1")
        self.correction2 = BiasCorrection(beta2, "bias_correction2")
        self.moment1, self.moment2 = self.state("moment1"), self.state("moment2")
        self.adam = ops.Adam()

    def begin_step(self):
        return self.correction1(), ops.sqrt(self.correction2())

    def update(self, index, gradient, rate, decay, scalars):
        if self.decay_flags[index]:
            gradient = gradient + decay * self._parameters[index]
        return self.apply_adam(index, gradient, rate, scalars)

    def apply_adam(self, index, gradient, rate, scalars):
        correction1, root2 = scalars
        # The kernel's own correction, `1 - power`, is switched off by powers of 0: it adds eps
        # before it, and its subtraction costs digits.
        self.adam(
            self._parameters[index],
            self.moment1[index],
            self.moment2[index],
            self.zero,
            self.zero,
            rate * root2 / correction1,
            self.beta1,
            self.beta2,
            self.eps * root2,
            gradient,
        )
        return True


class AdamW(Adam):
    """Adam after `w *= 1 - lr * decay` (Loshchilov and Hutter, 2019).

    MindSpore's `nn.AdamWeightDecay` leaves the bias correction out, and its
    `experimental.optim.AdamW` takes no list of rates.
    """

    def update(self, index, gradient, rate, decay, scalars):
        if self.decay_flags[index]:
            weight = self._parameters[index]
            decayed = ops.assign(weight, weight * (1.0 - rate * decay))
            gradient = ops.depend(gradient, decayed)
        return self.apply_adam(index, gradient, rate, scalars)


class NAdam(RuleOptimizer):
    """Adam with Nesterov's momentum and a momentum that grows to beta1 (Dozat, 2016; as torch).

    `mu = beta1 * (1 - 0.96 ** (step * schedule_decay) / 2)`; weight decay is added to the gradient.
    """

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
        self.beta1, self.beta2, self.eps, self.base = (
            Tensor(value, mstype.float32) for value in (beta1, beta2, eps, 0.96)
        )
        self.schedule_decay = schedule_decay
        self.product = Parameter(Tensor(1.0, mstype.float32), "mu_product", requires_grad=False)
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

    def update(self, index, gradient, rate, decay, scalars):
        now, ahead, root2 = scalars
        weight = self._parameters[index]
        if self.decay_flags[index]:
            gradient = gradient + decay * weight
        m = self.beta1 * self.moment1[index] + (1.0 - self.beta1) * gradient
        v = self.beta2 * self.moment2[index] + (1.0 - self.beta2) * ops.square(gradient)
        step = (now * gradient + ahead * m) / (ops.sqrt(v) / root2 + self.eps)
        ops.assign(self.moment1[index], m)
        ops.assign(self.moment2[index], v)
        ops.assign(weight, weight - rate * step)
        return True
