"""The pictures and sizes of evaluation.npz."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Case:
    height: int
    width: int
    side: int = 28
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    crop_mode: str = "center"


CASES = {
    "landscape": Case(90, 121),
    "landscape, bicubic": Case(90, 121, interpolation="bicubic"),
    "portrait": Case(133, 84),
    "portrait, bicubic": Case(133, 84, interpolation="bicubic"),
    "odd margins": Case(100, 113, crop_pct=0.77),
    "odd margins, bicubic": Case(97, 150, side=29, crop_pct=0.8, interpolation="bicubic"),
    "no resizing, margin 3": Case(31, 35, crop_pct=0.88),
    "enlarged": Case(20, 17),
    "enlarged, bicubic": Case(20, 17, interpolation="bicubic"),
    "squashed": Case(80, 131, crop_mode="squash", crop_pct=0.9),
    "squashed, bicubic": Case(80, 131, crop_mode="squash", interpolation="bicubic"),
}


def picture(height: int, width: int) -> np.ndarray:
    """Return (height, width, 3) uint8: waves, a one-pixel checkerboard and noise."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], -1) * 90 + 128
    board = np.where((x + y) % 2, 255, 0)[..., None]
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    third = (3 * x // width)[..., None]
    return np.select([third == 0, third == 1], [waves, board], noise).astype(np.uint8)
