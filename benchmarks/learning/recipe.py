"""What both sides train: data, order of the images, and the recipe. Needs numpy only."""

from pathlib import Path

import numpy as np

MODEL = "regnet_x_200mf"
CLASSES, SIDE = 10, 32
MEAN, STD = 76.0, 67.0  # of the training images, 0-255 scale, all channels
SMOOTHING = 0.1
SGD = {"momentum": 0.9, "weight_decay": 5e-5}  # without augmentation; nesterov off
ADAMW = {"weight_decay": 0.05}  # with it; both decay every parameter

# Without augmentation: a trained network gets a new head and is fine-tuned.
CURVE_BATCH, CURVE_STEPS = 64, 50
PRETRAIN = {"lr": 0.02, "warmup_steps": 30, "num_epochs": 4}
CURVE = {"lr": 0.005, "warmup_steps": 10, "num_epochs": 1}

# With augmentation, which each side makes itself.
BATCH = 32
ACCURACY = {"lr": 0.001, "warmup_steps": 100, "num_epochs": 4}
SEEDS = (0, 1, 2)
CROP = {"scale": (0.6, 1.0), "ratio": (0.9, 1.1), "hflip": 0.0, "interpolation": "bilinear"}
POLICY = "m5-mstd0.5-inc1"  # of RandAugment: MindCV writes randaug-…, timm rand-…


def digits(work: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) uint8 and labels (N,) int32 of train or val."""
    with np.load(work / "digits.npz") as arrays:
        return arrays[f"{split}_images"], arrays[f"{split}_labels"]


def batches(seed: int, epoch: int, batch: int) -> np.ndarray:
    """Return the indices of an epoch's training images, (steps, batch); no partial batch."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(4000)
    steps = len(shuffled) // batch
    return shuffled[: steps * batch].reshape(steps, batch)


def initial_weights(work: Path, kind: str, seed: int) -> Path:
    """Return the file of the first weights of a curve or accuracy run, by our parameter names."""
    return work / f"weights_{kind}_{seed}.npz"
