"""Make mindcv_images.json and .npz: what MindCV makes of images, for conformance/test_images.py.

Run with MindCV on the path: `python make_mindcv_images.py`. Random operations are recorded where
they have nothing to draw, or with draws that this script sets.
"""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import mindspore.dataset as ds
import mindspore.dataset.vision as vision
import numpy as np
from mindcv_image_cases import (
    CASES,
    LOADERS,
    MIXES,
    POLICIES,
    STRENGTHS,
    batch,
    effect,
    image_for,
    pictures,
    ramp,
)
from PIL import Image

from mindcv.data import (
    auto_augment,
    constants,
    create_loader,
    create_transforms,
    mixup,
    transforms_factory,
)

FUNCTIONS = (
    create_loader,
    create_transforms,
    transforms_factory.transforms_imagenet_train,
    transforms_factory.transforms_imagenet_eval,
    transforms_factory.transforms_cifar,
    transforms_factory.transforms_mnist,
    auto_augment.auto_augment_transform,
    auto_augment.rand_augment_transform,
    auto_augment.trivial_augment_wide_transform,
    auto_augment.augment_and_mix_transform,
    mixup.Mixup,
)


def signature(function) -> list:
    """Return (name, default) of each parameter; "required" for those without one."""
    found = []
    for name, entry in inspect.signature(function).parameters.items():
        if entry.kind is not entry.VAR_KEYWORD:
            required = entry.default is inspect.Parameter.empty
            found.append([name, "required" if required else entry.default])
    return found


def transformed(name, size, is_training, options) -> np.ndarray:
    rows = ds.NumpySlicesDataset({"image": image_for(name)[None]}, shuffle=False)
    rows = rows.map(create_transforms(name, size, is_training, **options), "image")
    return next(rows.create_tuple_iterator(num_epochs=1, output_numpy=True))[0]


def one_by_one() -> np.ndarray:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    for operation in create_transforms("imagenet", 24)[1:]:
        image = operation(image)
    return image


class Draws:
    """Stands in for numpy.random, with set draws."""

    def __init__(self, share: float, uniform: float, corner: list[int]):
        self.share, self.uniform, self.corner = share, uniform, list(corner)

    def rand(self) -> float:
        return self.uniform

    def beta(self, *_, **__) -> float:
        return self.share

    def randint(self, *_, size=None) -> int:
        return self.corner.pop(0)


def mixed(options: dict, share: float, corner: list[int]) -> tuple[np.ndarray, np.ndarray]:
    draws, numpy_random = Draws(share, 0.4, corner), np.random
    images = batch()
    try:
        mixup.np.random = draws
        return mixup.Mixup(num_classes=5, **options)(images, np.array([0, 1, 2, 4]))
    finally:
        mixup.np.random = numpy_random


def operation_effects(name: str) -> list:
    """Return the effects of an operation at each strength, signs positive."""
    hparams = dict(img_mean=(128,) * 3, interpolation=vision.Inter.BILINEAR)
    auto_augment.random = SimpleNamespace(random=lambda: 0.0, uniform=lambda low, high: high)
    made = (auto_augment.AugmentOp(name, 1.0, strength, hparams) for strength in STRENGTHS)
    return [effect(np.asarray(operation(ramp()))) for operation in made]


def policy(text: str) -> dict:
    """Return what MindCV reads out of a policy's string."""
    make = {
        "r": auto_augment.rand_augment_transform,
        "t": auto_augment.trivial_augment_wide_transform,
    }.get(text[0])
    if text.startswith("augmix"):
        made = auto_augment.augment_and_mix_transform(text, {})
        found = dict(width=made.width, depth=made.depth, alpha=made.alpha)
    elif make:
        made = make(text, {})
        found = {}
        if text.startswith("randaug"):
            found = dict(num_ops=made.num_layers, weighted=made.choice_weights is not None)
            found["increasing"] = any(
                operation.name.endswith("Increasing") for operation in made.ops
            )
    else:
        made = auto_augment.auto_augment_transform(text, {})
        made.ops, found = made.policy[0], {}
    operation = made.ops[0]
    if not text.startswith(("auto", "3a")):
        found["magnitude"] = operation.magnitude
    found["magnitude_std"] = str(operation.magnitude_std)
    found["magnitude_max"] = operation.magnitude_max
    return found


def loaded(**options) -> dict:
    rows = ds.GeneratorDataset(pictures(), ["image", "label"], shuffle=False)
    loader = create_loader(rows, **options)
    images, labels = next(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
    return dict(
        columns=loader.get_col_names(),
        steps=loader.get_dataset_size(),
        image=[list(images.shape), str(images.dtype)],
        label=[list(labels.shape), str(labels.dtype)],
        first=float(images[1].mean()),
    )


def main():
    images = {name: transformed(*case) for name, case in CASES.items()}
    images["one by one"] = one_by_one()
    for name, (options, share, corner) in MIXES.items():
        images[f"mix/{name}/images"], images[f"mix/{name}/labels"] = mixed(options, share, corner)
    erased = vision.RandomErasing(1.0, (0.2, 0.2), (1.0, 1.0), value=7, max_attempts=10)
    plane = erased(np.zeros((3, 16, 16), np.float32))
    facts = dict(
        signatures={function.__name__: signature(function) for function in FUNCTIONS},
        constants={name: getattr(constants, name) for name in vars(constants) if name[0].isupper()},
        policies={text: policy(text) for text in POLICIES},
        operations={name: operation_effects(name) for name in auto_augment.NAME_TO_OP},
        loaders={name: loaded(**options) for name, options in LOADERS.items()},
        erased_value=float(plane.max()),
    )
    place = Path(__file__).with_name("mindcv_images.npz")
    np.savez_compressed(place, **images)
    place.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
