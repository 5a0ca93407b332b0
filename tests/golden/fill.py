"""Weights, images and labels that two frameworks can make alike, with numpy only.

A tensor is a pure function of its parameter name (in this library's spelling) and shape, so golden
results made elsewhere need no weight file. Draws are uniform bits of PCG64: no logarithms, no
rejection, hence the same to the last bit on every platform and under every numpy version.
"""

import math
import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 values for the parameter `name`, scaled so that logits stay near 1.

    Weights have mean 0 and variance 2 / fan-in (classifier: 1 / fan-in). The last normalisation
    of a residual branch has small gammas, else the sum would double in every block.
    """
    kind = name.rsplit(".", 1)[-1]
    if kind == "weight":
        gain = 1.0 if name.startswith("head.") else 2.0
        return _spread(name, shape, math.sqrt(gain / math.prod(shape[1:])))
    if kind == "gamma" and name.endswith("c_bn.gamma"):
        return _between(name, shape, 0.1, 0.5)
    if kind in ("gamma", "moving_variance"):
        return _between(name, shape, 0.5, 1.5)
    if kind in ("beta", "moving_mean", "bias"):
        return _spread(name, shape, 0.2)
    raise ValueError(f"parameter {name!r}: do not know what to fill it with")


def images(shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 images (N, C, H, W) of mean 0 and variance 1."""
    return _spread(f"images {shape}", shape, 1.0)


def labels(count: int, num_classes: int = 1000) -> np.ndarray:
    """Return `count` class indices, int32."""
    return (_between("labels", (count,), 0.0, 1.0) * num_classes).astype(np.int32)


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a float64 vector of length sqrt(size) to project a gradient on."""
    return _spread(f"direction {name}", shape, 1.0).astype(np.float64)


def _between(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    draws = generator.random(math.prod(shape), dtype=np.float32)
    return (low + (high - low) * draws).astype(np.float32).reshape(shape)


def _spread(name: str, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    half = deviation * math.sqrt(3.0)
    return _between(name, shape, -half, half)
