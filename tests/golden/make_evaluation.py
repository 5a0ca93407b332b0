"""Write evaluation.npz: what torchvision and timm make of pictures before they are normalised.

Needs torch, torchvision, timm and Pillow. `python tests/golden/make_evaluation.py`. The cases are
in evaluation_cases.py, which test_evaluation_images.py reads too. Keys are their names: uint8
(side, side, 3). The two libraries agree, or nothing is written.
"""

from pathlib import Path

import numpy as np
import torch
from evaluation_cases import CASES, picture
from PIL import Image

_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_LIBRARY.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm.data import create_transform  # noqa: E402
from torchvision import transforms  # noqa: E402

FILTERS = {"bilinear": "BILINEAR", "bicubic": "BICUBIC"}


def by_torchvision(image: Image.Image, case) -> np.ndarray:
    resized = int(case.side / case.crop_pct)
    size = (resized, resized) if case.crop_mode == "squash" else resized
    mode = transforms.InterpolationMode[FILTERS[case.interpolation]]
    image = transforms.Resize(size, mode)(image)
    return np.asarray(transforms.CenterCrop(case.side)(image))


def by_timm(image: Image.Image, case) -> np.ndarray:
    transform = create_transform(
        (3, case.side, case.side),
        interpolation=case.interpolation,
        crop_pct=case.crop_pct,
        crop_mode=case.crop_mode,
        use_prefetcher=True,  # uint8
    )
    return np.asarray(transform(image)).transpose(1, 2, 0)


def main() -> None:
    arrays = {}
    for name, case in CASES.items():
        image = Image.fromarray(picture(case.height, case.width))
        arrays[name] = by_torchvision(image, case)
        np.testing.assert_array_equal(by_timm(image, case), arrays[name])
    np.savez_compressed(Path(__file__).with_name("evaluation.npz"), **arrays)


if __name__ == "__main__":
    main()
