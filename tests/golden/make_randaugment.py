"""Make randaugment.npz: timm's RandAugment operations on one image for data/test_transforms.py.

Run with torch and timm: `python make_randaugment.py`. Geometric operations and the increasing
enhancements draw a sign; both are kept where they differ. An operation that inc1
leaves alone is kept once. Resampling is bilinear, as ours.
"""

import random
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from picture import picture
from PIL import Image

torchvision = torch.library.Library("torchvision", "DEF")
torchvision.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torchvision.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from timm.data import auto_augment  # noqa: E402

FILL = (124, 116, 104)
STRENGTHS = (0.0, 3.7, 9.0, 10.0)
# timm's name, where inc1 has another operation, and ours.
OPERATIONS = {
    "auto_contrast": ("AutoContrast", "AutoContrast"),
    "equalize": ("Equalize", "Equalize"),
    "invert": ("Invert", "Invert"),
    "rotate": ("Rotate", "Rotate"),
    "posterize": ("Posterize", "PosterizeIncreasing"),
    "solarize": ("Solarize", "SolarizeIncreasing"),
    "solarize_add": ("SolarizeAdd", "SolarizeAdd"),
    "color": ("Color", "ColorIncreasing"),
    "contrast": ("Contrast", "ContrastIncreasing"),
    "brightness": ("Brightness", "BrightnessIncreasing"),
    "sharpness": ("Sharpness", "SharpnessIncreasing"),
    "shear_x": ("ShearX", "ShearX"),
    "shear_y": ("ShearY", "ShearY"),
    "translate_x": ("TranslateXRel", "TranslateXRel"),
    "translate_y": ("TranslateYRel", "TranslateYRel"),
}


def apply(name: str, strength: float, sign: int) -> np.ndarray:
    hparams = dict(img_mean=FILL, interpolation=Image.Resampling.BILINEAR)
    operation = auto_augment.AugmentOp(name, 1.0, strength, hparams)
    with mock.patch.object(random, "random", return_value=0.0 if sign > 0 else 1.0):
        return np.asarray(operation(Image.fromarray(picture())))


def main():
    golden = {}
    for ours, names in OPERATIONS.items():
        for increasing, name in enumerate(dict.fromkeys(names)):
            for strength in STRENGTHS:
                key = f"{ours}/{increasing}/{strength}"
                try:
                    positive, negative = apply(name, strength, 1), apply(name, strength, -1)
                except ValueError as error:  # Pillow refuses to posterize to 0 bits
                    print(key, error)
                    continue
                golden[f"{key}/1"] = positive
                if (positive != negative).any():
                    golden[f"{key}/-1"] = negative
    golden["names of inc1"] = np.array(auto_augment._RAND_INCREASING_TRANSFORMS)
    np.savez_compressed(Path(__file__).with_name("randaugment.npz"), **golden)


if __name__ == "__main__":
    main()
