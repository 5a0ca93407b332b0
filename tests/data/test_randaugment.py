"""RandAugment against timm (golden/make_randaugment.py)."""

import math
from collections import Counter
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from picture import picture
from pictures import batches_of, png, random_images, rows_of
from PIL import Image

from mindcv.data import create_loader, create_transforms
from mindcv.data.augment.auto_augment import RandAugment
from mindcv.data.augment.operations import OPERATIONS
from mindcv.data.augment.policies import (
    AugMixPolicy,
    AutoAugmentPolicy,
    RandAugmentPolicy,
    TrivialAugmentPolicy,
    parse_policy,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "randaugment.npz")

FILL = (124, 116, 104)
WHOLE = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), normalize_on_device=True)


pytestmark = pytest.mark.usefixtures("fixed_seed")


# RandAugment


class Signs:
    """A generator whose next draw makes the operations take this sign."""

    def __init__(self, sign: int):
        self.sign = sign

    def random(self) -> float:
        return 0.0 if self.sign > 0 else 0.9


RESAMPLED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("key", [key for key in GOLDEN.files if "/" in key])
def test_operation_equals_timms(key):
    name, increasing, strength, sign = key.split("/")
    given = (Image.fromarray(picture()), float(strength), Signs(int(sign)), FILL)
    result = OPERATIONS[name].apply(*given, increasing=increasing == "1")
    difference = np.abs(np.asarray(result).astype(int) - GOLDEN[key])
    # Pillow's affine resampling may round otherwise in another version.
    assert difference.max() <= (1 if name in RESAMPLED else 0)


@pytest.mark.parametrize("name", RESAMPLED)
def test_both_signs_of_a_geometric_operation_are_in_the_golden_file(name):
    assert {f"{name}/0/9.0/1", f"{name}/0/9.0/-1"} <= set(GOLDEN.files)


def test_operations_are_timms_and_those_drawn_are_mindcvs_fourteen():
    ours = {name.replace("_", "") for name in OPERATIONS}
    theirs = {str(n).replace("Increasing", "").replace("Rel", "") for n in GOLDEN["names of inc1"]}
    assert ours == {name.lower() for name in theirs}
    drawn = {name.replace("_", "") for name in RandAugment("randaug-inc1", FILL).operations}
    assert ours - drawn == {"solarizeadd"} and len(drawn) == 14


def test_more_weighted_operations_than_have_a_weight_are_refused():
    assert len(RandAugment("randaug-n12-w0-p1", FILL)(picture())) == 16
    with pytest.raises(ValueError, match="12"):
        RandAugment("randaug-n14-w0", FILL)


def test_posterize_keeps_at_least_one_bit():
    for increasing, strength in ((0, 0.0), (1, 10.0), (1, 30.0)):
        operations = RandAugment(f"randaug-inc{increasing}", FILL).operations
        result = operations["posterize"](Image.fromarray(picture()), strength, Signs(1), FILL)
        assert set(np.unique(np.asarray(result))) == {0, 128}


def recorded(policy: str, count: int) -> list[list[tuple[str, float]]]:
    """Return the operations and strengths that the policy applies to each of `count` images."""
    augment = RandAugment(policy, FILL)
    applied: list = []

    def record(name):
        def operation(image, strength, rng, fill):
            applied[-1].append((name, strength))
            return image

        return operation

    augment.operations = {name: record(name) for name in augment.operations}
    for image in random_images(count, 4):
        applied.append([])
        augment(image)
    return applied


def test_operations_are_drawn_evenly_and_applied_with_their_probability():
    draws = [name for image in recorded("randaug-m9-n2", 1500) for name, _ in image]
    assert abs(len(draws) - 1500) < 4 * math.sqrt(3000 * 0.25)
    counts = Counter(draws)
    assert len(counts) == 14
    assert max(abs(count - 107) for count in counts.values()) < 4.5 * math.sqrt(107)
    assert all(len(image) == 3 for image in recorded("randaug-m9-n3-p1", 50))
    assert not any(recorded("randaug-p0", 50))


def test_weighted_operations_are_drawn_without_repetition_by_their_weights():
    images = [[name for name, _ in image] for image in recorded("randaug-n2-w0-p1", 1500)]
    assert all(len(set(names)) == 2 for names in images)
    counts = Counter(names[0] for names in images)
    assert "posterize" not in counts and "invert" not in counts
    assert abs(counts["rotate"] - 450) < 4 * math.sqrt(1500 * 0.3 * 0.7)
    assert abs(counts["translate_x"] - 150) < 4 * math.sqrt(1500 * 0.1 * 0.9)


def strengths(policy: str, count: int = 1500) -> np.ndarray:
    return np.array([s for image in recorded(policy + "-p1-n1", count) for _, s in image])


def test_strength_is_constant_without_deviation():
    assert set(strengths("rand-m7", 50)) == {7.0}


def test_strength_is_normal_and_clipped():
    normal = strengths("randaug-m5-mstd0.5")
    assert abs(normal.mean() - 5) < 4 * 0.5 / math.sqrt(1500)
    assert abs(normal.std() - 0.5) < 4 * 0.5 / math.sqrt(3000)
    clipped = strengths("randaug-m9-mstd3")
    assert clipped.max() == 10.0
    share = 0.5 * math.erfc(1 / 3 / math.sqrt(2))  # beyond 10
    assert abs((clipped == 10).mean() - share) < 4 * math.sqrt(share * (1 - share) / 1500)
    assert strengths("randaug-m9-mstd3-mmax20").max() > 15
    assert strengths("randaug-m1-mstd3").min() == 0.0


def test_strength_is_uniform_for_an_infinite_deviation():
    for policy in ("randaug-m8-mstdinf", "randaug-m8-mstd101"):
        uniform = strengths(policy)
        assert 0 <= uniform.min() < 0.1 and 7.9 < uniform.max() <= 8
        assert abs(uniform.mean() - 4) < 4 * 8 / math.sqrt(12 * 1500)


def test_augmentation_depends_on_the_image_and_the_seed_alone():
    augment = RandAugment("randaug-m9-mstd0.5-inc1-p1", FILL)
    once = augment(picture())
    assert once.shape == picture().shape and once.dtype == np.uint8
    np.testing.assert_array_equal(augment(picture()), once)
    results = set()
    for seed in range(10):
        ds.config.set_seed(seed)
        results.add(augment(picture()).tobytes())
    assert len(results) > 5


def test_python_operations_repeat_with_any_number_of_workers():
    images = [png(image) for image in random_images(12, 24)]
    transform = create_transforms(
        *("", 24, True, "autoaug-mstd0.5"),
        hflip=0.0,
        re_prob=0.5,
        re_value="random",
        **WHOLE,
    )

    def run(workers):
        loader = create_loader(
            rows_of(images), 4, transform=transform, num_parallel_workers=workers
        )
        return np.concatenate([batch["image"] for batch in batches_of(loader, epochs=2)])

    one = run(1)
    np.testing.assert_array_equal(one, run(2))
    one, later = np.split(one, 2)
    assert (one != later).any((1, 2, 3)).sum() >= 6  # uncropped, and yet other draws
    changed = (one != random_images(12, 24)).any((1, 2, 3))
    assert changed.sum() >= 6


@pytest.mark.parametrize(
    "text, expected",
    [
        ("randaug", RandAugmentPolicy(magnitude_std=0.5)),
        ("rand", RandAugmentPolicy()),
        ("randaug-m7-mstd0.5", RandAugmentPolicy(magnitude=7, magnitude_std=0.5)),
        (
            "randaug-m9-mstd0.5-inc1",
            RandAugmentPolicy(magnitude=9, magnitude_std=0.5, increasing=True),
        ),
        (
            "randaug-m10-n2-w0-mstd0.5-mmax10-inc0",
            RandAugmentPolicy(10, 2, 0.5, 10, increasing=False, weighted=True),
        ),
        ("rand-p0.3-n3", RandAugmentPolicy(prob=0.3, num_ops=3)),
        ("randaug-mstd101", RandAugmentPolicy(magnitude_std=math.inf)),
        ("rand-m15-mmax20", RandAugmentPolicy(magnitude=15, magnitude_max=20)),
        ("rand-m7-mstd0.5", RandAugmentPolicy(magnitude=7, magnitude_std=0.5)),
        ("autoaug-mstd0.5", AutoAugmentPolicy("original", 0.5)),
        ("original-mstd0.5", AutoAugmentPolicy("original", 0.5)),
        ("autoaugr", AutoAugmentPolicy("originalr", 0.5)),
        ("originalr", AutoAugmentPolicy("originalr")),
        ("v0", AutoAugmentPolicy("v0")),
        ("v0r-mstd1", AutoAugmentPolicy("v0r", 1.0)),
        ("3a", AutoAugmentPolicy("3a")),
        ("trivialaugwide", TrivialAugmentPolicy()),
        ("trivialaugwide-m20", TrivialAugmentPolicy(20)),
        ("augmix", AugMixPolicy(3.0, 3, 0, 1.0, math.inf)),
        ("augmix-m5-w4-d2", AugMixPolicy(5.0, 4, 2, 1.0, math.inf)),
        ("augmix-a0.5-mstd0", AugMixPolicy(alpha=0.5, magnitude_std=0.0)),
    ],
)
def test_policy_syntax(text, expected):
    assert parse_policy(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "randaugm9",
            "autoaugment",
            "autoaug-m5",
            "3a-",
            "3a-j",
            "v1",
            "augmix-n2",
            "augmix-w0",
        ),
        *("trivialaugwide-m32", "augmix-d2.5", "augmix-b1", "augmix-a0", "original-mstd"),
        *("randaug-", "randaug-m", "randaug-9", "randaug-x3", "randaug-m9-m8"),
        *("randaug-m31", "randaug-m-1", "randaug-n0", "randaug-n16", "randaug-n1.5"),
        *("randaug-p2", "randaug-w1", "randaug-inc2", "randaug-inc0.5", "randaug-m1.2.3"),
        *("randaug-mmax31", "randaug m9", "randaug-M9", "randaug-m9 "),
    ],
)
def test_malformed_policy_is_a_value_error_that_shows_it(text):
    with pytest.raises(ValueError) as error:
        parse_policy(text)
    assert repr(text) in str(error.value)
