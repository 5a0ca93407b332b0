"""One training step as one compiled graph: forward, backward, reduction, update."""

import mindspore as ms
from mindspore import Tensor, nn, ops

DYNAMIC_START = 2.0**16  # first dynamic loss scale where none is given
DYNAMIC_WINDOW = 2000  # finite steps after which a dynamic scale doubles


class TrainStep(nn.Cell):
    """Map a batch (image, label) to (loss, applied), updating the weights on the way.

    `loss` is the unscaled float32 loss, averaged over the processes; `applied` is False for a step
    that was skipped because its gradients overflowed.

    Args:
        network: images to logits.
        loss: (logits, labels) to a scalar.
        optimizer: holds the parameters to train.
        normalize: cell applied to the images first; None: they come normalised.
        loss_scale: factor on the loss before the backward pass, undone on the gradients.
        dynamic: halve the scale on overflow and double it after `DYNAMIC_WINDOW` finite steps.
        skip_overflow: skip the update when a gradient is not finite; implied by dynamic.
        world_size: processes whose gradients are averaged.
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
    ):
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.normalize = normalize
        self.skips = dynamic or skip_overflow
        if dynamic:
            start = loss_scale if loss_scale > 1.0 else DYNAMIC_START
            self.scaler = ms.amp.DynamicLossScaler(start, 2, DYNAMIC_WINDOW)
        else:
            self.scaler = ms.amp.StaticLossScaler(loss_scale)
        self.weights = optimizer.parameters
        self.value_and_grad = ops.value_and_grad(self.scaled_loss, None, self.weights)
        self.averages = world_size > 1
        if self.averages:
            self.reducer = nn.DistributedGradReducer(self.weights, mean=True, degree=world_size)
            self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)
            self.share = 1.0 / world_size
        self.always = Tensor(True)
        self.set_train()

    def scaled_loss(self, image, label):
        if self.normalize is not None:
            image = self.normalize(image)
        return self.scaler.scale(self.loss(self.network(image), label))

    def construct(self, image, label):
        loss, gradients = self.value_and_grad(image, label)
        if self.averages:
            gradients = self.reducer(gradients)
            loss = self.all_reduce(loss) * self.share
        loss = self.scaler.unscale(loss)
        if not self.skips:
            loss = ops.depend(loss, self.optimizer(self.scaler.unscale(gradients)))
            return loss, self.always
        applied = ms.amp.all_finite(gradients)
        gradients = self.scaler.unscale(gradients)
        if applied:
            loss = ops.depend(loss, self.optimizer(gradients))
        self.scaler.adjust(applied)
        return loss, applied
