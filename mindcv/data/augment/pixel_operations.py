"""Operations on one image in NumPy and Pillow; draws depend on the image, not on the thread."""

import copy
import math
import zlib
from collections.abc import Callable, Sequence

import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import vision
from PIL import Image

from ..batches import common_seed
from ..image_files import as_picture

_CHANNELS = (1, 3)
# Principal components of ImageNet's RGB values on the 0-1 scale (pycls, `datasets/imagenet.py`),
# one per column, and their standard deviations.
_COMPONENTS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)
_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])


class PixelSeeded:
    """Base of the Python operations: their draws depend only on seed, pass and pixels.

    So runs repeat with any number of workers. `create_loader` counts the passes, through `OfPass`;
    in your own `Dataset.map` nothing does, and equal images get equal draws in every epoch.
    """

    seed: int | None = None  # None: MindSpore's, read when an image arrives
    split = 0  # number of the augmentation split: all splits of an image start from equal pixels
    epoch = 0  # of the image, like its copy: see `PASS`
    copy = 0

    def generator(self, image: np.ndarray) -> np.random.Generator:
        """Return the generator for this image, of any shape, uint8 or float32."""
        seed = ds.config.get_seed() if self.seed is None else self.seed
        checksum = zlib.crc32(np.ascontiguousarray(image))
        # The first copy draws the same as an image without copies.
        of_copy = (self.copy,) if self.copy else ()
        return np.random.default_rng((seed, self.epoch, self.split, checksum, *of_copy))

    def seeded(self, seed: int | None, epoch: int, split: int = 0, copy_: int = 0) -> "PixelSeeded":
        other = copy.copy(self)
        other.seed, other.epoch, other.split, other.copy = seed, epoch, split, copy_
        return other


class OfPass:
    """Maps the columns image and `PASS` by a Python operation that draws for each image's pass."""

    def __init__(self, operation: PixelSeeded, split: int = 0):
        self.operation, self.split = operation, split
        self.seed = common_seed()

    def __call__(self, image: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epoch, number = place.tolist()
        return self.operation.seeded(self.seed, epoch, self.split, number)(image), place


class RandomErasing(PixelSeeded):
    """Erase a random rectangle of an image (Zhong et al., 2017), as timm's `RandomErasing` does.

    The image is (H, W, C) or (C, H, W); its type is kept, uint8 is rounded and clipped to 0-255.

    Args:
        scale: area range of the rectangle, as a fraction of the image.
        ratio: aspect range of the rectangle, drawn uniformly on a log scale.
        value: fills with `mean + std * value`, a number or one per channel; random draws a normal
            value for each pixel.
        max_attempts: draws until a rectangle fits.
        mean, std: fill per channel in the image's own units.

    Raises:
        ValueError: value is neither random nor finite numbers.
    """

    def __init__(self, prob, scale, ratio, *, value, max_attempts, mean, std):
        self.prob, self.scale, self.max_attempts = prob, tuple(scale), max_attempts
        self.log_ratio = tuple(math.log(r) for r in ratio)
        self.random_fill = isinstance(value, str) and value == "random"
        fill = np.ravel(0.0 if self.random_fill else value)
        is_number = fill.dtype.kind in "iuf" and np.isfinite(fill).all()
        if not is_number or len(fill) not in (1, len(mean)):
            raise ValueError(
                f"re_value {value!r} is unknown; expected random, a number or one per channel"
            )
        self.std = np.reshape(std, (-1, 1, 1))
        self.mean = np.reshape(np.asarray(mean) + np.asarray(std) * fill, (-1, 1, 1))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.erase(image, self.generator(image))

    def erase(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image itself if nothing is erased, else a changed copy."""
        height, width = as_planes(image).shape[1:]
        box = self.rectangle(height, width, rng)
        if box is None:
            return image
        top, bottom, left, right = box
        image = image.copy()
        erased = as_planes(image)[:, top:bottom, left:right]
        erased[:] = self._fill(erased.shape, rng, image.dtype)
        return image

    def rectangle(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """Return top, bottom, left and right of the rectangle to erase, or None."""
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

    def _fill(self, shape: tuple, rng: np.random.Generator, dtype) -> np.ndarray:
        fill = np.broadcast_to(self.mean, shape)
        if self.random_fill:
            fill = fill + self.std * rng.standard_normal(shape)
        if dtype == np.uint8:
            fill = np.clip(np.rint(fill), 0, 255)
        return fill.astype(dtype)


def as_planes(images: np.ndarray) -> np.ndarray:
    """Return a writable view (…, C, H, W) of images with 1 or 3 channels, in either layout.

    The pipeline has both (…, H, W, C), the decoded bytes for networks that start with `Normalize`,
    and (…, C, H, W), planes of float32 for others.
    """
    is_last = images.shape[-1] in _CHANNELS and images.shape[-3] not in _CHANNELS
    return np.moveaxis(images, -1, -3) if is_last else images


class Lighting(PixelSeeded):
    """Shift the colour along ImageNet's principal components (Krizhevsky et al., 2012, 4.1).

    This is pycls' `transforms.lighting`, but for RGB instead of BGR. MindSpore's RandomLighting has
    the same statistics, but its draws depend on the thread. The image is (H, W, 3) uint8, and so is
    the result, rounded and clipped. `std` is the standard deviation of each component's factor;
    pycls trains with 0.1.
    """

    def __init__(self, std: float):
        self.std = std

    def __call__(self, image: np.ndarray) -> np.ndarray:
        shift = color_shift(self.generator(image).normal(0.0, self.std, 3))
        table = np.clip(np.rint(np.arange(256) + shift[:, None]), 0, 255).astype(int)
        return np.asarray(Image.fromarray(image).point(table.ravel().tolist()))


def color_shift(factors: Sequence[float]) -> np.ndarray:
    """Return what to add to R, G and B, 0-255 scale, for a factor of each component."""
    return 255.0 * _COMPONENTS @ (_DEVIATIONS * factors)


class ColorJitter(PixelSeeded):
    """Change brightness, contrast, saturation and hue in random order, as torchvision does.

    It calls MindSpore's operations with its own random factors. RandomColorAdjust is faster, but
    all of MindSpore's random operations start from one seed: two of them draw alike, so the
    augmentation splits of an image need this class. The image is (H, W, 3) uint8.

    Args:
        brightness, contrast, saturation: factors are uniform in [max(0, 1 - x), 1 + x].
        hue: the shift is uniform in [-hue, hue], as a fraction of the colour circle.
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


class PillowBilinear:
    """Resize an image, (H, W, C) uint8, with Pillow's bilinear filter, as torchvision and timm do.

    Pillow's filters widen as an image shrinks, so that every source pixel counts. An int `size` is
    the shorter side, with the aspect kept; a pair is (height, width).
    """

    def __init__(self, size: int | Sequence[int]):
        self.size = size

    def __call__(self, image: np.ndarray) -> np.ndarray:
        size, sides = self.size, image.shape[:2]
        if isinstance(size, int):
            size = [int(size * side / min(sides)) for side in sides]
        resized = as_picture(image).resize(tuple(size)[::-1], Image.Resampling.BILINEAR)
        return np.asarray(resized).reshape(*size, image.shape[2])


class RoundedCenterCrop:
    """Crop the centre; half of an odd margin rounds to even, where MindSpore truncates.

    A smaller image gets a black border first, as from torchvision.
    """

    def __init__(self, size: Sequence[int]):
        self.size = tuple(size)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        missing = [max(0, size - side) for size, side in zip(self.size, image.shape)]
        if any(missing):
            image = np.pad(image, [*((n // 2, n - n // 2) for n in missing), (0, 0)])
        top, left = (round((image.shape[axis] - size) / 2) for axis, size in enumerate(self.size))
        height, width = self.size
        return np.ascontiguousarray(image[top : top + height, left : left + width])


class FiveCrops:
    """Return the corners (upper, then lower ones, left first) and the centre, (5, H, W, C).

    Source of the order: torchvision `five_crop`.
    """

    def __init__(self, size: tuple[int, int], centre: Callable):
        self.size, self.centre = size, centre

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = self.size
        rows, columns = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
        corners = [image[row, column] for row in rows for column in columns]
        return np.stack([*corners, self.centre(image)])
