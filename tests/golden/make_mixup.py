"""Make mixup.npz: timm's mixup and CutMix of one batch, with the draws it made.

Run with torch and timm: `python make_mixup.py`. Float batches are mixed by `Mixup`, uint8 batches
by `FastCollateMixup`, both in batch mode with label smoothing.
"""

from pathlib import Path
from unittest import mock

import numpy as np
import torch

torchvision = torch.library.Library("torchvision", "DEF")
torchvision.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torchvision.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm.data.mixup import FastCollateMixup, Mixup  # noqa: E402

CLASSES, SMOOTHING = 7, 0.1
LABELS = (0, 6, 3, 3, 1, 5)
# Kind, share from the Beta distribution, centre of the box.
CASES = (
    ("mixup", 0.3, None),
    ("mixup", 0.85, None),
    ("cutmix", 0.5, (5, 6)),
    ("cutmix", 0.8, (0, 12)),  # clipped at two borders
    ("cutmix", 0.97, (9, 3)),  # a side of one pixel
    ("none", 1.0, None),
)


def batch() -> np.ndarray:
    """Return (6, 3, 11, 13) uint8."""
    return np.random.default_rng(3).integers(0, 256, (6, 3, 11, 13), np.uint8)


def mixed(kind: type, case: tuple, images) -> tuple[np.ndarray, np.ndarray]:
    name, share, center = case
    alphas = dict(mixup_alpha=float(name != "cutmix"), cutmix_alpha=float(name == "cutmix"))
    mix = kind(**alphas, label_smoothing=SMOOTHING, num_classes=CLASSES)
    mix.mixup_enabled = name != "none"
    draws = iter(center or ())
    with (
        mock.patch.object(np.random, "rand", lambda: 0.0),
        mock.patch.object(np.random, "beta", lambda a, b: share),
        mock.patch.object(np.random, "randint", lambda low, high, size: next(draws)),
    ):
        if kind is Mixup:
            result = mix(torch.from_numpy(images.astype(np.float32) / 7), torch.tensor(LABELS))
        else:
            result = mix(list(zip(images, LABELS)))
    return tuple(value.numpy() for value in result)


def main():
    golden = {"images": batch(), "labels": np.array(LABELS)}
    for index, case in enumerate(CASES):
        golden[f"{index}/kind"] = np.array(case[0])
        golden[f"{index}/draws"] = np.array((case[1], *(case[2] or (0, 0))))
        golden[f"{index}/float32"], golden[f"{index}/targets"] = mixed(Mixup, case, batch())
        golden[f"{index}/uint8"], targets = mixed(FastCollateMixup, case, batch())
        assert np.array_equal(targets, golden[f"{index}/targets"])
    np.savez_compressed(Path(__file__).with_name("mixup.npz"), **golden)


if __name__ == "__main__":
    main()
