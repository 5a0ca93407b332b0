"""RMSProp."""

from mindspore import Tensor, ops
from mindspore import dtype as mstype

from .base import RuleOptimizer, rule

_apply_momentum = ops.ApplyMomentum()


@rule
def rmsprop(scalars, kind, weight, mean_square, moment, gradient):
    rate, decay, share, rest, momentum, eps, one = scalars[kind]
    if decay is not None:
        gradient = gradient + decay * weight
    new = share * mean_square + rest * ops.square(gradient)
    ops.assign(mean_square, new)
    step = rate * gradient / ops.sqrt(new + eps)
    return _apply_momentum(weight, moment, one, step, momentum)


class RMSProp(RuleOptimizer):
    """`b = momentum * b + lr * g / sqrt(s + eps)`, `w -= b`, as in TensorFlow.

    s is the running mean of g squared, from 1; weight decay is added to g. It is the RMSProp of the
    MobileNet and EfficientNet recipes and timm's `rmsprop_tf`; torch's has eps outside the root, s
    from 0 and the rate outside b. MindSpore's `nn.RMSProp` is meant to be the same, but its CPU
    kernel (2.10) adds eps outside the root for all but the last few elements of a parameter. b and
    w are updated by the kernel of `nn.Momentum`.
    """

    rule = rmsprop

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
        self.decay, self.momentum, self.eps, self.one = (
            Tensor(value, mstype.float32) for value in (decay, momentum, eps, 1.0)
        )
        self.mean_square = self.state("mean_square", "ones")
        self.moment = self.state("moment")

    def scalars(self, rate, decay):
        return rate, decay, self.decay, 1.0 - self.decay, self.momentum, self.eps, self.one

    def states(self):
        return self.mean_square, self.moment
