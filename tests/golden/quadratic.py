"""A small optimisation problem with numpy gradients, for make_optimizers.py and test_optim.py.

The loss is `sum(curvature * (w - target)^2) / 2` plus noise of zero mean in the gradient, so the
gradient depends on the whole trajectory and any framework can be given the same one.
"""

from functools import lru_cache

import numpy as np

STEPS = 60
WEIGHT_DECAY = 0.05
# A convolution, its normalisation, a layer scale, and a classifier; the last weight's name holds
# "gamma" as a part, which must not make it exempt from weight decay.
SHAPES = {
    "stem.conv.weight": (4, 3, 3, 3),
    "stem.bn.gamma": (4,),
    "stem.bn.beta": (4,),
    "block.layer_scale": (4,),
    "head.fc.weight": (5, 4),
    "head.fc.bias": (5,),
    "gamma_branch.conv.weight": (2, 4, 1, 1),
}
EXEMPT = {
    "disable": (),
    "auto": ("stem.bn.gamma", "stem.bn.beta", "head.fc.bias"),
    "norm_and_bias": ("stem.bn.gamma", "stem.bn.beta", "head.fc.bias", "block.layer_scale"),
}
# Our arguments; the rates of all come from `rates`.
CASES = {
    "sgd": dict(opt="sgd", momentum=0.9),
    "sgd without momentum": dict(opt="sgd", momentum=0.0),
    "sgd with nesterov": dict(opt="sgd", momentum=0.9, nesterov=True),
    "momentum": dict(opt="momentum", momentum=0.9),
    "momentum with nesterov": dict(opt="momentum", momentum=0.8, nesterov=True),
    "nesterov": dict(opt="nesterov", momentum=0.9),
    "adam": dict(opt="adam", eps=1e-8),
    "adamw": dict(opt="adamw", eps=1e-8),
    "adamw with large eps": dict(opt="adamw", eps=1e-2),
    "adamw with other betas": dict(opt="adamw", eps=1e-8, beta1=0.8, beta2=0.95),
}


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in SHAPES.items()}


def gradient(name: str, weight: np.ndarray, step: int) -> np.ndarray:
    """Return the gradient at `weight`, in its type."""
    curvature, target, noise = _coefficients(name)
    return (curvature * (weight - target) + noise[step]).astype(weight.dtype)


@lru_cache
def _coefficients(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = SHAPES[name]
    rng = np.random.default_rng(list(SHAPES).index(name) + 7)
    curvature, target = rng.uniform(0.2, 2.0, shape), rng.uniform(-1, 1, shape)
    return curvature, target, rng.uniform(-0.3, 0.3, (STEPS, *shape))


def rates() -> list[float]:
    """Return a rate per step: a warm-up, then a decay."""
    return [0.05 * min(1.0, (step + 1) / 10) * 0.97**step for step in range(STEPS)]
