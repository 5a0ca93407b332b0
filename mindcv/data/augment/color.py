"""Random changes of colour that MindSpore's own operations do not serve."""

from collections.abc import Sequence

import numpy as np
from mindspore.dataset import vision
from PIL import Image

from .pixel_seed import PixelSeeded

# Principal components of ImageNet's RGB values on the scale 0-1 (pycls, `datasets/imagenet.py`):
# a column each, and their standard deviations.
_COMPONENTS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)
_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])


class Lighting(PixelSeeded):
    """Shift the colour along ImageNet's principal components (Krizhevsky et al., 2012, 4.1).

    As pycls' `transforms.lighting` does with its BGR images. Ours are RGB; the components are too.
    MindSpore's RandomLighting has the same statistics, but its draws depend on the thread.

    Args:
        std: standard deviation of the factor of each component; pycls trains with 0.1.

    The image is (H, W, 3) uint8 and so is the result, rounded and clipped.
    """

    def __init__(self, std: float):
        self.std = std

    def __call__(self, image: np.ndarray) -> np.ndarray:
        shift = color_shift(self.generator(image).normal(0.0, self.std, 3))
        table = np.clip(np.rint(np.arange(256) + shift[:, None]), 0, 255).astype(int)
        return np.asarray(Image.fromarray(image).point(table.ravel().tolist()))


def color_shift(factors: Sequence[float]) -> np.ndarray:
    """Return what is added to R, G and B, 0-255 scale, for a factor of each component."""
    return 255.0 * _COMPONENTS @ (_DEVIATIONS * factors)


class ColorJitter(PixelSeeded):
    """Change brightness, contrast, saturation and hue in random order, as torchvision does.

    It calls MindSpore's operations with factors that it draws itself. RandomColorAdjust does the
    same faster, but two of them draw alike, as all of MindSpore's random operations start from one
    seed: the augmentation splits of an image need this one.

    Args:
        brightness, contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x].
        hue: the shift is uniform in [-hue, hue], as a fraction of the colour circle.

    The image is (H, W, 3) uint8, and so is the result.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float = 0.0):
        self.changes = [
            (vision.AdjustBrightness, max(0.0, 1.0 - brightness), 1.0 + brightness),
            (vision.AdjustContrast, max(0.0, 1.0 - contrast), 1.0 + contrast),
            (vision.AdjustSaturation, max(0.0, 1.0 - saturation), 1.0 + saturation),
            (vision.AdjustHue, -hue, hue),
        ]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rng = self.generator(image)
        for index in rng.permutation(len(self.changes)):
            operation, low, high = self.changes[index]
            if low < high:
                image = operation(rng.uniform(low, high))(image)
        return image
