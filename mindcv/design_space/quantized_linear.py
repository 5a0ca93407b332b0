"""RegNet's width rule: a line over the block index, quantized to a few stage widths.

Radosavovic et al., Designing Network Design Spaces, section 3.3; rounding as in pycls
`models/regnet.py`: half to even, in float64.
"""

import math
from collections.abc import Sequence

import numpy as np

ROUNDINGS = ("pycls", "torchvision")


def generate_regnet(
    w_a: float, w_0: int, w_m: float, depth: int, quantum: int = 8
) -> tuple[list[int], list[int]]:
    """Return the widths and depths of a RegNet's stages.

    Block j has the ideal width u_j = w_0 + w_a * j (equation 2), which is rounded to the nearest
    power of w_m times w_0 (equations 3 and 4) and then to the nearest multiple of `quantum`. Blocks
    of equal width form a stage.

    Args:
        w_a: slope, channels per block, >= 0.
        w_0: width of the first block, a positive multiple of `quantum`.
        w_m: ratio of neighbouring stage widths, > 1.

    Raises:
        ValueError: a parameter is out of range.
    """
    if quantum < 1:
        raise ValueError(f"quantum={quantum} must be at least 1")
    in_range = 0 <= w_a < math.inf and 1 < w_m < math.inf and w_0 > 0 and depth >= 1
    if not in_range or w_0 % quantum:
        raise ValueError(
            f"w_a={w_a}, w_0={w_0}, w_m={w_m}, depth={depth} is no RegNet: expected w_a >= 0, "
            f"w_0 a positive multiple of {quantum}, w_m > 1 and depth >= 1"
        )
    wanted = np.arange(depth) * w_a + w_0
    powers = np.round(np.log(wanted / w_0) / np.log(w_m))
    quantized = np.round(w_0 * np.power(w_m, powers) / quantum).astype(int) * quantum
    widths, depths = np.unique(quantized, return_counts=True)
    return widths.tolist(), depths.tolist()


def adjust_block_compatibility(
    widths: Sequence[int],
    bottleneck_ratios: Sequence[float],
    group_widths: Sequence[int],
    rounding: str = "pycls",
) -> tuple[list[int], list[int]]:
    """Return stage widths and group widths, adjusted so that groups divide bottleneck widths.

    A group width is limited to its bottleneck width, which is then rounded to the nearest multiple
    of the group width (and of the bottleneck ratio, if above 1). Source: pycls `models/blocks.py`.

    Args:
        bottleneck_ratios: bottleneck width / output width; whole numbers if above 1.
        rounding: pycls: halves go to the even multiple. torchvision: halves go up, and a width that
            falls below 0.9 of the wanted one moves up to the next multiple (`models/_utils.py`,
            `_make_divisible`); at a ratio of 1 these are exactly torchvision's widths.

    Raises:
        ValueError: unequal lengths, a value that is not positive, a ratio above 1 that is not
            whole, or an unknown rounding.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding {rounding!r} is unknown; expected {', '.join(ROUNDINGS)}")
    if not len(widths) == len(bottleneck_ratios) == len(group_widths):
        raise ValueError("widths, bottleneck_ratios and group_widths must have equal lengths")
    new_widths, new_groups = [], []
    for width, ratio, group in zip(widths, bottleneck_ratios, group_widths):
        if min(width, ratio, group) <= 0 or (ratio > 1 and ratio % 1):
            raise ValueError(
                f"width {width}, bottleneck ratio {ratio}, group width {group}: expected positive "
                "values and a whole number for a ratio above 1"
            )
        bottleneck = int(max(1, width * ratio))
        group = int(min(group, bottleneck))
        multiple = math.lcm(group, int(ratio)) if ratio > 1 else group
        bottleneck = max(multiple, _round(bottleneck, multiple, rounding))
        new_widths.append(int(bottleneck / ratio))
        new_groups.append(group)
    return new_widths, new_groups


def _round(width: int, multiple: int, rounding: str) -> int:
    if rounding == "pycls":
        return round(width / multiple) * multiple
    rounded = int(width + multiple / 2) // multiple * multiple
    return rounded + multiple if rounded < 0.9 * width else rounded
