"""Augmentation of whole batches on the device, from numbers that the host draws for each image."""

from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .pixel_operations import RandomErasing

_GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of R, G and B
# Columns of the draws: two flips; brightness, contrast and saturation in the image's random order,
# each as (factor, is contrast, is saturation); top, bottom, left and right of the erased rectangle.
_FLIPS, _CHANGES, _ERASED = 0, 2, 11
_COLUMNS = 15


@dataclass(frozen=True)
class DeviceAugment:
    """Augmentation left to the device: flips, colour jitter and erasing, in this order.

    `create_transforms(augment_on_device=True)` makes it, `create_loader` adds the column draws, and
    the cell of `create_normalize` applies them. Images have `size` pixels a side; `jitter` holds
    the strengths for brightness, contrast and saturation; `erasing` fills with its mean.
    """

    size: int
    hflip: float
    vflip: float
    jitter: Sequence[float] | None = None
    erasing: RandomErasing | None = None

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        draws = np.zeros((count, _COLUMNS), np.float32)
        draws[:, _FLIPS:_CHANGES] = rng.random((count, 2)) < (self.hflip, self.vflip)
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


class AugmentBatch(nn.Cell):
    """Apply the draws: flip, change the colours, erase.

    The colour formulas are torchvision's (`transforms/_functional_tensor.py`): blend with black,
    the mean grey or the grey image, then clip; intermediate values are not rounded. Parts that
    `augment` never draws are left out of the graph.
    """

    def __init__(self, augment: DeviceAugment):
        super().__init__()
        self.hflips, self.vflips = augment.hflip > 0.0, augment.vflip > 0.0
        self.jitters, self.erases = bool(augment.jitter), augment.erasing is not None
        self.fill = Tensor(augment.erasing.mean[None] if self.erases else 0.0, ms.float32)
        self.grey = Tensor(np.reshape(_GREY, (1, 3, 1, 1)), ms.float32)
        self.size = augment.size
        self.places = Tensor(np.arange(self.size), ms.float32)

    def construct(self, images, draws):
        """Map images (N, C, H, W) uint8 and draws (N, 15) to float32, 0-255 scale."""
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
        """Return the mask of the rectangles, (N, 1, H, W) bool."""
        rows = ops.logical_and(self.places >= box[:, 0:1], self.places < box[:, 1:2])
        columns = ops.logical_and(self.places >= box[:, 2:3], self.places < box[:, 3:4])
        return ops.logical_and(
            rows.reshape((-1, 1, self.size, 1)), columns.reshape((-1, 1, 1, self.size))
        )
