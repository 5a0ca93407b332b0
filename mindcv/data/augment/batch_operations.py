"""Augmentation of whole batches: erasing, mixup and CutMix, and the draws for the device."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import mindspore.dataset as ds
import numpy as np

from ..rows import PASS
from .device_augment import DeviceAugment
from .pixel_operations import RandomErasing, as_planes

_OF_ERASING, _OF_DEVICE = 1, 2  # separate their random numbers from those of mixing


class BatchMap:
    """A `per_batch_map` of `Dataset.batch`: one Python call for all images of a batch.

    It erases and mixes, in this order, or adds the column draws for `DeviceAugment`. The draws
    depend on MindSpore's current seed, epoch, batch and shard. `arguments`, for `Dataset.batch`, is
    empty if there is nothing to do.
    """

    def __init__(
        self,
        erasing: RandomErasing | None = None,
        mixing: "Mixing | None" = None,
        on_device: DeviceAugment | None = None,
        *,
        shard_id: int = 0,
    ):
        self.erasing, self.mixing, self.on_device = erasing, mixing, on_device
        self.seed, self.shard_id = ds.config.get_seed(), shard_id
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
        place = (int(places[0][0]), batch_info.get_batch_num(), self.shard_id, *purpose)
        return np.random.default_rng((self.seed, *place))


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

    def mix(
        self, images: list, labels: list, epoch: int, rng: np.random.Generator
    ) -> tuple[list, list]:
        prob = 0.0 if self.off_epoch and epoch >= self.off_epoch else self.prob
        mixed, share = self._mix_images(np.stack(images), prob, rng)
        targets = np.stack(labels)
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
        side = math.sqrt(1.0 - rng.beta(self.cutmix, self.cutmix))
        cut_h, cut_w = int(height * side), int(width * side)
        center_y, center_x = rng.integers(height), rng.integers(width)
        # An odd side has its extra pixel at the end, so the box keeps its size.
        top, bottom = np.clip((center_y - cut_h // 2, center_y + (cut_h + 1) // 2), 0, height)
        left, right = np.clip((center_x - cut_w // 2, center_x + (cut_w + 1) // 2), 0, width)
        pasted = images.copy()
        box = (slice(None), slice(None), slice(top, bottom), slice(left, right))
        as_planes(pasted)[box] = as_planes(images)[::-1][box]
        return pasted, 1.0 - float((bottom - top) * (right - left)) / (height * width)
