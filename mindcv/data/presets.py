"""Transforms and mixing under MindCV's function names: the same operations, its arguments."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ConfigError
from .augment.auto_augment import create_auto_augment
from .augment.batch_operations import Mixing
from .augment.pixel_operations import PixelSeeded
from .preprocessing import DEFAULT_CROP_PCT, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from .transforms import Transforms, create_transforms

_logger = logging.getLogger(__name__)


def transforms_imagenet_train(
    image_resize: int | Sequence[int] = 224,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (0.75, 1.333),
    hflip: float = 0.5,
    vflip: float = 0.0,
    color_jitter: float | Sequence[float] | None = None,
    auto_augment: str | None = None,
    interpolation: str = "bilinear",
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
    re_prob: float = 0.0,
    re_scale: Sequence[float] = (0.02, 0.33),
    re_ratio: Sequence[float] = (0.3, 3.3),
    re_value: float | Sequence[float] | str = 0,
    re_max_attempts: int = 10,
    separate: bool = False,
) -> Transforms:
    """Return the training operations of `create_transforms` for image files."""
    return create_transforms(is_training=True, **locals())


def transforms_imagenet_eval(
    image_resize: int | Sequence[int] = 224,
    crop_pct: float = DEFAULT_CROP_PCT,
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    std: Sequence[float] = IMAGENET_DEFAULT_STD,
    interpolation: str = "bilinear",
) -> Transforms:
    """Return the evaluation operations of `create_transforms` for image files."""
    return create_transforms(**locals())


def transforms_cifar(resize: int | Sequence[int] = 224, is_training: bool = True) -> Transforms:
    """Return the operations of `create_transforms` for CIFAR-10."""
    return create_transforms("cifar10", resize, is_training)


def transforms_mnist(resize: int | Sequence[int] = 224) -> Transforms:
    """Return the evaluation operations of `create_transforms` for MNIST."""
    return create_transforms("mnist", resize)


def auto_augment_transform(configs: str, hparams: Mapping[str, Any]) -> PixelSeeded:
    """Return the Python operation of a policy: autoaug, autoaugr or 3a, see `parse_policy`.

    Args:
        hparams: img_mean is the fill colour, 0-255 scale, by default a grey of 128. Other keys of
            MindCV change nothing, and the log says so.

    Raises:
        ValueError: a malformed policy, or one of another function.
    """
    return _policy(configs, hparams, ("autoaug", "autoaugr", "3a"))


def rand_augment_transform(configs: str, hparams: Mapping[str, Any]) -> PixelSeeded:
    """Return RandAugment, randaug-…, as a Python operation; see `auto_augment_transform`."""
    return _policy(configs, hparams, ("randaug",))


def trivial_augment_wide_transform(configs: str, hparams: Mapping[str, Any]) -> PixelSeeded:
    """Return TrivialAugmentWide as a Python operation; see `auto_augment_transform`."""
    return _policy(configs, hparams, ("trivialaugwide",))


def augment_and_mix_transform(
    configs: str, hparams: Mapping[str, Any] | None = None
) -> PixelSeeded:
    """Return AugMix, augmix-…, as a Python operation; see `auto_augment_transform`."""
    return _policy(configs, hparams, ("augmix",))


def _policy(configs: str, hparams: Mapping[str, Any] | None, heads: Sequence[str]) -> PixelSeeded:
    if configs.split("-")[0] not in heads:
        raise ValueError(
            f"policy {configs!r} does not belong to this function, which takes {', '.join(heads)}"
        )
    hparams = hparams or {}
    # MindCV reads translate_const nowhere either.
    unused = sorted(hparams.keys() - {"img_mean", "translate_const"})
    if unused:
        _logger.warning(
            "hparams %s: not used; policies resample bilinearly, and their other settings stand in "
            "the policy string",
            ", ".join(unused),
        )
    return create_auto_augment(configs, hparams.get("img_mean", (128, 128, 128)))


class Mixup(PixelSeeded):
    """Mixup and CutMix of a batch, see `Mixing`, for your own `Dataset.map` or loop.

    Maps images (N, C, H, W) or (N, H, W, C) and labels (N,) to float32 images and soft labels
    (N, num_classes). Draws depend on MindSpore's seed and the images. Set `mixup_enabled` to False
    to stop mixing.

    Args:
        mixup_alpha, cutmix_alpha: parameters of the Beta distributions; 0: off.
        cutmix_minmax: range of the box's sides, as shares of the image's; replaces cutmix_alpha.
        prob: of mixing a batch at all.
        switch_prob: probability of CutMix if both are on.
        mode: batch; MindCV's pair and elem fail at the first batch.
        correct_lam: let labels follow the box where the border clips it.
        label_smoothing: share of the labels that is spread over all classes.

    Raises:
        ConfigError: another mode.
    """

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
    ):
        if mode != "batch":
            raise ConfigError(f"mode {mode!r} of Mixup: expected batch, the only one that exists")
        self.mixing = Mixing(
            mixup_alpha,
            1.0 if cutmix_minmax else cutmix_alpha,
            prob=prob,
            num_classes=num_classes,
            switch_prob=switch_prob,
            minmax=cutmix_minmax and tuple(cutmix_minmax),
            follows_box=correct_lam,
        )
        self.label_smoothing, self.mixup_enabled = label_smoothing, True

    def __call__(self, x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mixing = self.mixing if self.mixup_enabled else replace(self.mixing, prob=0.0)
        images, targets = mixing.mix(x, target, 0, self.generator(x))
        spread = self.label_smoothing / mixing.num_classes
        targets = np.stack(targets) * (1.0 - self.label_smoothing) + spread
        return np.stack(images).astype(np.float32), targets.astype(np.float32)
