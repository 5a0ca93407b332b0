"""Random erasing of a rectangle."""

import math

import numpy as np

from .layout import as_planes
from .pixel_seed import PixelSeeded


class RandomErasing(PixelSeeded):
    """Erase a random rectangle of an image (Zhong et al., 2017), as timm's `RandomErasing` does.

    Args:
        prob: probability of erasing.
        scale: area range of the rectangle, as a fraction of the image.
        ratio: aspect range of the rectangle, drawn evenly on a log scale.
        value: 0, fill with `mean`; random, with `mean + std * normal draw`, pixel by pixel.
        max_attempts: draws until a rectangle fits.
        mean, std: fill per channel in the image's own units.

    The image is (H, W, C) or (C, H, W); its type is kept, uint8 is rounded and clipped to 0-255.
    """

    def __init__(self, prob, scale, ratio, value, max_attempts, mean, std):
        self.prob, self.scale, self.max_attempts = prob, tuple(scale), max_attempts
        self.log_ratio = tuple(math.log(r) for r in ratio)
        self.random_fill = value == "random"
        self.mean = np.reshape(mean, (-1, 1, 1))
        self.std = np.reshape(std, (-1, 1, 1))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rng = self.generator(image)
        if rng.random() >= self.prob:
            return image
        channels, height, width = as_planes(image).shape
        for _ in range(self.max_attempts):
            area = rng.uniform(*self.scale) * height * width
            aspect = math.exp(rng.uniform(*self.log_ratio))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                image = image.copy()
                fill = self._fill(rng, channels, h, w, image)
                as_planes(image)[:, top : top + h, left : left + w] = fill
                return image
        return image

    def _fill(self, rng, channels: int, height: int, width: int, image: np.ndarray) -> np.ndarray:
        fill = np.broadcast_to(self.mean, (channels, height, width))
        if self.random_fill:
            fill = fill + self.std * rng.standard_normal((channels, height, width))
        if image.dtype == np.uint8:
            fill = np.clip(np.rint(fill), 0, 255)
        return fill.astype(image.dtype)
