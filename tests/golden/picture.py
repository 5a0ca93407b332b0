"""A fixed picture with smooth and rough parts, for make_randaugment.py and test_transforms.py."""

import numpy as np


def picture() -> np.ndarray:
    """Return (16, 20, 3) uint8."""
    y, x = np.mgrid[0:16, 0:20]
    smooth = np.stack([y * 9 + 30, x * 7 + 40, (x + y) * 4 + 20], axis=-1)
    rough = np.random.default_rng(0).integers(0, 256, (16, 20, 3))
    inside = ((x - 10) ** 2 + (y - 8) ** 2 < 16)[..., None]
    return np.where(inside, rough, smooth).astype(np.uint8)
