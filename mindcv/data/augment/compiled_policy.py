"""RandAugment and TrivialAugment as a single MindSpore operation, without Python per image.

MindSpore's own RandAugment and TrivialAugmentWide are different (see `pillow_policy`), but its
single operations fit (see `operations`). So a policy becomes a table of a thousand or more rows of
them, drawn once from its distribution, and `RandomSelectSubpolicy` picks a row for each image.
"""

import functools
from collections.abc import Sequence

import numpy as np
from mindspore.dataset import vision

from .operations import OPERATIONS, TRIVIAL, Drawn
from .pillow_policy import draw_strength, fill_colour
from .policies import WEIGHTS, RandAugmentPolicy, TrivialAugmentPolicy, parse_policy

_DRAWN = 4  # rows per pair of operations; each row comes twice, with opposite signs


def compile_policy(
    policy: str, fill: Sequence[float], size: int, first: Sequence = ()
) -> vision.RandomSelectSubpolicy | None:
    """Return a policy, see `parse_policy`, as one MindSpore operation; None if it needs Python.

    The operation maps an image (H, W, 3) uint8 to another. Only RandAugment and TrivialAugment
    compile: AutoAugment's tables rely on equalize and solarize_add, 3-Augment on a blur, AugMix on
    blending. A malformed policy is a ValueError.

    Args:
        fill: colour of the pixels that a geometric operation uncovers, 0-255 scale.
        size: side of the square image, pixels.
        first: (operation, probability) of what precedes every row, such as flips: as separate
            operations they would start from the same random numbers.
    """
    parsed = parse_policy(policy)
    if isinstance(parsed, RandAugmentPolicy):
        rows = _rand_augment_rows(parsed, fill_colour(fill), size)
    elif isinstance(parsed, TrivialAugmentPolicy):
        rows = _trivial_augment_rows(fill_colour(fill), size)
    else:
        return None
    return vision.RandomSelectSubpolicy([[*first, *row] for row in rows])


@functools.lru_cache(4)
def _rand_augment_rows(policy: RandAugmentPolicy, fill: tuple, size: int) -> list[list[tuple]]:
    def compiled(name: str, strength: float, sign: float):
        operation = OPERATIONS[name]
        drawn = Drawn(strength, lambda: sign, (size, size), policy.increasing)
        return operation.mindspore(operation.value(drawn), size, fill)

    return [
        [(compiled(name, strength, turn * sign), policy.prob) for name, strength, sign in drawn]
        for drawn in draw_rand_augment(policy)
        for turn in (1.0, -1.0)
    ]


def draw_rand_augment(policy: RandAugmentPolicy) -> list[list[tuple[str, float, float]]]:
    """Return rows of (operation, strength, sign), always the same for a policy.

    Without weights, each pair of operations has equally many rows.
    """
    rng = np.random.default_rng(0)
    names = [name for name in WEIGHTS if OPERATIONS[name].mindspore]
    count = _DRAWN * len(names) ** 2
    if policy.weighted:
        shares = np.array([WEIGHTS[name] for name in names])
        shares = shares / shares.sum()
        chosen = [rng.choice(len(names), policy.num_ops, False, shares) for _ in range(count)]
    else:
        decks = [np.arange(count) // len(names) ** place % len(names) for place in (0, 1)]
        decks += [rng.permutation(decks[0]) for _ in range(2, policy.num_ops)]
        chosen = np.stack(decks[: policy.num_ops], 1)

    def drawn(name: str) -> tuple[str, float, float]:
        strength = draw_strength(rng, policy.magnitude, policy.magnitude_std, policy.magnitude_max)
        return name, strength, 1.0 if rng.random() < 0.5 else -1.0

    return [[drawn(names[index]) for index in row] for row in chosen]


@functools.lru_cache(4)
def _trivial_augment_rows(fill: tuple, size: int) -> list[list[tuple]]:
    longest = 2 * max(len(row.strengths) for row in TRIVIAL.values())
    rows = []
    for row in TRIVIAL.values():
        signs = (1, -1) if row.is_signed else (1,)
        signed = [float(sign * strength) for strength in row.strengths for sign in signs]
        operations = [
            row.operation.mindspore(row.value(strength), size, fill) for strength in signed
        ]
        rows += [[(operation, 1.0)] for operation in operations] * (longest // len(operations))
    return rows
