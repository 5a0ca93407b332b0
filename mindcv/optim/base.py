"""The frame of our own optimizers."""

from mindspore import Parameter, Tensor, jit, nn, ops
from mindspore import dtype as mstype


class RuleOptimizer(nn.Optimizer):
    """Divide the gradients by the loss scale, count the step, and `update` each parameter.

    All parameters decay, also ungrouped ones with beta or gamma in their names.
    """

    def __init__(self, params, learning_rate, weight_decay, loss_scale):
        params = list(params)
        if params and isinstance(params[0], Parameter):
            params = [{"params": params}]
        super().__init__(learning_rate, params, weight_decay, loss_scale)

    @jit  # as MindSpore's: in PyNative mode an assignment by itself takes milliseconds
    def construct(self, gradients):
        gradients = self.scale_grad(self.flatten_gradients(gradients))
        rates, decays = self.get_lr(), self.get_weight_decay()
        scalars = self.begin_step()
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        for index in range(len(self._parameters)):
            rate = rates[index] if self.is_group_lr else rates
            # The base class multiplies the decay by loss_scale, for rules that add it to gradients.
            decay = decays[index] * self.reciprocal_scale
            self.update(index, gradients[index], rate, decay, scalars)
        return True

    def begin_step(self) -> tuple:
        """Return what `update` needs and is the same for all parameters."""
        return ()

    def update(self, index, gradient, rate, decay, scalars) -> bool:
        """Change `self._parameters[index]` and its state."""
        raise NotImplementedError

    def state(self, name: str, init="zeros"):
        """Return a state for each parameter, called `name.` and the parameter's name."""
        return self._parameters.clone(prefix=name, init=init)


class BiasCorrection(nn.Cell):
    """`1 - beta ** step`, kept as `c * beta + (1 - beta)`.

    The power itself leaves only half its digits after the subtraction from 1, and MindSpore's expm1
    on CPU subtracts too.
    """

    def __init__(self, beta: float, name: str):
        super().__init__(auto_prefix=False)
        self.beta = Tensor(beta, mstype.float32)
        self.value = Parameter(Tensor(0.0, mstype.float32), name=name, requires_grad=False)

    def construct(self):
        value = self.value * self.beta + (1.0 - self.beta)
        ops.assign(self.value, value)
        return value
