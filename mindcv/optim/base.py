"""The base class of our own optimizers."""

from collections.abc import Callable

from mindspore import Parameter, Tensor, jit, nn, ops
from mindspore import dtype as mstype


class RuleOptimizer(nn.Optimizer):
    """Divides gradients by the loss scale, counts the step, and maps a rule over the parameters.

    All parameters decay, even ungrouped ones with beta or gamma in their names. Parameters with the
    same rate and decay are of one kind, for which the rule's scalars are computed once.
    """

    rule: ops.MultitypeFuncGraph

    def __init__(self, params, learning_rate, weight_decay=0.0, loss_scale=1.0):
        params = list(params)
        if params and isinstance(params[0], Parameter):
            params = [{"params": params}]
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        kinds = list(zip(map(id, self.group_lr), self.group_weight_decay))
        distinct = list(dict.fromkeys(kinds))
        self.kinds = tuple(distinct.index(kind) for kind in kinds)
        self.first_of_kind = tuple(kinds.index(kind) for kind in distinct)

    @jit  # as in MindSpore: in PyNative mode a single assignment takes milliseconds
    def construct(self, gradients):
        gradients = self.scale_grad(self.flatten_gradients(gradients))
        decays, shared = self.get_weight_decay(), self.begin_step()
        scalars = ()
        for index in self.first_of_kind:
            # The base class multiplies the decay by loss_scale, for rules that add it to gradients.
            decay = decays[index] * self.reciprocal_scale if self.decay_flags[index] else None
            scalars += (self.scalars(self.rate(index), decay, *shared),)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        rule = ops.partial(self.rule, scalars)
        return self.hyper_map(rule, self.kinds, self._parameters, *self.states(), gradients)

    def rate(self, index):
        """Return the current rate of one parameter; get_lr would compute those of all."""
        rate = self.learning_rate[index] if self.is_group_lr else self.learning_rate
        return rate(self.global_step).reshape(()) if self.dynamic_lr else rate

    def begin_step(self) -> tuple:
        """Return the scalars that all parameters share."""
        return ()

    def scalars(self, rate, decay, *shared) -> tuple:
        """Return the rule's scalars for one kind; decay is None if there is none."""
        raise NotImplementedError

    def states(self) -> tuple:
        """Return the states that the rule takes between the weight and the gradient."""
        raise NotImplementedError

    def state(self, name: str, init="zeros"):
        """Return a state for each parameter, named `name.` plus the parameter's name."""
        return self._parameters.clone(prefix=name, init=init)


def rule(function: Callable) -> ops.MultitypeFuncGraph:
    """Make a graph of a function of (scalars of all kinds, kind, tensors …).

    HyperMap compiles such a graph once for all parameters of a shape; compiling a loop over the
    parameters takes five times as long.
    """
    graph = ops.MultitypeFuncGraph(function.__name__)
    tensors = function.__code__.co_argcount - 2
    graph.register("Tuple", "Number", *["Tensor"] * tensors)(function)
    return graph


def constant(value: float) -> Tensor:
    return Tensor(value, mstype.float32)


class BiasCorrection(nn.Cell):
    """`1 - beta ** step`, updated as `c * beta + (1 - beta)`.

    Subtracting the power loses half of its digits, and MindSpore's expm1 on CPU subtracts too.
    """

    def __init__(self, beta: float, name: str):
        super().__init__(auto_prefix=False)
        self.beta = constant(beta)
        self.value = Parameter(constant(0.0), name=name, requires_grad=False)

    def construct(self):
        value = self.value * self.beta + (1.0 - self.beta)
        ops.assign(self.value, value)
        return value
