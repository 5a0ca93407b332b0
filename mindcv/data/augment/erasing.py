"""Random erasing of a rectangle."""

import math

import mindspore.dataset as ds
import numpy as np

from ..layout import as_planes
from .pixel_seed import PixelSeeded

_DRAWS_OF_ERASING = 1  # tells its random numbers from those of mixing


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
        return self.erase(image, self.generator(image))

    def erase(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image itself where nothing is erased, else a changed copy."""
        channels, height, width = as_planes(image).shape
        box = self.rectangle(height, width, rng)
        if box is None:
            return image
        top, bottom, left, right = box
        image = image.copy()
        fill = self._fill(rng, channels, bottom - top, right - left, image)
        as_planes(image)[:, top:bottom, left:right] = fill
        return image

    def rectangle(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """Return top, bottom, left and right of what is erased; None: nothing."""
        if rng.random() >= self.prob:
            return None
        for _ in range(self.max_attempts):
            area = rng.uniform(*self.scale) * height * width
            aspect = math.exp(rng.uniform(*self.log_ratio))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                return top, top + h, left, left + w
        return None

    def _fill(self, rng, channels: int, height: int, width: int, image: np.ndarray) -> np.ndarray:
        fill = np.broadcast_to(self.mean, (channels, height, width))
        if self.random_fill:
            fill = fill + self.std * rng.standard_normal((channels, height, width))
        if image.dtype == np.uint8:
            fill = np.clip(np.rint(fill), 0, 255)
        return fill.astype(image.dtype)


class EraseInBatch:
    """Erase in the images of a batch: one call of Python for all, where `Dataset.map` needs many.

    The draws belong to MindSpore's seed as it is now, epoch, batch and shard.

    Args:
        erasing: what is done to each image.
        shard_id: makes the draws of the processes differ.
    """

    def __init__(self, erasing: RandomErasing, shard_id: int = 0):
        self.erasing, self.shard_id = erasing, shard_id
        self.seed = ds.config.get_seed()

    def __call__(self, images: list, places: list, batch_info) -> tuple[list]:
        """Erase; a `per_batch_map` of `Dataset.batch` on the columns image and `PASS`."""
        place = (int(places[0][0]), batch_info.get_batch_num(), self.shard_id, _DRAWS_OF_ERASING)
        rng = np.random.default_rng((self.seed, *place))
        return ([self.erasing.erase(image, rng) for image in images],)
