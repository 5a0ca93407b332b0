"""Make jitter.npz: torchvision's changes of brightness, contrast and saturation, one after another.

Run with torch and torchvision: `python make_jitter.py`. Kept are the picture, planes of 0-255, the
order and factors of each change, and the results, float32 on the same scale: torchvision's own
functions on a float image, so that nothing is rounded.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from picture import picture

library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor a, Tensor b, float c) -> Tensor")
library.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

from torchvision.transforms import functional  # noqa: E402

CHANGES = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)


def main() -> None:
    rng = np.random.default_rng(0)
    planes = np.asarray(picture()).transpose(2, 0, 1)
    orders = list(itertools.permutations(range(3)))
    factors = rng.uniform(0.4, 1.6, (len(orders), 3)).astype(np.float32)
    factors[0], factors[1] = 0.0, 2.0  # all black, and clipped
    results = []
    for order, own in zip(orders, factors):
        image = torch.from_numpy(planes.astype(np.float32) / 255.0)
        for index, factor in zip(order, own):
            image = CHANGES[index](image, float(factor))
        results.append(255.0 * image.numpy())
    np.savez_compressed(
        Path(__file__).with_name("jitter.npz"),
        planes=planes,
        orders=orders,
        factors=factors,
        results=np.float32(results),
    )


if __name__ == "__main__":
    main()
