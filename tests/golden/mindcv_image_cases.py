"""Images, options and draws for make_mindcv_images.py and conformance/test_images.py."""

import io

import numpy as np
from PIL import Image

# Operations with nothing to draw: (dataset, size, training, options).
WHOLE = dict(scale=(1.0, 1.0), ratio=(1.5, 1.5), hflip=0.0)
CASES = {
    "eval": ("", 24, False, {}),
    "eval in capitals": ("ImageNet", 24, False, dict(interpolation="BICUBIC")),
    "eval area": ("", 24, False, dict(interpolation="area")),
    "eval nearest": ("", 24, False, dict(interpolation="Nearest")),
    "eval crop_pct": ("", 24, False, dict(crop_pct=0.6)),
    "eval height and width": ("", (24, 40), False, {}),
    "eval equal sides": ("", (24, 24), False, dict(crop_pct=0.7)),
    "eval mean and std": ("", 24, False, dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0])),
    "train": ("", 24, True, WHOLE),
    "train in capitals": ("", 24, True, dict(WHOLE, interpolation="BILINEAR")),
    "train height and width": ("", (24, 40), True, WHOLE),
    "cifar10": ("CIFAR10", 48, False, {}),
    "mnist": ("MNIST", 48, False, {}),
    "mnist train": ("MNIST", 48, True, {}),
}
POLICIES = (
    "randaug",
    "randaug-m7",
    "randaug-m9-n3-inc1",
    "randaug-m7-mstd0.5",
    "randaug-m9-mstd1.5",
    "randaug-m9-mstd0.5-inc0",
    "randaug-m5-mmax12-mstd0.5",
    "randaug-w0-n3-mstd0.5",
    "autoaug",
    "autoaug-mstd0.5",
    "autoaugr-mstd0.5",
    "3a-mstd0.5",
    "augmix",
    "augmix-m5-w4-d2",
    "augmix-a2",
    "trivialaugwide",
    "trivialaugwide-m20",
)

MIXES = {
    "mixup": (dict(mixup_alpha=0.2), 0.3, []),
    "mixup without smoothing": (dict(mixup_alpha=0.2, label_smoothing=0.0), 0.3, []),
    "cutmix": (dict(mixup_alpha=0.0, cutmix_alpha=1.0), 0.75, [6, 9]),
    "cutmix at the border": (dict(mixup_alpha=0.0, cutmix_alpha=1.0), 0.75, [0, 15]),
    "cutmix, share as drawn": (
        dict(mixup_alpha=0.0, cutmix_alpha=1.0, correct_lam=False),
        0.75,
        [0, 15],
    ),
    "cutmix of a range": (dict(cutmix_minmax=(0.2, 0.8), mixup_alpha=0.0), 0.5, [8, 6, 3, 5]),
    "never": (dict(prob=0.0), 0.3, []),
}

LOADERS = {
    "no transform": dict(batch_size=2),
    "no transform, training": dict(batch_size=2, is_training=True),
    "drop_remainder": dict(batch_size=2, drop_remainder=True),
    "mixup": dict(batch_size=2, is_training=True, mixup=0.2, cutmix_prob=1.0, num_classes=5),
    "evaluation does not mix": dict(batch_size=2, mixup=0.2, cutmix_prob=1.0, num_classes=5),
}


def png_of(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


def image_for(name: str) -> np.ndarray:
    """An image of 72 x 48 pixels as a file, or the pixels of CIFAR and MNIST."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 9, 3))
    pixels = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    if name.lower().startswith("cifar"):
        return pixels[:32, :32]
    if name.lower() == "mnist":
        return pixels[:28, :28, :1]
    return png_of(pixels)


def pictures() -> list[tuple[np.ndarray, int]]:
    """Return image files of one level each, with their labels."""
    return [(png_of(np.full((8, 12, 3), number, np.uint8)), number) for number in range(5)]


STRENGTHS = (0, 5, 9, 10)


def ramp() -> np.ndarray:
    """(256, 256, 3) uint8: all levels from left to right in red and blue, downwards in green."""
    across = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    return np.stack((across, across.T, across), 2)


def effect(result: np.ndarray) -> list:
    """Return the mean change of the ramp, and how many levels of red are left."""
    change = np.abs(result.astype(int) - ramp()).mean()
    return [round(float(change), 3), len(np.unique(result[..., 0]))]


def batch() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
