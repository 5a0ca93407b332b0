"""Augmentation policies: RandAugment, AutoAugment, 3-Augment, TrivialAugment and AugMix.

MindSpore's own operations of these names are not used. Its RandAugment and AutoAugment have neither
timm's strengths nor their standard deviation. Its TrivialAugmentWide produces images that
torchvision's cannot (no vertical shear or translation, other rotations: seen with 2.10). And since
all its random operations start from the same seed, the augmentation splits of an image would be
equal.

Each is a Python operation on PIL images. RandAugment and TrivialAugment run as such only for
splits: MindSpore's single operations fit (see `operations`), so `compile_policy` makes a table of a
thousand or more rows of them, drawn once from the policy's distribution, and
`RandomSelectSubpolicy` picks a row for each image.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from mindspore.dataset import vision
from PIL import Image

from .operations import (
    DESATURATE,
    OPERATIONS,
    TOP,
    TRIVIAL,
    Drawn,
    blur_randomly,
    moves,
    original_bits,
)
from .pixel_operations import PixelSeeded
from .policies import (
    AUTO_AUGMENT_TABLES,
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
        # MindCV's 14, which its recipes were measured with and `compile_policy` uses.
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
        self.pairs = AUTO_AUGMENT_TABLES[table.rstrip("r")]

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


_DRAWN = 4  # rows per pair of operations; each row comes twice, with opposite signs


def compile_policy(
    policy: str, fill: Sequence[float], size: int, first: Sequence = ()
) -> vision.RandomSelectSubpolicy | None:
    """Return a policy, see `parse_policy`, as one MindSpore operation; None if it needs Python.

    The operation maps an image (H, W, 3) uint8 to another. Only RandAugment and TrivialAugment
    compile: AutoAugment's tables rely on equalize and solarize_add, 3-Augment on a blur, AugMix on
    blending. A malformed policy is a ValueError.

    Args:
        fill: colour of the pixels that a geometric operation uncovers, 0-255 scale.
        size: side of the square image, pixels.
        first: (operation, probability) of what precedes every row, such as flips: as separate
            operations they would start from the same random numbers.
    """
    parsed = parse_policy(policy)
    if isinstance(parsed, RandAugmentPolicy):
        rows = _rand_augment_rows(parsed, fill_colour(fill), size)
    elif isinstance(parsed, TrivialAugmentPolicy):
        rows = _trivial_augment_rows(fill_colour(fill), size)
    else:
        return None
    return vision.RandomSelectSubpolicy([[*first, *row] for row in rows])


@lru_cache(4)
def _rand_augment_rows(policy: RandAugmentPolicy, fill: tuple, size: int) -> list[list[tuple]]:
    def compiled(name: str, strength: float, sign: float):
        operation = OPERATIONS[name]
        drawn = Drawn(strength, lambda: sign, (size, size), policy.increasing)
        return operation.mindspore(operation.value(drawn), size, fill)

    return [
        [(compiled(name, strength, turn * sign), policy.prob) for name, strength, sign in drawn]
        for drawn in draw_rand_augment(policy)
        for turn in (1.0, -1.0)
    ]


def draw_rand_augment(policy: RandAugmentPolicy) -> list[list[tuple[str, float, float]]]:
    """Return rows of (operation, strength, sign), always the same for a policy.

    Without weights, each pair of operations has equally many rows.
    """
    rng = np.random.default_rng(0)
    names = [name for name in WEIGHTS if OPERATIONS[name].mindspore]
    count = _DRAWN * len(names) ** 2
    if policy.weighted:
        shares = np.array([WEIGHTS[name] for name in names])
        shares = shares / shares.sum()
        chosen = [rng.choice(len(names), policy.num_ops, False, shares) for _ in range(count)]
    else:
        decks = [np.arange(count) // len(names) ** place % len(names) for place in (0, 1)]
        decks += [rng.permutation(decks[0]) for _ in range(2, policy.num_ops)]
        chosen = np.stack(decks[: policy.num_ops], 1)

    def drawn(name: str) -> tuple[str, float, float]:
        strength = draw_strength(rng, policy.magnitude, policy.magnitude_std, policy.magnitude_max)
        return name, strength, 1.0 if rng.random() < 0.5 else -1.0

    return [[drawn(names[index]) for index in row] for row in chosen]


@lru_cache(4)
def _trivial_augment_rows(fill: tuple, size: int) -> list[list[tuple]]:
    longest = 2 * max(len(row.strengths) for row in TRIVIAL.values())
    rows = []
    for row in TRIVIAL.values():
        signs = (1, -1) if row.is_signed else (1,)
        signed = [float(sign * strength) for strength in row.strengths for sign in signs]
        operations = [
            row.operation.mindspore(row.value(strength), size, fill) for strength in signed
        ]
        rows += [[(operation, 1.0)] for operation in operations] * (longest // len(operations))
    return rows
