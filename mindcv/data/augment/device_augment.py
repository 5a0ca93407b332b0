"""Augmentation of whole batches on the device, by numbers that the host draws for each image."""

from collections.abc import Sequence

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn, ops

from .erasing import RandomErasing

_DRAWS_OF_DEVICE = 2  # tells these random numbers from those of mixing and of erasing
_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G and B
# Columns of the draws: flips; brightness, contrast and saturation in the image's own order, each as
# (factor, is contrast, is saturation); top, bottom, left and right of the erased rectangle.
_FLIPS, _CHANGES, _ERASED = 0, 2, 11
_COLUMNS = 15


class DeviceAugment:
    """What is left to the device: flips, colour jitter and erasing, in this order.

    It is no operation on an image, but the last entry of the list that
    `create_transforms(augment_on_device=True)` gives: `create_loader` adds the column draws, and
    `create_normalize` makes the cell that takes it.

    Args:
        size: side of the images, pixels.
        hflip, vflip: probabilities.
        jitter: strength for brightness, contrast and saturation; None: no change of colour.
        erasing: fills with its mean; None: nothing is erased.
    """

    def __init__(
        self,
        size: int,
        hflip: float,
        vflip: float,
        jitter: Sequence[float] | None = None,
        erasing: RandomErasing | None = None,
    ):
        self.size, self.jitter, self.erasing = size, jitter, erasing
        self.flips = (hflip, vflip)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return what is drawn for so many images, (count, 15) float32."""
        draws = np.zeros((count, _COLUMNS), np.float32)
        draws[:, _FLIPS:_CHANGES] = rng.random((count, 2)) < self.flips
        if self.jitter:
            strength = np.asarray(self.jitter)
            factors = rng.uniform(np.maximum(0.0, 1.0 - strength), 1.0 + strength, (count, 3))
            changes = np.stack((factors, *np.broadcast_to(np.eye(3)[1:, None], (2, count, 3))), 2)
            order = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
            changes = np.take_along_axis(changes, order[:, :, None], 1)
            draws[:, _CHANGES:_ERASED] = changes.reshape(count, -1)
        if self.erasing:
            for row in draws:
                row[_ERASED:] = self.erasing.rectangle(self.size, self.size, rng) or 0
        return draws


class DrawInBatch:
    """Add the draws of `DeviceAugment` to a batch; a `per_batch_map` of `Dataset.batch`.

    They belong to MindSpore's seed as it is now, epoch, batch and shard.

    Args:
        augment: draws.
        shard_id: makes the draws of the processes differ.
    """

    def __init__(self, augment: DeviceAugment, shard_id: int = 0):
        self.augment, self.shard_id = augment, shard_id
        self.seed = ds.config.get_seed()

    def __call__(self, labels: list, places: list, batch_info) -> tuple[list, list]:
        place = (int(places[0][0]), batch_info.get_batch_num(), self.shard_id, _DRAWS_OF_DEVICE)
        rng = np.random.default_rng((self.seed, *place))
        return labels, list(self.augment.draw(len(labels), rng))


class AugmentBatch(nn.Cell):
    """Do what was drawn: flip, change the colours, erase.

    The formulas of the colours are torchvision's (`transforms/_functional_tensor.py`): blend with
    black, with the mean grey, with the grey image; clip. Nothing is rounded in between.

    Args:
        augment: what draws; parts that it never draws are left out of the graph.
    """

    def __init__(self, augment: DeviceAugment):
        super().__init__()
        self.hflips, self.vflips = (prob > 0.0 for prob in augment.flips)
        self.jitters, self.erases = bool(augment.jitter), augment.erasing is not None
        self.fill = Tensor(augment.erasing.mean[None] if self.erases else 0.0, ms.float32)
        self.grey = Tensor(np.reshape(_GREY, (1, 3, 1, 1)), ms.float32)
        self.size = augment.size
        self.places = Tensor(np.arange(self.size), ms.float32)

    def construct(self, images, draws):
        """Images (N, C, H, W) uint8, draws (N, 15); returns float32, 0-255 scale."""
        if self.hflips:
            is_flipped = draws[:, 0].reshape((-1, 1, 1, 1)) > 0.5
            images = ops.where(is_flipped, ops.flip(images, (3,)), images)
        if self.vflips:
            is_flipped = draws[:, 1].reshape((-1, 1, 1, 1)) > 0.5
            images = ops.where(is_flipped, ops.flip(images, (2,)), images)
        images = ops.cast(images, ms.float32)
        if self.jitters:
            for first in range(_CHANGES, _ERASED, 3):
                images = self.change(images, draws[:, first : first + 3].reshape((-1, 3, 1, 1)))
        if self.erases:
            images = ops.where(self.erased(draws[:, _ERASED:]), self.fill, images)
        return images

    def change(self, images, draws):
        factor, is_contrast, is_saturation = draws[:, 0:1], draws[:, 1:2], draws[:, 2:3]
        grey = ops.sum(images * self.grey, 1, True)
        other = is_contrast * grey.mean((2, 3), True) + is_saturation * grey
        return ops.clamp(factor * images + (1.0 - factor) * other, 0.0, 255.0)

    def erased(self, box):
        """Return where the rectangles are, (N, 1, H, W) bool."""
        rows = ops.logical_and(self.places >= box[:, 0:1], self.places < box[:, 1:2])
        columns = ops.logical_and(self.places >= box[:, 2:3], self.places < box[:, 3:4])
        return ops.logical_and(
            rows.reshape((-1, 1, self.size, 1)), columns.reshape((-1, 1, 1, self.size))
        )
