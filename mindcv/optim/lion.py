"""Lion."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import RuleOptimizer


class Lion(RuleOptimizer):
    """`w = w * (1 - lr * decay) - lr * sign(beta1 * m + (1 - beta1) * g)` (Chen et al., 2023).

    Then `m = beta2 * m + (1 - beta2) * g`. Rates are 3 to 10 times smaller than AdamW's, decays
    larger by as much.
    """

    def __init__(
        self,
        params,
        learning_rate=1e-4,
        beta1=0.9,
        beta2=0.99,
        weight_decay=0.0,
        loss_scale=1.0,
    ):
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.beta1, self.beta2 = Tensor(beta1, mstype.float32), Tensor(beta2, mstype.float32)
        self.moment1 = self.state("moment1")

    def update(self, index, gradient, rate, decay, scalars):
        weight, m = self._parameters[index], self.moment1[index]
        new = weight * (1.0 - rate * decay) if self.decay_flags[index] else weight
        new = new - rate * ops.sign(self.beta1 * m + (1.0 - self.beta1) * gradient)
        new_m = self.beta2 * m + (1.0 - self.beta2) * gradient
        ops.assign(weight, new)
        ops.assign(m, new_m)
        return True
