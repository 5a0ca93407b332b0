"""Mixup and CutMix of a batch (Zhang et al., 2018; Yun et al., 2019)."""

import math

import mindspore.dataset as ds
import numpy as np

from ..layout import as_planes


class MixBatch:
    """Mix each image of a batch with its mirror image in the batch, and the labels likewise.

    Source of the rules: timm, `data/mixup.py`, batch mode. With both on, each batch takes one of
    them at random; the pasted box of CutMix is clipped at the border and its label share corrected.
    Labels are not smoothed: the losses do it, and to mix smoothed labels, as timm does, is the same
    as to smooth mixed ones.

    Args:
        mixup, cutmix: parameters of the Beta distribution; 0: off.
        prob: probability of mixing a batch at all.
        num_classes: length of the soft labels.
        shard_id: makes the draws of the processes differ.
        switch_prob: probability of CutMix where both are on.
        off_epoch: epochs after which nothing is mixed any more; the labels stay soft, so that the
            graph stays the same. 0: never.

    The draws belong to MindSpore's seed as it is now, epoch, batch and shard.
    """

    def __init__(
        self,
        mixup: float,
        cutmix: float,
        prob: float,
        num_classes: int,
        shard_id: int = 0,
        switch_prob: float = 0.5,
        off_epoch: int = 0,
    ):
        self.mixup, self.cutmix, self.prob = mixup, cutmix, prob
        self.num_classes, self.shard_id = num_classes, shard_id
        self.switch_prob, self.off_epoch = switch_prob, off_epoch
        self.seed = ds.config.get_seed()

    def __call__(self, images: list, labels: list, places: list, batch_info) -> tuple:
        """Mix one batch; a `per_batch_map` of `Dataset.batch`.

        Args:
            images: arrays (H, W, C) or (C, H, W), uint8 or float32.
            labels: class indices, or the one-hot vectors of a `target_transform`.
            places: (epoch, copy) of each image, see `PASS`.
            batch_info: tells the number of the batch in its epoch, from 0.

        Returns:
            images of the same type, and labels (N, num_classes) float32.
        """
        epoch = int(places[0][0])
        place = (epoch, batch_info.get_batch_num(), self.shard_id)
        rng = np.random.default_rng((self.seed, *place))
        prob = 0.0 if self.off_epoch and epoch >= self.off_epoch else self.prob
        images, share = self.mix(np.stack(images), prob, rng)
        targets = np.stack(labels)
        if targets.ndim == 1:
            targets = np.eye(self.num_classes, dtype=np.float32)[targets.astype(np.int64)]
        targets = share * targets + (1.0 - share) * targets[::-1]
        return list(images), list(targets.astype(np.float32))

    def mix(
        self, images: np.ndarray, prob: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Return the images, an array of all, mixed with probability prob, and their own share."""
        if rng.random() >= prob:
            return images, 1.0
        if self.cutmix > 0 and (self.mixup == 0 or rng.random() < self.switch_prob):
            return self._paste(images, rng)
        share = rng.beta(self.mixup, self.mixup)
        return _blend(images, share), share

    def _paste(self, images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        height, width = as_planes(images).shape[2:]
        side = math.sqrt(1.0 - rng.beta(self.cutmix, self.cutmix))
        cut_h, cut_w = int(height * side), int(width * side)
        center_y, center_x = rng.integers(height), rng.integers(width)
        # Half of an odd side is rounded up at the end: the box keeps its size.
        top, bottom = np.clip((center_y - cut_h // 2, center_y + (cut_h + 1) // 2), 0, height)
        left, right = np.clip((center_x - cut_w // 2, center_x + (cut_w + 1) // 2), 0, width)
        pasted = images.copy()
        box = (slice(None), slice(None), slice(top, bottom), slice(left, right))
        as_planes(pasted)[box] = as_planes(images)[::-1][box]
        return pasted, 1.0 - float((bottom - top) * (right - left)) / (height * width)


def _blend(images: np.ndarray, share: float) -> np.ndarray:
    mixed = images.astype(np.float32) * share + images[::-1].astype(np.float32) * (1.0 - share)
    return (np.rint(mixed) if images.dtype == np.uint8 else mixed).astype(images.dtype)
