"""AutoAugment, 3-Augment, TrivialAugment, AugMix, colour and lighting against their sources.

The golden values come from timm, torchvision and pycls: golden/make_policies.py.
"""

import functools
import math
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import vision
from picture import picture
from pictures import batches_of, random_images, rows_of
from PIL import Image

from mindcv.data import create_transforms
from mindcv.data.augment.auto_augment import AugMix, AutoAugment, create_auto_augment
from mindcv.data.augment.operations import TRIVIAL
from mindcv.data.augment.pixel_operations import ColorJitter, Lighting, color_shift
from mindcv.data.augment.policies import RandAugmentPolicy, parse_policy

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "policies.npz")
FILL = (124, 116, 104)
DRAWS = 1000

pytestmark = pytest.mark.usefixtures("fixed_seed")


def of(group: str) -> list[str]:
    return [key for key in GOLDEN.files if key.startswith(f"{group}/")]


def distance(result, expected) -> int:
    return np.abs(np.asarray(result).astype(int) - expected).max()


# Exact results


class Drawn:
    """A generator that gives the values written down for it."""

    def __init__(self, **values):
        self.values = {name: iter(entries) for name, entries in values.items()}

    def __getattr__(self, name):
        return lambda *arguments: next(self.values[name])


@pytest.mark.parametrize("key", of("posterize_original") + of("desaturate"))
def test_operation_equals_timms(key):
    name, strength = key.split("/")
    operation = AutoAugment("original", FILL).operations[name.removesuffix("_original")]
    result = operation(Image.fromarray(picture()), float(strength), None, FILL)
    assert distance(result, GOLDEN[key]) == 0


@pytest.mark.parametrize("key", of("blur"))
def test_blur_equals_timms_at_both_ends_of_its_range(key):
    class Share:
        def uniform(self, low, high):
            return low + float(key.split("/")[1]) * (high - low)

    blur = AutoAugment("3a", FILL).operations["blur_randomly"]
    assert distance(blur(Image.fromarray(picture()), 10, Share(), FILL), GOLDEN[key]) == 0


def ours_of_trivial(name: str):
    names = {"AutoContrast": "auto_contrast"}
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    return TRIVIAL[names.get(name, snake)]


@pytest.mark.parametrize("key", of("trivial"))
def test_trivial_operation_equals_torchvisions(key):
    _, name, index, sign = key.split("/")
    row = ours_of_trivial(name)
    sign = -int(sign) if name.startswith("Translate") else int(sign)  # torchvision: to the right
    value = row.value(sign * float(row.strengths[int(index)]))
    result = row.operation.pillow(Image.fromarray(picture()), value, FILL)
    signed = GOLDEN[f"trivial signed/{name}"]  # torchvision's values are float32
    assert distance(result, GOLDEN[key]) <= (1 if signed else 0)


def test_trivial_strengths_are_torchvisions():
    theirs = [key.split("/")[1] for key in of("trivial values")]
    assert len(theirs) == len(TRIVIAL) == 14
    for name in theirs:
        row = ours_of_trivial(name)
        np.testing.assert_allclose(row.strengths, GOLDEN[f"trivial values/{name}"], atol=1e-4)
        assert row.is_signed == GOLDEN[f"trivial signed/{name}"]


@pytest.mark.parametrize("table", ["original", "originalr", "v0", "v0r", "3a"])
def test_tables_of_autoaugment_are_timms(table):
    names = {
        "TranslateYRel": "translate_y",
        "PosterizeIncreasing": "posterize",
        "PosterizeOriginal": "posterize",
        "GaussianBlurRand": "blur_randomly",
    }

    def ours(text: str) -> tuple:
        name, prob, strength = text.split()
        snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
        return names.get(name, snake), float(prob), float(strength)

    expected = tuple(tuple(map(ours, pair.split(";"))) for pair in GOLDEN[f"table/{table}"])
    augment = AutoAugment(table, FILL)
    assert augment.pairs == expected
    # The posterize that the table means, at a strength where the three differ.
    (used,) = {
        p.split()[0] for pair in GOLDEN[f"table/{table}"] for p in pair.split(";") if "Poster" in p
    } or {""}
    if used:
        bits = {"PosterizeOriginal": 6, "PosterizeIncreasing": 1, "Posterize": 3}[used]
        strength = {"PosterizeOriginal": 5, "PosterizeIncreasing": 9, "Posterize": 8}[used]
        result = augment.operations["posterize"](Image.fromarray(picture()), strength, None, FILL)
        kept = np.bitwise_and(picture(), 256 - 2 ** (8 - bits))
        assert distance(result, kept) == 0


def test_augmix_with_given_draws_equals_timms():
    chains = [["shear_x", "equalize"], ["posterize"], ["color", "rotate", "translate_x"]]
    rng = Drawn(
        dirichlet=[np.array([0.5, 0.3, 0.2])],
        beta=[0.6],
        integers=[2, 1, 3],
        choice=chains,
        uniform=[2.0, 1.0, 4.5, 3.0, 1.5, 4.0],
        random=[0.0] * 9,
    )
    result = AugMix("augmix-m5", FILL).augment(Image.fromarray(picture()), rng)
    assert distance(result, GOLDEN["augmix"]) <= 1


@pytest.mark.parametrize("index", range(3))
def test_lighting_shifts_red_green_and_blue_as_pycls_does(index):
    shift = color_shift(GOLDEN[f"lighting/{index}"])
    np.testing.assert_allclose(shift, GOLDEN[f"lighting shift/{index}"], rtol=1e-12)
    assert np.abs(shift - shift[::-1]).max() > 0.01  # RGB and BGR differ


# Statistics


@functools.cache
def drawn_by(policy: str) -> np.ndarray:
    return drawn(create_auto_augment(policy, FILL))


def drawn(operation, count: int = DRAWS) -> np.ndarray:
    """Return (count, H, W, 3): results for the picture, with the draws of as many epochs."""
    results = []
    for epoch in range(count):
        operation.epoch = epoch
        results.append(operation(picture()))
    return np.stack(results)


def assert_same_distribution(results: np.ndarray, golden: np.ndarray) -> None:
    """Compare red mean and distance from the picture by the two-sample Kolmogorov-Smirnov test."""
    results = results.astype(np.float64)
    ours = (results[..., 0].mean((1, 2)), np.abs(results - picture()).mean((1, 2, 3)))
    for sample, theirs in zip(ours, golden):
        sample = np.sort(sample)
        # Results that differ by rounding only must not count as smaller or larger.
        points = np.concatenate([sample, theirs])
        upper = [np.searchsorted(s, points + 0.3, "right") / len(s) for s in (sample, theirs)]
        lower = [np.searchsorted(s, points - 0.3, "left") / len(s) for s in (sample, theirs)]
        gap = max((lower[0] - upper[1]).max(), (lower[1] - upper[0]).max())
        limit = 2.1 * math.sqrt(
            1 / len(sample) + 1 / len(theirs)
        )  # exceeded by chance once in 3,000
        assert gap < limit
        for statistic in (np.mean, np.std):
            bound = 0.02 + 5 * theirs.std() / math.sqrt(len(sample))
            assert abs(statistic(sample) - statistic(theirs)) < bound


@pytest.mark.parametrize("key", of("draws"))
def test_random_policy_has_the_statistics_of_its_source(key):
    assert_same_distribution(drawn_by(key.split("/")[1]), GOLDEN[key])


@pytest.mark.parametrize("policy, other", [
    ("randaug-m9-mstd0.5-inc1", "randaug-m9-mstd0.5"),
    ("autoaug-mstd0.5", "v0-mstd0.5"),
    ("trivialaugwide", "randaug-m9-mstd0.5-inc1"),
])  # fmt: skip
def test_the_comparison_tells_policies_apart(policy, other):
    with pytest.raises(AssertionError):
        assert_same_distribution(drawn_by(other), GOLDEN[f"draws/{policy}"])


@pytest.mark.parametrize("key", of("jitter"))
@pytest.mark.parametrize("own", [False, True], ids=["pipeline", "splits"])
def test_colour_jitter_has_torchvisions_statistics(key, own):
    strengths = [float(value) for value in key.split("/")[1].split(",")]
    strengths = strengths * 3 if len(strengths) == 1 else strengths
    if own:
        results = drawn(ColorJitter(*strengths))
    else:
        adjust = [vision.RandomColorAdjust(*strengths)]
        rows = rows_of([picture()] * 3 * DRAWS).map(adjust, "image", num_parallel_workers=1)
        results = np.stack([row["image"] for row in batches_of(rows)])
    assert_same_distribution(results, GOLDEN[key])


def test_lighting_has_pycls_statistics():
    gray = np.full((4, 4, 3), 128, np.uint8)
    lighting, shifts = Lighting(0.1), []
    for epoch in range(2500):
        lighting.epoch = epoch
        shifts.append(lighting(gray)[0, 0].astype(float) - 128)
    theirs = GOLDEN["lighting covariance"]
    np.testing.assert_allclose(np.cov(np.transpose(shifts)), theirs, rtol=0.15, atol=0.15)
    assert np.abs(np.mean(shifts, 0)).max() < 4 * math.sqrt(theirs.max() / 2500)


def test_lighting_rounds_and_clips():
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[:, 2:] = 255
    lighting = Lighting(1.0)
    shift = np.rint(color_shift(lighting.generator(pixels).normal(0.0, 1.0, 3)))
    expected = np.clip(pixels + shift, 0, 255)
    assert np.abs(shift).min() > 1
    np.testing.assert_array_equal(lighting(pixels), expected)


# In the pipeline


@pytest.mark.parametrize(
    "policy, kept", [("3a", True), ("trivialaugwide", False), ("augmix", False), ("v0", False)]
)
def test_3a_keeps_the_colour_jitter_and_other_policies_replace_it(policy, kept):
    operations = create_transforms("", 16, True, policy, color_jitter=0.4)
    kinds = [type(operation).__name__ for operation in operations]
    assert ("RandomColorAdjust" in kinds) == kept


@pytest.mark.parametrize("policy", [
    "randaug-m9-mstd0.5-inc1", "autoaug", "v0r-mstd0.5", "3a", "trivialaugwide", "augmix-m5-w4-d2",
])  # fmt: skip
def test_policy_repeats_for_the_same_seed_epoch_split_copy_and_image_only(policy):
    augment = create_auto_augment(policy, FILL)
    images = random_images(12, 24)

    def results(operation, epoch=0):
        return [operation.seeded(None, epoch)(image).tobytes() for image in images]

    once = results(augment)
    assert results(create_auto_augment(policy, FILL)) == once
    ds.config.set_seed(43)
    others = [results(augment)]
    ds.config.set_seed(42)
    others.append(results(augment, epoch=2))
    for seeded in (augment.seeded(42, 0, split=1), augment.seeded(42, 0, copy_=1)):
        others.append([seeded(image).tobytes() for image in images])
    for other in others:
        assert sum(a != b for a, b in zip(once, other)) >= 6
    assert results(augment) == once


def test_policy_keeps_shape_and_type_and_the_image_itself():
    image = picture()
    for policy in ("randaug", "autoaugr", "3a", "trivialaugwide", "augmix"):
        result = create_auto_augment(policy, FILL)(image)
        assert result.shape == image.shape and result.dtype == np.uint8
    np.testing.assert_array_equal(image, picture())


def test_an_unknown_policy_is_refused_where_it_is_built():
    with pytest.raises(ValueError, match="'randaugment' is unknown; expected randaug"):
        create_auto_augment("randaugment", FILL)
    assert parse_policy("rand-m9-n3-mstd0.5") == parse_policy("randaug-m9-n3")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("rand", RandAugmentPolicy()),
        ("randaug-m7-mstd0.5", RandAugmentPolicy(magnitude=7, magnitude_std=0.5)),
        (
            "randaug-m10-n2-w0-mstd0.5-mmax10-inc0",
            RandAugmentPolicy(magnitude=10, magnitude_std=0.5, weighted=True),
        ),
        (
            "randaug-m9-mstd0.5-inc1",
            RandAugmentPolicy(magnitude=9, magnitude_std=0.5, increasing=True),
        ),
        ("randaug-mstd101", RandAugmentPolicy(magnitude_std=float("inf"))),
        ("randaug-mstdinf-p1", RandAugmentPolicy(magnitude_std=float("inf"), prob=1)),
    ],
)
def test_policy_strings_mean_what_timm_means_by_them(text, policy):
    assert parse_policy(text) == policy
