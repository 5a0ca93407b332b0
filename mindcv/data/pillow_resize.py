"""Resizing and cropping as torchvision and timm do it to a Pillow image, pixel for pixel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


class PillowBilinear:
    """Resize an image (H, W, 3) uint8 by Pillow's bilinear filter.

    Pillow's filters widen as an image is reduced, so that each pixel of the source counts.

    Args:
        size: of the shorter side, which keeps the aspect; or (height, width).
    """

    def __init__(self, size: int | Sequence[int]):
        self.size = size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        size = self.size
        if isinstance(size, int):
            short = min(image.shape[:2])
            size = [int(size * side / short) for side in image.shape[:2]]
        picture = Image.fromarray(image)
        return np.asarray(picture.resize(tuple(size)[::-1], Image.Resampling.BILINEAR))


class RoundedCenterCrop:
    """Keep the middle square: half of an odd margin is rounded to even, where MindSpore cuts off.

    Args:
        size: side of the square, pixels; at most those of the image.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        top, left = (round((side - self.size) / 2) for side in image.shape[:2])
        return np.ascontiguousarray(image[top : top + self.size, left : left + self.size])
