"""Make policies.npz: timm's, torchvision's and pycls' augmentations of one image.

Run with torch, torchvision, timm and pycls: `python make_policies.py`. Resampling is bilinear and
the fill colour is FILL, as ours. Kept are exact results of the operations that
make_randaugment.py has not, timm's AutoAugment tables, and for every random augmentation the
statistics of DRAWS results: red mean and mean distance from the original, both sorted.
"""

import random
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from picture import picture
from PIL import Image, ImageOps

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor a, Tensor b, float c) -> Tensor")
library.define("qnms(Tensor a, Tensor b, float c) -> Tensor")
sys.modules["cv2"] = types.ModuleType("cv2")  # pycls needs it for resizing only

from pycls.datasets import imagenet as pycls_imagenet  # noqa: E402
from pycls.datasets import transforms as pycls_transforms  # noqa: E402
from timm.data import auto_augment  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.transforms import InterpolationMode, autoaugment  # noqa: E402

FILL = (124, 116, 104)
HPARAMS = dict(img_mean=FILL, interpolation=Image.Resampling.BILINEAR)
BILINEAR = InterpolationMode.BILINEAR
DRAWS = 3000
STRENGTHS = (0.0, 3.7, 9.0, 10.0)

# Our policy strings, and timm's.
POLICIES = {
    "randaug-m9-mstd0.5-inc1": "rand-m9-mstd0.5-inc1",
    "randaug-m5-n3-mstd101": "rand-m5-n3-mstd101",
    "autoaug-mstd0.5": "original-mstd0.5",
    "originalr": "originalr",
    "v0-mstd0.5": "v0-mstd0.5",
    "v0r": "v0r",
    "3a": "3a",
    "augmix": "augmix",
    "augmix-m9-w2-d1-a2-mstd0.5": "augmix-m9-w2-d1-a2-mstd0.5",
}
JITTERS = {"0.4": (0.4,) * 3, "1.5,0,0": (1.5, 0, 0), "0,0,0,0.3": (0, 0, 0, 0.3)}
# AugMix with everything drawn: shares, own share, chains of (operation, strength).
AUGMIX_CHAINS = (
    (("ShearX", 2.0), ("Equalize", 1.0)),
    (("PosterizeIncreasing", 4.5),),
    (("ColorIncreasing", 3.0), ("Rotate", 1.5), ("TranslateXRel", 4.0)),
)
AUGMIX_SHARES, AUGMIX_OWN = (0.5, 0.3, 0.2), 0.6


def image() -> Image.Image:
    return Image.fromarray(picture())


def exact_operations() -> dict:
    golden = {}
    names = {"posterize_original": "PosterizeOriginal", "desaturate": "Desaturate"}
    for ours, theirs in names.items():
        for strength in STRENGTHS:
            operation = auto_augment.AugmentOp(theirs, 1.0, strength, HPARAMS)
            golden[f"{ours}/{strength}"] = np.asarray(operation(image()))
    for share in (0.0, 0.5, 1.0):
        radius = 0.1 + share * 1.9  # between the limits that timm asks for at strength 10
        with mock.patch.object(random, "uniform", return_value=radius) as drawn:
            operation = auto_augment.AugmentOp("GaussianBlurRand", 1.0, 10, HPARAMS)
            golden[f"blur/{share}"] = np.asarray(operation(image()))
            drawn.assert_called_once_with(0.1, 2.0)
    return golden


def trivial_operations() -> dict:
    golden = {}
    space = autoaugment.TrivialAugmentWide()._augmentation_space(31)
    for name, (values, signed) in space.items():
        values = np.atleast_1d(values.numpy().astype(np.float64))
        golden[f"trivial values/{name}"] = values
        golden[f"trivial signed/{name}"] = np.array(signed)
        # Not 15: in float32 half of 32 pixels comes out as 15.999999 and moves by 15.
        for index in sorted({0, 7, 14, 22, 30} & set(range(len(values)))):
            for sign in (1, -1) if signed else (1,):
                result = autoaugment._apply_op(
                    image(), name, sign * float(values[index]), BILINEAR, list(FILL)
                )
                golden[f"trivial/{name}/{index}/{sign}"] = np.asarray(result)
    return golden


def exact_augmix() -> np.ndarray:
    hparams = {**HPARAMS, "translate_pct": 0.3}
    augment = auto_augment.augment_and_mix_transform("augmix-m5", hparams)
    by_name = {operation.name: operation for operation in augment.ops}
    chains = iter([[by_name[name] for name, _ in chain] for chain in AUGMIX_CHAINS])
    strengths = iter([strength for chain in AUGMIX_CHAINS for _, strength in chain])
    with (
        mock.patch.object(np.random, "dirichlet", lambda alphas: np.array(AUGMIX_SHARES)),
        mock.patch.object(np.random, "beta", lambda a, b: AUGMIX_OWN),
        mock.patch.object(np.random, "randint", lambda low, high: 1),
        mock.patch.object(np.random, "choice", lambda ops, depth, replace: next(chains)),
        mock.patch.object(random, "uniform", lambda low, high: next(strengths)),
        mock.patch.object(random, "random", lambda: 0.0),
    ):
        return np.asarray(augment(image()))


def lighting(alpha: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return what pycls makes of an (H, W, 3) RGB image on the scale 0-255, as float."""
    bgr = pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float64) / 255
    with mock.patch.object(np.random, "normal", lambda mean, std, size: alpha.reshape(size)):
        values, vectors = pycls_imagenet._EIG_VALS, pycls_imagenet._EIG_VECS
        bgr = pycls_transforms.lighting(bgr, 0.1, values, vectors)
    return bgr.transpose(1, 2, 0)[:, :, ::-1] * 255


def statistics(augment) -> np.ndarray:
    """Return (2, DRAWS): red mean and mean distance of each result."""
    original = picture().astype(np.float64)
    results = [np.asarray(augment(image()), np.float64) for _ in range(DRAWS)]
    red = [result[..., 0].mean() for result in results]
    distance = [np.abs(result - original).mean() for result in results]
    return np.sort([red, distance], axis=1).astype(np.float32)


def random_policies() -> dict:
    golden = {}
    for ours, theirs in POLICIES.items():
        hparams = dict(HPARAMS)
        if theirs.startswith("rand"):
            augment = auto_augment.rand_augment_transform(theirs, hparams)
        elif theirs.startswith("augmix"):
            hparams["translate_pct"] = 0.3
            augment = auto_augment.augment_and_mix_transform(theirs, hparams)
        else:
            augment = auto_augment.auto_augment_transform(theirs, hparams)
        golden[f"draws/{ours}"] = statistics(augment)
    trivial = autoaugment.TrivialAugmentWide(31, BILINEAR, list(FILL))
    golden["draws/trivialaugwide"] = statistics(trivial)
    for name, strengths in JITTERS.items():
        golden[f"jitter/{name}"] = statistics(transforms.ColorJitter(*strengths))
    alphas = np.random.normal(0, 0.1, (DRAWS, 3))
    shifts = [lighting(alpha, np.zeros((1, 1, 3)))[0, 0] for alpha in alphas]
    golden["lighting covariance"] = np.cov(np.transpose(shifts))
    return golden


def tables() -> dict:
    golden = {}
    for name in ("original", "originalr", "v0", "v0r", "3a"):
        pairs = auto_augment.auto_augment_policy(name, HPARAMS)
        golden[f"table/{name}"] = np.array(
            [";".join(f"{op.name} {op.prob:g} {op.magnitude:g}" for op in pair) for pair in pairs]
        )
    return golden


def main():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    # Pillow refuses to posterize to 0 bits, which timm asks for; ours keeps 1.
    for name in ("Posterize", "PosterizeIncreasing"):
        auto_augment.NAME_TO_OP[name] = lambda img, bits, **_: ImageOps.posterize(img, max(1, bits))
    golden = {**exact_operations(), **trivial_operations(), **random_policies(), **tables()}
    golden["augmix"] = exact_augmix()
    for index, alpha in enumerate(((0.1, 0, 0), (0, 0.2, 0), (0.05, -0.1, 0.3))):
        golden[f"lighting/{index}"] = np.array(alpha)
        shift = lighting(np.array(alpha), picture()) - picture()
        golden[f"lighting shift/{index}"] = shift[0, 0]
        assert np.allclose(shift, shift[0, 0])
    np.savez_compressed(Path(__file__).with_name("policies.npz"), **golden)


if __name__ == "__main__":
    main()
