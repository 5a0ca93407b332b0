"""Augmentation of whole batches: erasing, mixup and CutMix on the host, the rest on the device."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..batches import common_seed
from ..rows import PASS
from .pixel_operations import RandomErasing, as_planes

_OF_ERASING, _OF_DEVICE = 1, 2  # separate their random numbers from those of mixing


class BatchMap:
    """A `per_batch_map` of `Dataset.batch`: one Python call for all images of a batch.

    It erases and mixes, in this order, or adds the column draws for `DeviceAugment`. The draws
    depend on MindSpore's current seed, the epoch and the number of the batch among those of all
    shards. `arguments`, for `Dataset.batch`, is empty if there is nothing to do.
    """

    def __init__(
        self,
        erasing: RandomErasing | None = None,
        mixing: "Mixing | None" = None,
        on_device: "DeviceAugment | None" = None,
        *,
        num_shards: int = 1,
        shard_id: int = 0,
    ):
        self.erasing, self.mixing, self.on_device = erasing, mixing, on_device
        self.seed, self.num_shards, self.shard_id = common_seed(), num_shards, shard_id
        self.arguments = {}
        if on_device:
            self._map(self.draw, ["label"], ["label", "draws"])
        elif erasing or mixing:
            self._map(self.change, ["image", "label"], ["image", "label"])

    def _map(self, function: Callable, takes: list[str], gives: list[str]) -> None:
        self.arguments = dict(
            per_batch_map=function, input_columns=[*takes, PASS], output_columns=gives
        )

    def change(self, images: list, labels: list, places: list, batch_info) -> tuple[list, list]:
        """Erase, then mix.

        Images are arrays (H, W, C) or (C, H, W), uint8 or float32, and keep their type. Labels are
        class indices or the one-hot vectors of a `target_transform`; those of a mixed batch become
        (N, num_classes) float32. `places` holds (epoch, copy) of each image, see `PASS`.
        """
        if self.erasing:
            rng = self._generator(places, batch_info, _OF_ERASING)
            images = [self.erasing.erase(image, rng) for image in images]
        if self.mixing:
            rng = self._generator(places, batch_info)
            images, labels = self.mixing.mix(images, labels, int(places[0][0]), rng)
        return images, labels

    def draw(self, labels: list, places: list, batch_info) -> tuple[list, list]:
        rng = self._generator(places, batch_info, _OF_DEVICE)
        return labels, list(self.on_device.draw(len(labels), rng))

    def _generator(self, places: list, batch_info, *purpose: int) -> np.random.Generator:
        number = batch_info.get_batch_num() * self.num_shards + self.shard_id
        # The 0 was the shard once: a single process draws what it always drew.
        return np.random.default_rng((self.seed, int(places[0][0]), number, 0, *purpose))


@dataclass(frozen=True)
class Mixing:
    """Mixup and CutMix of a batch (Zhang et al., 2018; Yun et al., 2019).

    Each image and label is mixed with its mirror position in the batch. Source of the rules: timm,
    `data/mixup.py`, batch mode. With both on, each batch picks one at random; CutMix's box is
    clipped at the border and its label share corrected. Labels are not smoothed here: the losses do
    it, and smoothing mixed labels equals mixing smoothed ones, as timm does.
    """

    mixup: float  # parameter of the Beta distribution; 0: off
    cutmix: float  # likewise
    prob: float  # of mixing a batch at all
    num_classes: int
    switch_prob: float = 0.5  # probability of CutMix if both are on
    # Epochs after which nothing is mixed; labels stay soft so that the graph stays the same.
    # 0: never.
    off_epoch: int = 0
    # Range of the sides of CutMix's box, as shares of the image's; None: drawn from its area.
    minmax: tuple[float, float] | None = None
    follows_box: bool = True  # the labels, where the border clips the box

    def mix(
        self, images: Sequence, labels: Sequence, epoch: int, rng: np.random.Generator
    ) -> tuple[list, list]:
        prob = 0.0 if self.off_epoch and epoch >= self.off_epoch else self.prob
        mixed, share = self._mix_images(np.stack(images), prob, rng)
        targets = as_indices(np.stack(labels), self.num_classes)
        if targets.ndim == 1:
            targets = np.eye(self.num_classes, dtype=np.float32)[targets.astype(np.int64)]
        targets = share * targets + (1.0 - share) * targets[::-1]
        return list(mixed), list(targets.astype(np.float32))

    def _mix_images(
        self, images: np.ndarray, prob: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Return the images, mixed with probability `prob`, and the share of each original."""
        if rng.random() >= prob:
            return images, 1.0
        if self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch_prob):
            return self._paste(images, rng)
        share = rng.beta(self.mixup, self.mixup)
        mixed = images.astype(np.float32) * share + images[::-1].astype(np.float32) * (1.0 - share)
        return (np.rint(mixed) if images.dtype == np.uint8 else mixed).astype(images.dtype), share

    def _paste(self, images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        height, width = as_planes(images).shape[2:]
        share = rng.beta(self.cutmix, self.cutmix)
        if self.minmax:
            cuts = [
                rng.integers(*(int(side * end) for end in self.minmax)) for side in (height, width)
            ]
            starts = [rng.integers(side - cut) for side, cut in zip((height, width), cuts)]
            (top, left), (bottom, right) = starts, np.add(starts, cuts)
        else:
            side = math.sqrt(1.0 - share)
            cut_h, cut_w = int(height * side), int(width * side)
            center_y, center_x = rng.integers(height), rng.integers(width)
            # An odd side has its extra pixel at the end, so the box keeps its size.
            top, bottom = np.clip((center_y - cut_h // 2, center_y + (cut_h + 1) // 2), 0, height)
            left, right = np.clip((center_x - cut_w // 2, center_x + (cut_w + 1) // 2), 0, width)
        pasted = images.copy()
        box = (slice(None), slice(None), slice(top, bottom), slice(left, right))
        as_planes(pasted)[box] = as_planes(images)[::-1][box]
        if self.follows_box or self.minmax:
            share = 1.0 - float((bottom - top) * (right - left)) / (height * width)
        return pasted, share


def as_indices(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels (N, 1), such as some generators yield, as (N,); soft labels as they are."""
    is_column = labels.ndim == 2 and labels.shape[1] == 1 and num_classes != 1
    return labels[:, 0] if is_column and labels.dtype.kind in "iu" else labels


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
