"""RMSProp."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import RuleOptimizer


class RMSProp(RuleOptimizer):
    """`b = momentum * b + lr * g / sqrt(s + eps)`, `w -= b`, as in TensorFlow.

    s is the running mean of g squared, from 1; weight decay is added to g. It is the RMSProp of the
    MobileNet and EfficientNet recipes and timm's `rmsprop_tf`; torch's has eps outside the root, s
    from 0 and the rate outside b. MindSpore's `nn.RMSProp` is meant to be the same, but its CPU
    kernel (2.10) adds eps outside the root for all but the last few elements of a parameter.
    """

    def __init__(
        self,
        params,
        learning_rate=0.1,
        decay=0.9,
        momentum=0.0,
        eps=1e-10,
        weight_decay=0.0,
        loss_scale=1.0,
    ):
        super().__init__(params, learning_rate, weight_decay, loss_scale)
        self.decay, self.momentum, self.eps = (
            Tensor(value, mstype.float32) for value in (decay, momentum, eps)
        )
        self.mean_square = self.state("mean_square", "ones")
        self.moment = self.state("moment")

    def update(self, index, gradient, rate, decay, scalars):
        weight = self._parameters[index]
        if self.decay_flags[index]:
            gradient = gradient + decay * weight
        mean_square = self.decay * self.mean_square[index]
        mean_square = mean_square + (1.0 - self.decay) * ops.square(gradient)
        step = rate * gradient / ops.sqrt(mean_square + self.eps)
        step = self.momentum * self.moment[index] + step
        ops.assign(self.mean_square[index], mean_square)
        ops.assign(self.moment[index], step)
        ops.assign(weight, weight - step)
        return True
