"""RandAugment on PIL images, with timm's strengths (timm, `data/auto_augment.py`)."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..config.augment_policy import parse_policy
from .pixel_seed import pixel_generator

_TOP = 10.0  # strengths are given on a scale of 0 to 10
Operation = Callable[[Image.Image, float, np.random.Generator, tuple], Image.Image]


class RandAugment:
    """Apply n random operations of strength m to an image (Cubuk et al., 2019).

    Args:
        policy: timm's syntax, e.g. `randaug-m9-mstd0.5-inc1`.
        fill: colour of the pixels that a geometric operation uncovers, 0-255 scale.

    The image is (H, W, 3) uint8, and so is the result.

    Raises:
        ValueError: a malformed policy, or more operations than it can draw.
    """

    def __init__(self, policy: str, fill: Sequence[float]):
        self.policy = parse_policy(policy)
        self.fill = tuple(min(255, round(value)) for value in fill)
        self.operations = _INCREASING if self.policy.increasing else _ORIGINAL
        self.weights = None
        if self.policy.weighted:
            weights = np.array([_WEIGHTS[name] for name in self.operations])
            self.weights = weights / weights.sum()
            if self.policy.num_ops > np.count_nonzero(weights):
                raise ValueError(
                    f"n{self.policy.num_ops} in policy {policy!r} exceeds the "
                    f"{np.count_nonzero(weights)} operations that w0 can draw"
                )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rng = pixel_generator(image)
        # timm draws the operations with replacement, unless they carry weights.
        replace = self.weights is None
        names = rng.choice(list(self.operations), self.policy.num_ops, replace, self.weights)
        picture = Image.fromarray(image)
        for name in names:
            if rng.random() < self.policy.prob:
                strength = self._draw_strength(rng)
                picture = self.operations[str(name)](picture, strength, rng, self.fill)
        return np.asarray(picture)

    def _draw_strength(self, rng: np.random.Generator) -> float:
        policy = self.policy
        if np.isinf(policy.magnitude_std):
            strength = rng.uniform(0, policy.magnitude)
        elif policy.magnitude_std > 0:
            strength = rng.normal(policy.magnitude, policy.magnitude_std)
        else:
            strength = policy.magnitude
        return float(np.clip(strength, 0.0, policy.magnitude_max))


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _affine(picture: Image.Image, matrix: tuple, fill: tuple) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _rotate(picture, strength, rng, fill):
    degrees = _sign(rng) * 30.0 * strength / _TOP
    return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)


def _shear_x(picture, strength, rng, fill):
    return _affine(picture, (1, _sign(rng) * 0.3 * strength / _TOP, 0, 0, 1, 0), fill)


def _shear_y(picture, strength, rng, fill):
    return _affine(picture, (1, 0, 0, _sign(rng) * 0.3 * strength / _TOP, 1, 0), fill)


def _translate_x(picture, strength, rng, fill):
    pixels = _sign(rng) * 0.45 * strength / _TOP * picture.width
    return _affine(picture, (1, 0, pixels, 0, 1, 0), fill)


def _translate_y(picture, strength, rng, fill):
    pixels = _sign(rng) * 0.45 * strength / _TOP * picture.height
    return _affine(picture, (1, 0, 0, 0, 1, pixels), fill)


def _posterize(increasing: bool) -> Operation:
    def posterize(picture, strength, rng, fill):
        bits = int(strength / _TOP * 4)
        bits = 4 - bits if increasing else bits
        return ImageOps.posterize(picture, max(1, bits))  # 0 bits, a black image, Pillow refuses

    return posterize


def _solarize(increasing: bool) -> Operation:
    def solarize(picture, strength, rng, fill):
        threshold = min(256, int(strength / _TOP * 256))
        return ImageOps.solarize(picture, 256 - threshold if increasing else threshold)

    return solarize


def _solarize_add(picture, strength, rng, fill):
    addend = min(128, int(strength / _TOP * 110))
    table = [min(255, value + addend) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


def _enhance(enhancer, increasing: bool) -> Operation:
    def enhance(picture, strength, rng, fill):
        if increasing:
            factor = max(0.1, 1.0 + _sign(rng) * 0.9 * strength / _TOP)
        else:
            factor = 1.8 * strength / _TOP + 0.1
        return enhancer(picture).enhance(factor)

    return enhance


def _operations(increasing: bool) -> dict[str, Operation]:
    return {
        "auto_contrast": lambda picture, strength, rng, fill: ImageOps.autocontrast(picture),
        "equalize": lambda picture, strength, rng, fill: ImageOps.equalize(picture),
        "invert": lambda picture, strength, rng, fill: ImageOps.invert(picture),
        "rotate": _rotate,
        "posterize": _posterize(increasing),
        "solarize": _solarize(increasing),
        "solarize_add": _solarize_add,
        "color": _enhance(ImageEnhance.Color, increasing),
        "contrast": _enhance(ImageEnhance.Contrast, increasing),
        "brightness": _enhance(ImageEnhance.Brightness, increasing),
        "sharpness": _enhance(ImageEnhance.Sharpness, increasing),
        "shear_x": _shear_x,
        "shear_y": _shear_y,
        "translate_x": _translate_x,
        "translate_y": _translate_y,
    }


_ORIGINAL = _operations(increasing=False)
_INCREASING = _operations(increasing=True)

# timm's weight set 0.
_WEIGHTS = {
    "rotate": 0.3,
    "shear_x": 0.2,
    "shear_y": 0.2,
    "translate_x": 0.1,
    "translate_y": 0.1,
    "color": 0.025,
    "sharpness": 0.025,
    "auto_contrast": 0.025,
    "solarize": 0.005,
    "solarize_add": 0.005,
    "contrast": 0.005,
    "brightness": 0.005,
    "equalize": 0.005,
    "posterize": 0.0,
    "invert": 0.0,
}
