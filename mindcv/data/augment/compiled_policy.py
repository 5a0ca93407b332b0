"""RandAugment and TrivialAugment as one of MindSpore's own operations: no Python per image.

MindSpore's RandAugment and TrivialAugmentWide are not these (see `auto_augment`), but its single
operations are: a policy becomes a table of a thousand or more rows of them, drawn once from the
policy's distribution, and `RandomSelectSubpolicy` takes a row for each image.

How near the single operations come to timm's, which are Pillow's: invert, posterize and solarize
are equal; the enhancements and auto_contrast round where Pillow cuts off, 1 level (color: 2). The
geometric ones sample at the same places, to 1/32 of a pixel, and blend the border into the fill
colour where Pillow has an edge. Equalize is OpenCV's, which counts the pixels of a level itself
where Pillow counts those below: a few levels lighter on most photographs, more where one level
prevails. There is no solarize_add; MindCV's RandAugment has none either.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
from mindspore.dataset import vision

from .image_operations import TOP
from .pillow_policy import TRIVIAL, WEIGHTS, draw_strength
from .policies import RandAugmentPolicy, TrivialAugmentPolicy, parse_policy

_DRAWN = 4  # rows for each pair of operations, before their signs are turned


def compile_policy(
    policy: str, fill: Sequence[float], size: int, first: Sequence = ()
) -> vision.RandomSelectSubpolicy | None:
    """Return the operation that a policy string names, None where it has to be a Python one.

    Args:
        policy: see `parse_policy`. Compiled are RandAugment and TrivialAugment; AutoAugment's
            tables rest on equalize and solarize_add, 3-Augment on a blur, AugMix on blending.
        fill: colour of the pixels that a geometric operation uncovers, 0-255 scale.
        size: side of the image, which is square, pixels.
        first: (operation, probability) of what comes before in every row, such as flips: as
            operations of their own they would start from the same random numbers.

    The operation maps an image (H, W, 3) uint8 to another.

    Raises:
        ValueError: a malformed policy, or more operations than it can draw.
    """
    parsed = parse_policy(policy)
    colour = tuple(min(255, round(value)) for value in fill)
    if isinstance(parsed, RandAugmentPolicy):
        rows = _rand_augment_rows(parsed, colour)
    elif isinstance(parsed, TrivialAugmentPolicy):
        rows = _trivial_augment_rows(colour, size)
    else:
        return None
    return vision.RandomSelectSubpolicy([[*first, *row] for row in rows])


@functools.lru_cache(4)
def _rand_augment_rows(policy: RandAugmentPolicy, fill: tuple) -> list[list[tuple]]:
    rows = []
    for drawn in draw_rand_augment(policy):
        for turn in (1.0, -1.0):
            rows.append(
                [
                    (_strong(name, strength, turn * sign, policy.increasing, fill), policy.prob)
                    for name, strength, sign in drawn
                ]
            )
    return rows


def draw_rand_augment(policy: RandAugmentPolicy) -> list[list[tuple[str, float, float]]]:
    """Return rows of (operation, strength, sign), always the same ones for a policy.

    Without weights each pair of operations has the same number of rows.

    Raises:
        ValueError: more operations than have a weight.
    """
    rng = np.random.default_rng(0)
    names = [name for name in WEIGHTS if name != "solarize_add"]
    count = _DRAWN * len(names) ** 2
    if policy.weighted:
        shares = np.array([WEIGHTS[name] for name in names])
        if policy.num_ops > np.count_nonzero(shares):
            raise ValueError(
                f"n{policy.num_ops} exceeds the {np.count_nonzero(shares)} operations that w0 can "
                "draw"
            )
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


@functools.lru_cache(4)
def _trivial_augment_rows(fill: tuple, size: int) -> list[list[tuple]]:
    longest = 2 * max(len(values) for _, values, _ in TRIVIAL.values())
    rows = []
    for name, (_, values, is_signed) in TRIVIAL.items():
        signed = [sign * value for value in values for sign in ((1, -1) if is_signed else (1,))]
        operations = [_valued(name, float(value), size, fill) for value in signed]
        rows += [[(operation, 1.0)] for operation in operations] * (longest // len(operations))
    return rows


def _strong(name: str, strength: float, sign: float, increasing: bool, fill: tuple):
    """Return the operation of a strength; see `create_operations`, whose rules these are."""
    share = strength / TOP
    if name == "rotate":
        return _affine(fill, degrees=sign * 30.0 * share)
    if name in ("shear_x", "shear_y"):
        return _shear(name, sign * 0.3 * share, fill)
    if name in ("translate_x", "translate_y"):
        return _translate(name, sign * 0.45 * share, fill)
    if name == "posterize":
        bits = int(share * 4)
        return vision.Posterize(max(1, 4 - bits if increasing else bits))
    if name == "solarize":
        threshold = min(256, int(share * 256))
        return _solarize(256 - threshold if increasing else threshold)
    if name in _ENHANCEMENTS:
        factor = max(0.1, 1.0 + sign * 0.9 * share) if increasing else 1.8 * share + 0.1
        return _ENHANCEMENTS[name](factor)
    return _PLAIN[name]()


def _valued(name: str, value: float, size: int, fill: tuple):
    """Return TrivialAugment's operation of a value."""
    if name == "rotate":
        return _affine(fill, degrees=value)
    if name in ("shear_x", "shear_y"):
        return _shear(name, value, fill)
    if name in ("translate_x", "translate_y"):
        return _translate(name, int(value) / size, fill)
    if name == "posterize":
        return vision.Posterize(int(value))
    if name == "solarize":
        return _solarize(math.ceil(value))
    if name in _ENHANCEMENTS:
        return _ENHANCEMENTS[name](1.0 + value)
    return _PLAIN[name]()


_ENHANCEMENTS = {
    "brightness": vision.AdjustBrightness,
    "color": vision.AdjustSaturation,
    "contrast": vision.AdjustContrast,
    "sharpness": vision.AdjustSharpness,
}
_PLAIN = {
    "auto_contrast": vision.AutoContrast,
    "equalize": vision.Equalize,
    "invert": vision.Invert,
    "identity": lambda: vision.Posterize(8),
}


def _solarize(threshold: int):
    """Invert the levels from a threshold of 0 to 256 on."""
    return vision.Solarize((threshold, 255)) if threshold < 256 else vision.Posterize(8)


def _affine(fill: tuple, degrees: float = 0.0, translate=(0.0, 0.0), shear=(0.0, 0.0)):
    """Turn counter-clockwise, shift by shares of the side, shear by degrees about the centre."""
    shift = [max(-1.0, min(1.0, share)) for share in translate]
    return vision.Affine(-degrees, shift, 1.0, list(shear), vision.Inter.BILINEAR, fill)


def _shear(name: str, slope: float, fill: tuple):
    """Fetch (x, y) from (x + slope y, y), or (x, y + slope x): a shear about the corner."""
    degrees = math.degrees(math.atan(slope))
    if name == "shear_x":
        return _affine(fill, translate=(-slope / 2, 0.0), shear=(degrees, 0.0))
    return _affine(fill, translate=(0.0, -slope / 2), shear=(0.0, degrees))


def _translate(name: str, share: float, fill: tuple):
    """Fetch from a share of the side to the right, or below."""
    return _affine(fill, translate=(-share, 0.0) if name == "translate_x" else (0.0, -share))
