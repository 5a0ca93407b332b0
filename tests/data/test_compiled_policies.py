"""RandAugment and TrivialAugment as one MindSpore operation, against Pillow's and timm's."""

import math
from collections import Counter

import numpy as np
import pytest
from pictures import png, smooth_image, transformed
from PIL import Image

from mindcv.data import create_transforms
from mindcv.data.augment.auto_augment import RandAugment, compile_policy, draw_rand_augment
from mindcv.data.augment.operations import OPERATIONS, TRIVIAL, Drawn
from mindcv.data.augment.policies import parse_policy

FILL = (124, 116, 104)
SIDE = 64
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
# Largest difference in levels; see the module's text.
LEVELS = {"color": 2} | dict.fromkeys(("invert", "posterize", "solarize"), 0)

pytestmark = pytest.mark.usefixtures("fixed_seed")


def picture() -> np.ndarray:
    """Return a smooth image with noise of 8 levels."""
    noise = np.random.default_rng(2).integers(0, 8, (SIDE, SIDE, 3))
    return np.clip(smooth_image(SIDE, SIDE) + noise, 0, 255).astype(np.uint8)


class Sign:
    """A generator whose next draw makes the operations take this sign."""

    def __init__(self, sign: float):
        self.sign = sign

    def random(self) -> float:
        return 0.0 if self.sign > 0 else 0.9


def assert_alike(name: str, ours: np.ndarray, pillows: Image.Image):
    difference = np.abs(ours.astype(int) - np.asarray(pillows))
    if name in GEOMETRIC:
        # At the border of what is uncovered Pillow has an edge, and OpenCV a ramp of a pixel.
        assert (difference.max(2) > 2).mean() < 0.05 and np.median(difference) <= 1
        assert difference.mean() < 2
    elif name == "equalize":
        assert difference.mean() < 5 and np.corrcoef(ours.ravel(), np.ravel(pillows))[0, 1] > 0.99
    else:
        assert difference.max() <= LEVELS.get(name, 1)


@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("name", [name for name in RandAugment("randaug", FILL).operations])
def test_each_operation_does_what_pillows_does(name, increasing):
    operation = OPERATIONS[name]
    for strength in (0.0, 3.3, 7.0, 10.0):
        for sign in (1.0, -1.0):
            drawn = Drawn(strength, lambda: sign, (SIDE, SIDE), increasing)  # noqa: B023
            ours = operation.mindspore(operation.value(drawn), SIDE, FILL)(picture())
            given = (Image.fromarray(picture()), strength, Sign(sign), FILL)
            assert_alike(name, ours, operation.apply(*given, increasing=increasing))


@pytest.mark.parametrize("name", TRIVIAL)
def test_each_operation_of_trivial_augment_does_what_pillows_does(name):
    row = TRIVIAL[name]
    for strength in map(float, row.strengths[::10]):
        for value in map(row.value, {strength, -strength} if row.is_signed else {strength}):
            ours = row.operation.mindspore(value, SIDE, FILL)(picture())
            pillows = row.operation.pillow(Image.fromarray(picture()), value, FILL)
            assert_alike(name, ours, pillows)


def test_equalize_is_opencvs_histogram_equalisation():
    levels = np.bincount(picture()[..., 1].ravel(), minlength=256)
    first = levels[np.flatnonzero(levels)[0]]
    table = np.rint((np.cumsum(levels) - first) * 255 / (SIDE**2 - first))
    ours = OPERATIONS["equalize"].mindspore(0.0, SIDE, FILL)(picture())[..., 1]
    assert np.abs(table[picture()[..., 1]] - ours).max() <= 1


def test_the_table_holds_each_pair_equally_often():
    rows = draw_rand_augment(parse_policy("randaug-m9-mstd0.5"))
    pairs = Counter((first[0], second[0]) for first, second in rows)
    names = set(RandAugment("randaug", FILL).operations)
    assert len(pairs) == len(names) ** 2 and set(pairs.values()) == {4}


@pytest.mark.parametrize("policy", ["randaug-m7-mstd0.5", "randaug-m9-mstd3", "randaug-m8-mstdinf"])
def test_the_tables_strengths_are_distributed_as_the_python_policys(policy):
    ours = np.array([s for row in draw_rand_augment(parse_policy(policy)) for _, s, _ in row])
    augment, drawn = RandAugment(policy + "-p1", FILL), []
    augment.operations = {
        name: lambda image, strength, rng, fill: drawn.append(strength) or image
        for name in augment.operations
    }
    for seed in range(800):
        augment.augment(None, np.random.default_rng(seed))
    both = np.sort(np.concatenate([ours, drawn]))
    shares = [np.searchsorted(np.sort(part), both, "right") / len(part) for part in (ours, drawn)]
    # Kolmogorov and Smirnov's test at 0.1 %.
    allowed = 1.95 * math.sqrt((len(ours) + len(drawn)) / (len(ours) * len(drawn)))
    assert np.abs(shares[0] - shares[1]).max() < allowed


def test_weighted_rows_follow_timms_weights_without_repetition():
    rows = [[name for name, *_ in row] for row in draw_rand_augment(parse_policy("randaug-w0"))]
    assert all(len(set(row)) == 2 for row in rows)
    counts = Counter(row[0] for row in rows)
    assert not {"posterize", "invert"} & set(counts)
    share = 0.3 / 0.995  # without solarize_add
    expected = len(rows) * share
    assert abs(counts["rotate"] - expected) < 4 * math.sqrt(expected * (1 - share))
    with pytest.raises(ValueError, match="12"):
        compile_policy("randaug-n13-w0", FILL, SIDE)


def test_rows_are_always_the_same():
    policy = parse_policy("randaug-m9-mstd0.5-inc1")
    assert draw_rand_augment(policy) == draw_rand_augment(policy)


@pytest.mark.parametrize("policy", ["autoaug", "v0", "3a", "augmix"])
def test_other_policies_stay_in_python(policy):
    assert compile_policy(policy, FILL, SIDE) is None


def test_images_are_changed_as_often_as_the_probability_says():
    """Half of the images get the first operation and half the second: a quarter stay unchanged."""
    image = png(picture())
    whole = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, normalize_on_device=True)
    arguments = ("", SIDE, True, "randaug-m9-mstd0.5-inc1")
    images = transformed([image] * 400, *arguments, **whole)
    kept = (images == picture()).all((1, 2, 3)).sum()
    assert abs(kept - 100) < 4 * math.sqrt(400 * 0.25 * 0.75) + 5
    assert len({one.tobytes() for one in images}) > 150


def test_flips_and_policy_are_drawn_independently():
    """As separate operations, both would start from the same random numbers."""
    side = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), normalize_on_device=True)
    image = np.full((16, 16, 3), 100, np.uint8)
    image[:, :8] = 50
    operations = create_transforms(
        *("", 16, True, "randaug-m10-n1-p0.5-inc1"), hflip=0.5, vflip=0.5, **side
    )
    assert [type(operation).__name__ for operation in operations][1:] == ["RandomSelectSubpolicy"]
    images = transformed([png(image)] * 800, *("", 16, True, "randaug-m10-n1-p0.5-inc1"), **side)
    flipped = images[:, :, 0].mean((1, 2)) > images[:, :, -1].mean((1, 2))
    values = {image.tobytes(), image[:, ::-1].tobytes()}
    changed = np.array([one.tobytes() not in values for one in images])
    share = changed[flipped].mean() - changed[~flipped].mean()
    assert abs(share) < 4 * math.sqrt(0.25 / 400 * 2)
