"""One training step as one compiled graph: forward, backward, reduction, update."""

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from ..optim.clip import create_clip
from .compile_cache import CachedGraph
from .nonfinite import OverflowCheck
from .update import WeightAverage, running_statistics

ACCUMULATED = "accumulated"  # begins the names of an update's sums of gradients
ACCUMULATED_BATCHES = f"{ACCUMULATED}_batches"
DYNAMIC_START = 2.0**16  # initial dynamic loss scale, if none is given
DYNAMIC_WINDOW = 2000  # finite steps after which a dynamic scale doubles


class TrainStep(CachedGraph):
    """Map a batch (image, label, …) to (loss, applied), and update the optimizer's parameters.

    `loss` is the unscaled float32 loss, averaged over the processes. `applied` is False if the
    update was skipped because a loss, a gradient or a running statistic was not finite on some
    process, see `OverflowCheck`. A skipped step leaves weights, optimizer, weight average and
    running statistics unchanged on all processes; if an update of several batches is skipped, the
    running statistics of its finite batches stay.

    Gradients are averaged over the processes, summed over the batches of an update, unscaled and
    clipped; then the optimizer runs, and after it the weight average. An optimizer that divides by
    a loss scale of its own gets gradients of that scale.

    Args:
        network: images to logits.
        loss: (logits, labels) to a scalar.
        normalize: cell applied first, to the images and the further entries of a batch; None if the
            images come normalised.
        loss_scale: factor on the loss before the backward pass, undone on the gradients.
        dynamic: halve the scale on overflow and double it after `DYNAMIC_WINDOW` finite steps.
        skip_overflow: skip updates that are not finite; implied by dynamic.
        accumulation: batches per update; its gradient is the mean of theirs.
        clip_mode, clip_value: see `create_clip`; None for no clipping.
        dropout_count: see `count_dropout`.
    """

    def __init__(
        self,
        network: nn.Cell,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        normalize: nn.Cell | None = None,
        loss_scale: float = 1.0,
        dynamic: bool = False,
        skip_overflow: bool = False,
        world_size: int = 1,
        accumulation: int = 1,
        clip_mode: str | None = None,
        clip_value: float = 15.0,
        average: WeightAverage | None = None,
        dropout_count: Parameter | None = None,
    ):
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.normalize = normalize
        self.dynamic, self.skips = dynamic, dynamic or skip_overflow
        if dynamic:
            start = loss_scale if loss_scale > 1.0 else DYNAMIC_START
            self.scaler = ms.amp.DynamicLossScaler(start, 2, DYNAMIC_WINDOW)
        else:
            self.scaler = ms.amp.StaticLossScaler(loss_scale)
        self.weights = optimizer.parameters
        self.optimizer_scale = float(optimizer.loss_scale)  # it divides the gradients by this
        self.value_and_grad = ms.value_and_grad(self.scaled_loss, None, self.weights)
        self.averages = world_size > 1
        if self.averages:
            self.reducer = nn.DistributedGradReducer(self.weights, mean=True, degree=world_size)
            self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)
            self.share = 1.0 / world_size
        self.accumulation = accumulation
        self.accumulator = Accumulator(self.weights, accumulation) if accumulation > 1 else None
        if self.skips:
            self.overflow = OverflowCheck(world_size)
            self.statistics = RunningStatistics(network)
        self.clip = create_clip(clip_mode, clip_value) if clip_mode else None
        self.map = ops.HyperMap()
        self.average = average
        self.dropout_count = dropout_count
        self.always = Tensor(True)
        self.set_train()

    @property
    def state(self) -> list[Parameter]:
        """Averaged weights and dynamic loss scale, with their counters, for the .ckpt file."""
        state = []
        if self.average is not None:
            state += [*self.average.averages, self.average.updates]
        if isinstance(self.scaler, ms.amp.DynamicLossScaler):
            state += [self.scaler.scale_value, self.scaler.counter]
        return state

    @property
    def own_state(self) -> list[Parameter]:
        """Further state of the training: optimizer, sums of gradients and the dropout count."""
        weights = {id(weight) for weight in self.network.get_parameters()}
        state = [own for own in self.optimizer.get_parameters() if id(own) not in weights]
        if self.accumulator is not None:
            state += [*self.accumulator.sums, self.accumulator.seen]
        if self.dropout_count is not None:
            state.append(self.dropout_count)
        return state

    def scaled_loss(self, image, label, *draws):
        if self.normalize is not None:
            image = self.normalize(image, *draws)
        return self.scaler.scale(self.loss(self.network(image), label))

    def construct(self, image, label, *draws):
        if self.skips:
            self.statistics.keep()
            image = self.overflow.begin(image)
        loss, gradients = self.value_and_grad(image, label, *draws)
        if self.dropout_count is not None:
            ops.assign(self.dropout_count, self.dropout_count + 1)
        if self.averages:
            gradients = self.reducer(gradients)
            loss = self.all_reduce(loss) * self.share
        loss = self.scaler.unscale(loss)
        if self.accumulator is not None:
            gradients = self.accumulator.add(gradients)
        good = self.always
        if self.skips:
            good = self.overflow(loss, self.statistics.now, gradients)
            good = ops.depend(good, self.statistics.put_back_unless(good))
        if self.accumulator is not None:
            applied = self.update_when_complete(gradients, good)
        elif self.skips:
            applied = self.update_where(good, self.scaler.unscale(gradients))
            self.scaler.adjust(good)
        else:
            applied = ops.depend(good, self.apply(self.scaler.unscale(gradients)))
        return ops.depend(loss, applied), applied

    def update_when_complete(self, sums, good):
        """Store the sums of gradients, or apply complete ones; return False if that is skipped."""
        complete, good = self.accumulator(sums, good)
        gradients = self.scaler.unscale(sums)
        if not self.skips:
            return ops.depend(self.always, self.update_where(complete, gradients))
        done = self.update_where(ops.logical_and(complete, good), gradients)
        # Not nested: MindSpore 2.10 leaks memory whenever a condition runs inside another one.
        if self.dynamic:
            done = ops.depend(done, self.adjust_where(complete, good))
        return ops.depend(ops.logical_or(good, ops.logical_not(complete)), done)

    def update_where(self, condition, gradients):
        applied = condition
        if condition:
            applied = ops.depend(applied, self.apply(gradients))
        return applied

    def adjust_where(self, condition, good):
        adjusted = condition
        if condition:
            adjusted = ops.depend(adjusted, self.scaler.adjust(good))
        return adjusted

    def apply(self, gradients):
        if self.clip is not None:
            gradients = self.clip(gradients)
        if self.optimizer_scale != 1.0:
            gradients = self.map(ops.partial(_multiply, self.optimizer_scale), gradients)
        done = self.optimizer(gradients)
        if self.average is not None:
            done = ops.depend(self.average(), done)
        return done


_multiply = ops.MultitypeFuncGraph("multiply_gradient")


@_multiply.register("Number", "Tensor")
def _multiply_gradient(scale, gradient):
    return gradient * scale


class RunningStatistics(nn.Cell):
    """Undoes what a batch did to the running statistics of a network's normalisation layers."""

    def __init__(self, network: nn.Cell):
        super().__init__(auto_prefix=False)
        found = running_statistics(network.get_parameters())
        self.exist = bool(found)
        self.now = ms.ParameterTuple(found)
        self.kept = self.now.clone(prefix="kept", init="same")
        self.map = ops.HyperMap()

    def keep(self):
        # Stored in parameters: a copy in the graph might be taken only after the batch.
        if self.exist:
            self.map(ops.partial(_set_where, Tensor(True)), self.kept, self.now)

    def put_back_unless(self, good):
        if self.exist:
            return self.map(ops.partial(_set_where, ops.logical_not(good)), self.now, self.kept)
        return good


_set_where = ops.MultitypeFuncGraph("set_where")


@_set_where.register("Tensor", "Tensor", "Tensor")
def _set_one_where(condition, parameter, value):
    return ops.assign(parameter, ops.where(condition, value, parameter))


class Accumulator(nn.Cell):
    """Sum the gradients of `batches` batches: `add` a batch, then call the cell to keep the sums.

    The call maps the sums and whether the batch was good to (is the sum complete, were all its
    batches good). Complete sums are means, and the next batch starts new ones. A bad batch leaves
    zeros.
    """

    def __init__(self, weights: ms.ParameterTuple, batches: int):
        super().__init__(auto_prefix=False)
        self.sums = weights.clone(prefix=ACCUMULATED, init="zeros")
        # Batches in the sum so far; negative after a bad one.
        self.seen = Parameter(Tensor(0, ms.int32), name=ACCUMULATED_BATCHES)
        self.batches, self.share = batches, 1.0 / batches
        self.map = ops.HyperMap()

    def add(self, gradients):
        return self.map(
            ops.partial(_add, ops.equal(self.seen, 0), self.share), self.sums, gradients
        )

    def construct(self, sums, good):
        good = ops.logical_and(good, ops.greater_equal(self.seen, 0))
        count = (ops.abs(self.seen) + 1) % self.batches
        sign = ops.cast(good, ms.int32) * 2 - 1
        kept = self.map(ops.partial(_keep, good), self.sums, sums)
        seen = ops.assign(self.seen, count * sign)
        return ops.depend(ops.equal(seen, 0), kept), good


_add = ops.MultitypeFuncGraph("add_gradient")
_keep = ops.MultitypeFuncGraph("keep_sum")


@_add.register("Tensor", "Number", "Tensor", "Tensor")
def _add_gradient(is_first, share, total, gradient):
    # The first batch of a sum ignores the values of the old one.
    begin = ops.where(is_first, ops.zeros_like(total), total)
    return begin + gradient * share


@_keep.register("Tensor", "Tensor", "Tensor")
def _keep_sum(good, total, value):
    return ops.assign(total, ops.where(good, value, ops.zeros_like(value)))
