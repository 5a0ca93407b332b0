"""Augmentation policies on PIL images: RandAugment, AutoAugment, 3-Augment, TrivialAugment, AugMix.

MindSpore's own operations of these names are not used. Its RandAugment and AutoAugment have neither
timm's strengths nor their standard deviation. Its TrivialAugmentWide produces images that
torchvision's cannot (no vertical shear or translation, other rotations: seen with 2.10). And since
all its random operations start from the same seed, the augmentation splits of an image would be
equal.

RandAugment and TrivialAugment run here only for splits; otherwise see `compiled_policy`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from .operations import DESATURATE, OPERATIONS, TOP, TRIVIAL, blur_randomly, moves, original_bits
from .pixel_operations import PixelSeeded
from .policies import (
    WEIGHTS,
    AugMixPolicy,
    AutoAugmentPolicy,
    RandAugmentPolicy,
    TrivialAugmentPolicy,
    parse_policy,
)


def create_auto_augment(policy: str, fill: Sequence[float]) -> PixelSeeded:
    """Return the Python operation of a policy on an image (H, W, 3) uint8.

    `fill` is the colour of the pixels that a geometric operation uncovers, 0-255 scale.

    Raises:
        ValueError: a malformed policy, see `parse_policy`.
    """
    kinds = {
        RandAugmentPolicy: RandAugment,
        AutoAugmentPolicy: AutoAugment,
        TrivialAugmentPolicy: TrivialAugmentWide,
        AugMixPolicy: AugMix,
    }
    return kinds[type(parse_policy(policy))](policy, fill)


class _Policy(PixelSeeded):
    def __init__(self, policy: str, fill: Sequence[float]):
        self.policy = parse_policy(policy)
        self.fill = fill_colour(fill)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(self.augment(Image.fromarray(image), self.generator(image)))

    def augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        raise NotImplementedError


def fill_colour(fill: Sequence[float]) -> tuple[int, ...]:
    return tuple(min(255, round(value)) for value in fill)


class RandAugment(_Policy):
    """Apply n random operations of strength m (Cubuk et al., 2019), as timm does."""

    def __init__(self, policy: str, fill: Sequence[float]):
        super().__init__(policy, fill)
        increasing = self.policy.increasing
        # MindCV's 14, which its recipes were measured with and `compiled_policy` uses.
        self.operations = {
            name: partial(operation.apply, increasing=increasing)
            for name, operation in OPERATIONS.items()
            if name != "solarize_add"  # which timm has as well
        }
        self.weights = None
        if self.policy.weighted:
            weights = np.array([WEIGHTS[name] for name in self.operations])
            self.weights = weights / weights.sum()

    def augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        policy = self.policy
        # timm draws with replacement, unless the operations have weights.
        may_repeat = self.weights is None
        names = rng.choice(list(self.operations), policy.num_ops, may_repeat, self.weights)
        for name in names:
            if rng.random() < policy.prob:
                strength = draw_strength(
                    rng, policy.magnitude, policy.magnitude_std, policy.magnitude_max
                )
                picture = self.operations[str(name)](picture, strength, rng, self.fill)
        return picture


class AutoAugment(_Policy):
    """Apply a random row of a table of operations (Cubuk et al., 2018), as timm does."""

    def __init__(self, policy: str, fill: Sequence[float]):
        super().__init__(policy, fill)
        table = self.policy.table
        self.operations = {name: operation.apply for name, operation in OPERATIONS.items()}
        posterize = OPERATIONS["posterize"]
        if table.endswith("r"):
            self.operations["posterize"] = partial(posterize.apply, increasing=True)
        elif table == "original":
            self.operations["posterize"] = replace(posterize, value=original_bits).apply
        self.operations |= {"desaturate": DESATURATE.apply, "blur_randomly": blur_randomly}
        self.pairs = _TABLES[table.rstrip("r")]

    def augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        for name, prob, magnitude in self.pairs[rng.integers(len(self.pairs))]:
            if rng.random() < prob:
                strength = draw_strength(rng, magnitude, self.policy.magnitude_std)
                picture = self.operations[name](picture, strength, rng, self.fill)
        return picture


class TrivialAugmentWide(_Policy):
    """Apply one operation at one of 31 strengths (Müller and Hutter, 2021), as torchvision does.

    Resampling is bilinear and there is a fill colour; in torchvision both are options.
    """

    def augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        row = TRIVIAL[rng.choice(list(TRIVIAL))]
        strength = float(row.strengths[rng.integers(len(row.strengths))])
        if row.is_signed and rng.random() < 0.5:
            strength = -strength
        return row.operation.pillow(picture, row.value(strength), self.fill)


class AugMix(_Policy):
    """Blend an image with averaged chains of operations (Hendrycks et al., 2020), as timm does."""

    def __init__(self, policy: str, fill: Sequence[float]):
        super().__init__(policy, fill)
        moved = {
            name: replace(OPERATIONS[name], value=moves(axis, largest=0.3))
            for axis, name in enumerate(("translate_x", "translate_y"))
        }
        self.operations = {
            name: partial(operation.apply, increasing=True)
            for name, operation in (OPERATIONS | moved).items()
            if name not in ("invert", "solarize_add")
        }

    def augment(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        policy = self.policy
        shares = np.float32(rng.dirichlet([policy.alpha] * policy.width))
        own_share = np.float32(rng.beta(policy.alpha, policy.alpha))
        mixed = np.zeros((picture.height, picture.width, 3), np.float32)
        for share in shares:
            depth = policy.depth or rng.integers(1, 4)
            chain = picture
            for name in rng.choice(list(self.operations), depth):
                strength = draw_strength(rng, policy.magnitude, policy.magnitude_std)
                chain = self.operations[str(name)](chain, strength, rng, self.fill)
            mixed += share * np.asarray(chain, np.float32)
        mixed = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))
        return Image.blend(picture, mixed, own_share)


def draw_strength(
    rng: np.random.Generator, magnitude: float, deviation: float, largest: float = TOP
) -> float:
    """Draw a strength: normal, uniform if the deviation is infinite, constant if it is 0."""
    if np.isinf(deviation):
        strength = rng.uniform(0, magnitude)
    elif deviation > 0:
        strength = rng.normal(magnitude, deviation)
    else:
        strength = magnitude
    return float(np.clip(strength, 0.0, largest))


# AutoAugment's tables: (operation, probability, strength), one or two in a row.
_TABLES = {
    # Table 9 of the paper.
    "original": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
        (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
        (("color", 0.4, 0), ("equalize", 0.6, 3)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    ),
    # EfficientNet's TPU code, `autoaugment.py`, policy v0.
    "v0": (
        (("equalize", 0.8, 1), ("shear_y", 0.8, 4)),
        (("color", 0.4, 9), ("equalize", 0.6, 3)),
        (("color", 0.4, 1), ("rotate", 0.6, 8)),
        (("solarize", 0.8, 3), ("equalize", 0.4, 7)),
        (("solarize", 0.4, 2), ("solarize", 0.6, 2)),
        (("color", 0.2, 0), ("equalize", 0.8, 8)),
        (("equalize", 0.4, 8), ("solarize_add", 0.8, 3)),
        (("shear_x", 0.2, 9), ("rotate", 0.6, 8)),
        (("color", 0.6, 1), ("equalize", 1.0, 2)),
        (("invert", 0.4, 9), ("rotate", 0.6, 0)),
        (("equalize", 1.0, 9), ("shear_y", 0.6, 3)),
        (("color", 0.4, 7), ("equalize", 0.6, 0)),
        (("posterize", 0.4, 6), ("auto_contrast", 0.4, 7)),
        (("solarize", 0.6, 8), ("color", 0.6, 9)),
        (("solarize", 0.2, 4), ("rotate", 0.8, 9)),
        (("rotate", 1.0, 7), ("translate_y", 0.8, 9)),
        (("shear_x", 0.0, 0), ("solarize", 0.8, 4)),
        (("shear_y", 0.8, 0), ("color", 0.6, 4)),
        (("color", 1.0, 0), ("rotate", 0.6, 2)),
        (("equalize", 0.8, 4), ("equalize", 0.0, 8)),
        (("equalize", 1.0, 4), ("auto_contrast", 0.6, 2)),
        (("shear_y", 0.4, 7), ("solarize_add", 0.6, 7)),
        (("posterize", 0.8, 2), ("solarize", 0.6, 10)),
        (("solarize", 0.6, 8), ("equalize", 0.6, 1)),
        (("color", 0.8, 6), ("rotate", 0.4, 5)),
    ),
    # 3-Augment: solarize at half the scale, grey, blur of 0.1 to 2 pixels.
    "3a": (
        (("solarize", 1.0, 5),),
        (("desaturate", 1.0, 10),),
        (("blur_randomly", 1.0, 10),),
    ),
}
