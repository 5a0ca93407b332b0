"""Running statistics of batch normalisation: over all processes, and measured anew."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ..errors import DataError
from .compile_cache import CachedGraph
from .device import Runtime
from .update import running_statistics, set_value


def average_batch_statistics(network: nn.Cell, runtime: Runtime) -> None:
    """Average the running means and variances of normalisation layers over the processes.

    Each process sees its own batches: otherwise a checkpoint would hold the statistics of rank 0
    alone, and the ranks would evaluate different networks. Statistics that are already equal keep
    every bit.
    """
    statistics = running_statistics(network.get_parameters())
    for parameter, ranks in zip(statistics, gather_values(statistics, runtime)):
        if (ranks != ranks[0]).any():
            set_value(parameter, mean_of(ranks))


def mean_of(ranks: np.ndarray) -> np.ndarray:
    return ranks.mean(0, dtype=np.float64).astype(np.float32)


def gather_values(parameters: Sequence[Parameter], runtime: Runtime) -> list[np.ndarray]:
    """Return each float32 parameter of all ranks, (world_size, *shape); empty for one process."""
    if runtime.world_size == 1 or not parameters:
        return []
    ranks = runtime.gather(np.concatenate([one.asnumpy().ravel() for one in parameters]))
    parts = np.split(ranks, np.cumsum([one.size for one in parameters])[:-1], axis=1)
    return [part.reshape((len(ranks), *one.shape)) for one, part in zip(parameters, parts)]


def check_batch_statistics(
    network: nn.Cell, shape: tuple[int, ...], images: int, batch_size: int
) -> None:
    """Refuse batches that leave a batch normalisation layer one value per channel.

    A single value has no variance: the running variance would become NaN, noticed only at the end
    of an epoch. Only a batch of one image can be so small, so only that one is checked. `network`
    is without mixed precision, `shape` is (C, H, W), and `images` are normalised together in the
    smallest batch, over all processes if synchronised.

    Raises:
        DataError: there is such a layer.
    """
    single = _single_value_layer(network, shape) if images == 1 else None
    if single is None:
        return
    remedy = "make batch_size 2 or more"
    if batch_size > 1:
        remedy = f"set drop_remainder True, or a batch_size other than {batch_size}"
    raise DataError(
        f"an epoch has a batch of one image, of which {single} sees one value a channel, and that "
        f"has no variance; {remedy}, or enlarge image_resize"
    )


def _single_value_layer(network: nn.Cell, shape: tuple[int, ...]) -> str | None:
    """Return the first layer that would see one value per channel; None if there is none."""
    found = []

    def look(name):
        def note(cell, inputs):  # not a `partial`: MindSpore 2.7.0 wants a function
            if inputs[0].size == inputs[0].shape[1]:
                found.append(name)

        return note

    layers = [
        (name, cell)
        for name, cell in network.cells_and_names()
        if _normalizes(cell, nn.BatchNorm1d, nn.BatchNorm2d)
    ]
    hooks = [cell.register_forward_pre_hook(look(name)) for name, cell in layers]
    mode, is_training = ms.get_context("mode"), network.training
    ms.set_context(mode=ms.PYNATIVE_MODE)  # where hooks are called
    network.set_train(False)
    try:
        network(Tensor(np.zeros((1, *shape), np.float32)))
    finally:
        network.set_train(is_training)
        ms.set_context(mode=mode)
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


class PreciseBatchNorm:
    """Measures the statistics over many images instead of trusting the running average.

    The statistics become the means of the batches' own statistics (source: pycls `core/net.py`,
    `compute_precise_bn_stats`). Frozen layers keep theirs. `network` has mixed precision applied;
    `batches` returns training batches (image, label, …), the same at each call.
    """

    def __init__(
        self,
        network: nn.Cell,
        normalize: nn.Cell | None,
        batches: Callable[[], Iterable],
        num_batches: int,
    ):
        self.forward = _Forward(network, normalize)
        self.batches, self.num_batches = batches, num_batches

    def __call__(self) -> int:
        """Replace the running statistics; return the number of images they were measured over."""
        self.forward.set_train()
        layers = [
            cell for _, cell in self.forward.cells_and_names() if _normalizes(cell, nn.BatchNorm2d)
        ]
        totals = [np.zeros((2, layer.num_features)) for layer in layers]
        images = count = 0
        for image, _, *draws in itertools.islice(self.batches(), self.num_batches):
            for layer in layers:
                set_value(layer.moving_mean, np.zeros(layer.num_features))
                set_value(layer.moving_variance, np.zeros(layer.num_features))
            self.forward(Tensor(image), *map(Tensor, draws)).asnumpy()
            for total, layer in zip(totals, layers):
                # One step from zero leaves momentum x the batch's statistics.
                found = (layer.moving_mean.asnumpy(), layer.moving_variance.asnumpy())
                total += np.float64(found) / layer.momentum
            images, count = images + len(image), count + 1
        for total, layer in zip(totals, layers):
            mean, variance = (total / count).astype(np.float32)
            set_value(layer.moving_mean, mean)
            set_value(layer.moving_variance, variance)
        return images


class _Forward(CachedGraph):
    def __init__(self, network: nn.Cell, normalize: nn.Cell | None):
        super().__init__(auto_prefix=False)
        self.network, self.normalize = network, normalize

    def construct(self, image, *draws):
        if self.normalize is not None:
            image = self.normalize(image, *draws)
        return self.network(image)


def _normalizes(cell: nn.Cell, *kinds: type[nn.Cell]) -> bool:
    return isinstance(cell, kinds) and cell.use_batch_statistics is not False
