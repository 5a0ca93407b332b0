"""Operations on a PIL image by name and strength (timm, `data/auto_augment.py`, `AugmentOp`).

Geometric operations resample bilinearly.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

TOP = 10.0  # strengths are given on a scale of 0 to 10
Operation = Callable[[Image.Image, float, np.random.Generator, tuple], Image.Image]


def create_operations(increasing: bool, translate: float = 0.45) -> dict[str, Operation]:
    """Return name to operation: (picture, strength, generator, fill colour) to picture.

    Args:
        increasing: all grow more severe with the strength; otherwise, as the first implementations
            had it, posterize and solarize grow milder and the enhancements go from weak to strong.
        translate: share of the side that the strongest translation moves by.
    """
    return {
        "auto_contrast": lambda picture, strength, rng, fill: ImageOps.autocontrast(picture),
        "equalize": lambda picture, strength, rng, fill: ImageOps.equalize(picture),
        "invert": lambda picture, strength, rng, fill: ImageOps.invert(picture),
        "rotate": _rotate,
        "posterize": posterize_increasing if increasing else _posterize,
        "solarize": _solarize(increasing),
        "solarize_add": _solarize_add,
        "color": _enhance(ImageEnhance.Color, increasing),
        "contrast": _enhance(ImageEnhance.Contrast, increasing),
        "brightness": _enhance(ImageEnhance.Brightness, increasing),
        "sharpness": _enhance(ImageEnhance.Sharpness, increasing),
        "shear_x": _shear_x,
        "shear_y": _shear_y,
        "translate_x": _translate(translate, horizontal=True),
        "translate_y": _translate(translate, horizontal=False),
    }


def affine(picture: Image.Image, matrix: tuple, fill: tuple) -> Image.Image:
    """Fetch each pixel (x, y) from where the matrix (a, b, c, d, e, f) maps it."""
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )


def posterize_increasing(picture, strength, rng, fill):
    """Keep 4 bits down to 1."""
    return _keep_bits(picture, 4 - int(strength / TOP * 4))


def posterize_original(picture, strength, rng, fill):
    """Keep 4 bits up to 8, as AutoAugment's paper has it."""
    return _keep_bits(picture, 4 + int(strength / TOP * 4))


def desaturate(picture, strength, rng, fill):
    """Take half up to all of the colour away."""
    share = min(1.0, 0.5 + 0.5 * strength / TOP)
    return ImageEnhance.Color(picture).enhance(1.0 - share)


def blur_randomly(picture, strength, rng, fill):
    """Blur by a radius drawn between 0.1 and up to 2 pixels."""
    radius = rng.uniform(0.1, 2.0 * min(1.0, strength / TOP))
    return picture.filter(ImageFilter.GaussianBlur(radius))


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _rotate(picture, strength, rng, fill):
    degrees = _sign(rng) * 30.0 * strength / TOP
    return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)


def _shear_x(picture, strength, rng, fill):
    return affine(picture, (1, _sign(rng) * 0.3 * strength / TOP, 0, 0, 1, 0), fill)


def _shear_y(picture, strength, rng, fill):
    return affine(picture, (1, 0, 0, _sign(rng) * 0.3 * strength / TOP, 1, 0), fill)


def _translate(largest: float, horizontal: bool) -> Operation:
    def translate(picture, strength, rng, fill):
        side = picture.width if horizontal else picture.height
        pixels = _sign(rng) * largest * strength / TOP * side
        return affine(
            picture, (1, 0, pixels, 0, 1, 0) if horizontal else (1, 0, 0, 0, 1, pixels), fill
        )

    return translate


def _posterize(picture, strength, rng, fill):
    return _keep_bits(picture, int(strength / TOP * 4))


def _keep_bits(picture: Image.Image, bits: int) -> Image.Image:
    return ImageOps.posterize(picture, max(1, bits))  # 0 bits, a black image, Pillow refuses


def _solarize(increasing: bool) -> Operation:
    def solarize(picture, strength, rng, fill):
        threshold = min(256, int(strength / TOP * 256))
        return ImageOps.solarize(picture, 256 - threshold if increasing else threshold)

    return solarize


def _solarize_add(picture, strength, rng, fill):
    addend = min(128, int(strength / TOP * 110))
    table = [min(255, value + addend) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


def _enhance(enhancer, increasing: bool) -> Operation:
    def enhance(picture, strength, rng, fill):
        if increasing:
            factor = max(0.1, 1.0 + _sign(rng) * 0.9 * strength / TOP)
        else:
            factor = 1.8 * strength / TOP + 0.1
        return enhancer(picture).enhance(factor)

    return enhance
