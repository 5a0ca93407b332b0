"""A small regression network and the ways to train it, for make_optimizers.py and test_optim.py.

`h = gamma * (x W) + beta; h = h + scale * (h V)^2; y = h U + bias`; the loss is half the mean
squared error. Sums and products only: MindSpore's tanh and exp on CPU are off by more than an
optimizer's rounding.
"""

import numpy as np

STEPS = 100
KEPT = (1, 10, 100)  # steps after which the weights are compared
WEIGHT_DECAY = 0.05
LAYER_DECAY = 0.6
# Names as in a RegNet. A 1-D parameter without normalisation's names; a weight whose name holds
# "gamma" as a part, which must not make it exempt from weight decay.
SHAPES = {
    "stem.fc.weight": (8, 6),
    "stem.bn.gamma": (8,),
    "stem.bn.beta": (8,),
    "stages.0.blocks.0.scale": (8,),
    "stages.0.blocks.0.gamma_branch.weight": (8, 8),
    "head.fc.weight": (3, 8),
    "head.fc.bias": (3,),
}
EXEMPT = {
    "disable": (),
    "auto": ("stem.bn.gamma", "stem.bn.beta"),
    "norm_and_bias": ("stem.bn.gamma", "stem.bn.beta", "head.fc.bias", "stages.0.blocks.0.scale"),
}
LAYERS = {"stem": 0, "stages": 1, "head": 2}
# The arguments of our create_optimizer; `peak` is the largest rate of `rates`.
OPTIMIZERS = {
    "sgd": dict(opt="sgd", momentum=0.9, peak=0.02),
    "momentum": dict(opt="momentum", momentum=0.9, peak=0.02),
    "nesterov": dict(opt="nesterov", momentum=0.9, peak=0.02),
    "adam": dict(opt="adam", peak=0.02),
    "adamw": dict(opt="adamw", peak=0.02),
    "nadam": dict(opt="nadam", peak=0.02),
    "adan": dict(opt="adan", peak=0.02),
    "lion": dict(opt="lion", peak=0.005),
    "lamb": dict(opt="lamb", eps=1e-6, peak=0.02),
    "rmsprop": dict(opt="rmsprop", momentum=0.9, peak=0.003),
    "adagrad": dict(opt="adagrad", peak=0.1),
}
VARIANTS = {
    "sgd without momentum": dict(opt="sgd", momentum=0.0, peak=0.05),
    "momentum with nesterov": dict(opt="momentum", momentum=0.8, nesterov=True, peak=0.02),
    "adam with large eps": dict(opt="adam", eps=1e-2, peak=0.02),
    "adamw with other betas": dict(opt="adamw", beta1=0.8, beta2=0.95, peak=0.02),
    "nadam with schedule": dict(opt="nadam", schedule_decay=0.5, eps=1e-2, peak=0.02),
    "adan with other betas": dict(
        opt="adan", beta1=0.9, beta2=0.8, beta3=0.95, eps=1e-2, peak=0.02
    ),
    "lion with other betas": dict(opt="lion", beta1=0.95, beta2=0.9, peak=0.005),
    "lamb clipped": dict(opt="lamb", trust_clip=True, always_adapt=True, eps=1e-2, peak=0.1),
    "rmsprop without momentum": dict(opt="rmsprop", momentum=0.0, eps=1e-2, peak=0.02),
}


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    weights = {n: rng.normal(0, 0.4, shape).astype(np.float32) for n, shape in SHAPES.items()}
    weights["stem.bn.gamma"] += 1
    return weights


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and noisy targets, float32."""
    rng = np.random.default_rng(step + 7)
    x = rng.normal(0, 1, (16, 6))
    target = x[:, :3] * x[:, 3:] + rng.normal(0, 0.5, (16, 3))
    return x.astype(np.float32), target.astype(np.float32)


def rates(peak: float) -> list[float]:
    """Return a rate per step: a warm-up, then a decay."""
    return [peak * min(1.0, (step + 1) / 10) * 0.98**step for step in range(STEPS)]
