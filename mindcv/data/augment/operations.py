"""Operations on one image by name: each for PIL images and, if there is one, as MindSpore's own.

The rules from strength to value are timm's (`data/auto_augment.py`, `AugmentOp`). Geometric
operations resample bilinearly.

How MindSpore's operations differ from Pillow's: invert, posterize and solarize are equal; the
enhancements and auto_contrast round where Pillow truncates, 1 level (color: 2). The geometric ones
sample at the same places, to 1/32 of a pixel, and blend the border into the fill colour where
Pillow has an edge. Equalize is OpenCV's, which counts the pixels of a level itself where Pillow
counts those below: a few levels lighter on most photographs, more if one level dominates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore.dataset import vision
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

TOP = 10.0  # strengths are given on a scale of 0 to 10


@dataclass(frozen=True)
class Drawn:
    """What determines the value of an operation."""

    strength: float  # on the scale of 0 to 10
    sign: Callable[[], float]  # draws 1 or -1; called by operations with two directions
    size: tuple[int, int]  # (width, height) of the image
    # All operations grow more severe with the strength; if False, as in the first implementations,
    # posterize and solarize grow milder and the enhancements go from weak to strong.
    increasing: bool = False

    def upto(self, largest: float) -> float:
        """Return the signed share of a largest value that the strength stands for."""
        return self.sign() * largest * self.strength / TOP


@dataclass(frozen=True)
class Operation:
    """An image operation with a value: degrees, slope, pixels, bits, threshold or factor."""

    pillow: Callable[[Image.Image, float, tuple], Image.Image]  # picture, value, fill colour
    # Value, side of the square image, fill colour; None if MindSpore has no such operation.
    mindspore: Callable[[float, int, tuple], Any] | None = None
    value: Callable[[Drawn], float] = lambda drawn: 0.0

    def apply(self, picture, strength, rng, fill, *, increasing: bool = False) -> Image.Image:
        def sign() -> float:
            return 1.0 if rng.random() < 0.5 else -1.0

        drawn = Drawn(strength, sign, picture.size, increasing)
        return self.pillow(picture, self.value(drawn), fill)


# From strength to value


def moves(axis: int, largest: float = 0.45) -> Callable[[Drawn], float]:
    """Return the rule of a translation by up to the share `largest` of the side."""
    return lambda drawn: drawn.upto(largest) * drawn.size[axis]


def _upto(largest: float) -> Callable[[Drawn], float]:
    return lambda drawn: drawn.upto(largest)


def original_bits(drawn: Drawn) -> int:
    """Keep 4 to 8 bits, as in AutoAugment's paper."""
    return 4 + int(drawn.strength / TOP * 4)


def _bits(drawn: Drawn) -> int:
    bits = int(drawn.strength / TOP * 4)
    # 0 bits would be a black image, which Pillow refuses.
    return max(1, 4 - bits if drawn.increasing else bits)


def _threshold(drawn: Drawn) -> int:
    threshold = min(256, int(drawn.strength / TOP * 256))
    return 256 - threshold if drawn.increasing else threshold


def _addend(drawn: Drawn) -> int:
    return min(128, int(drawn.strength / TOP * 110))


def _factor(drawn: Drawn) -> float:
    return max(0.1, 1.0 + drawn.upto(0.9)) if drawn.increasing else 1.8 * drawn.strength / TOP + 0.1


# On a PIL image


def _rotate(picture, degrees, fill):
    return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)


def _fetch(matrix: Callable[[float], tuple]):
    """Fetch each pixel (x, y) from where the matrix (a, b, c, d, e, f) of a value maps it."""

    def fetch(picture, value, fill):
        return picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            matrix(value),
            Image.Resampling.BILINEAR,
            fillcolor=fill,
        )

    return fetch


def _solarize_add(picture, addend, fill):
    table = [min(255, level + addend) if level < 128 else level for level in range(256)]
    return picture.point(table * 3)


def _enhance(enhancer):
    return lambda picture, factor, fill: enhancer(picture).enhance(factor)


def blur_randomly(picture, strength, rng, fill):
    """Blur by a radius drawn between 0.1 and up to 2 pixels."""
    radius = rng.uniform(0.1, 2.0 * min(1.0, strength / TOP))
    return picture.filter(ImageFilter.GaussianBlur(radius))


# MindSpore's


def _affine(fill: tuple, degrees: float = 0.0, translate=(0.0, 0.0), shear=(0.0, 0.0)):
    """Rotate counter-clockwise, shift by shares of the side, shear by degrees about the centre."""
    shift = [max(-1.0, min(1.0, share)) for share in translate]
    return vision.Affine(-degrees, shift, 1.0, list(shear), vision.Inter.BILINEAR, fill)


def _sheared_x(slope, side, fill):
    """Fetch (x, y) from (x + slope y, y): a shear about the corner."""
    degrees = math.degrees(math.atan(slope))
    return _affine(fill, translate=(-slope / 2, 0.0), shear=(degrees, 0.0))


def _sheared_y(slope, side, fill):
    degrees = math.degrees(math.atan(slope))
    return _affine(fill, translate=(0.0, -slope / 2), shear=(0.0, degrees))


def _solarized(threshold, side, fill):
    first = math.ceil(threshold)  # the first of 256 levels that is inverted
    return vision.Solarize((first, 255)) if first < 256 else vision.Posterize(8)


def _plain(pillow, mindspore) -> Operation:
    return Operation(
        lambda picture, value, fill: pillow(picture), lambda value, side, fill: mindspore()
    )


def _enhancement(enhancer, mindspore) -> Operation:
    return Operation(_enhance(enhancer), lambda factor, side, fill: mindspore(factor), _factor)


# RandAugment's operations; the draws depend on their order.
OPERATIONS = {
    "auto_contrast": _plain(ImageOps.autocontrast, vision.AutoContrast),
    "equalize": _plain(ImageOps.equalize, vision.Equalize),
    "invert": _plain(ImageOps.invert, vision.Invert),
    "rotate": Operation(
        _rotate,
        lambda degrees, side, fill: _affine(fill, degrees=degrees),
        _upto(30.0),
    ),
    "posterize": Operation(
        lambda picture, bits, fill: ImageOps.posterize(picture, bits),
        lambda bits, side, fill: vision.Posterize(bits),
        _bits,
    ),
    "solarize": Operation(
        lambda picture, threshold, fill: ImageOps.solarize(picture, threshold),
        _solarized,
        _threshold,
    ),
    "solarize_add": Operation(_solarize_add, None, _addend),
    "color": _enhancement(ImageEnhance.Color, vision.AdjustSaturation),
    "contrast": _enhancement(ImageEnhance.Contrast, vision.AdjustContrast),
    "brightness": _enhancement(ImageEnhance.Brightness, vision.AdjustBrightness),
    "sharpness": _enhancement(ImageEnhance.Sharpness, vision.AdjustSharpness),
    "shear_x": Operation(_fetch(lambda slope: (1, slope, 0, 0, 1, 0)), _sheared_x, _upto(0.3)),
    "shear_y": Operation(_fetch(lambda slope: (1, 0, 0, slope, 1, 0)), _sheared_y, _upto(0.3)),
    "translate_x": Operation(
        _fetch(lambda pixels: (1, 0, pixels, 0, 1, 0)),
        lambda pixels, side, fill: _affine(fill, translate=(-pixels / side, 0.0)),
        moves(0),
    ),
    "translate_y": Operation(
        _fetch(lambda pixels: (1, 0, 0, 0, 1, pixels)),
        lambda pixels, side, fill: _affine(fill, translate=(0.0, -pixels / side)),
        moves(1),
    ),
}
DESATURATE = Operation(
    _enhance(ImageEnhance.Color),
    None,
    lambda drawn: 1.0 - min(1.0, 0.5 + 0.5 * drawn.strength / TOP),
)
_IDENTITY = Operation(
    lambda picture, value, fill: picture, lambda value, side, fill: vision.Posterize(8)
)


@dataclass(frozen=True)
class TrivialRow:
    operation: Operation
    strengths: np.ndarray  # torchvision's values, drawn with equal probability
    is_signed: bool = False  # half of them are negated
    value: Callable[[float], float] = float  # from strength to the operation's value


_STEPS = np.linspace(0.0, 1.0, 31)
_ONE = np.zeros(1)


def _factor_of(strength: float) -> float:
    return 1.0 + strength


TRIVIAL = {
    "identity": TrivialRow(_IDENTITY, _ONE),
    "shear_x": TrivialRow(OPERATIONS["shear_x"], 0.99 * _STEPS, True),
    "shear_y": TrivialRow(OPERATIONS["shear_y"], 0.99 * _STEPS, True),
    "translate_x": TrivialRow(OPERATIONS["translate_x"], 32.0 * _STEPS, True, int),
    "translate_y": TrivialRow(OPERATIONS["translate_y"], 32.0 * _STEPS, True, int),
    "rotate": TrivialRow(OPERATIONS["rotate"], 135.0 * _STEPS, True),
    "brightness": TrivialRow(OPERATIONS["brightness"], 0.99 * _STEPS, True, _factor_of),
    "color": TrivialRow(OPERATIONS["color"], 0.99 * _STEPS, True, _factor_of),
    "contrast": TrivialRow(OPERATIONS["contrast"], 0.99 * _STEPS, True, _factor_of),
    "sharpness": TrivialRow(OPERATIONS["sharpness"], 0.99 * _STEPS, True, _factor_of),
    "posterize": TrivialRow(OPERATIONS["posterize"], 8 - np.rint(6 * _STEPS), False, int),
    "solarize": TrivialRow(OPERATIONS["solarize"], 255.0 - 255.0 * _STEPS),
    "auto_contrast": TrivialRow(OPERATIONS["auto_contrast"], _ONE),
    "equalize": TrivialRow(OPERATIONS["equalize"], _ONE),
}
