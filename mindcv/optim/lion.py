"""Lion."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import RuleOptimizer, rule


@rule
def lion(scalars, kind, weight, m, gradient):
    rate, keep, beta1, rest1, beta2, rest2 = scalars[kind]
    step = rate * ops.sign(beta1 * m + rest1 * gradient)
    ops.assign(m, beta2 * m + rest2 * gradient)
    return ops.assign(weight, (weight if keep is None else weight * keep) - step)


class Lion(RuleOptimizer):
    """`w = w * (1 - lr * decay) - lr * sign(beta1 * m + (1 - beta1) * g)` (Chen et al., 2023).

    Then `m = beta2 * m + (1 - beta2) * g`. Rates are 3 to 10 times smaller than AdamW's, decays
    larger by as much.
    """

    rule = lion

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

    def scalars(self, rate, decay):
        keep = None if decay is None else 1.0 - rate * decay
        return rate, keep, self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2

    def states(self):
        return (self.moment1,)
