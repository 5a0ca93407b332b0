"""`design-space scale`: a network of other costs, by depth, width and image size.

Dollar, Singh and Girshick, Fast and Accurate Model Scaling (CVPR 2021): d w^2 r^2 is the factor on
the multiply-accumulates. Activations, and with them time and memory, grow least where the width
grows most. Rounding is that of pycls `models/scaler.py`.
"""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

from ...config import dump_config, load_config, settings_of
from ...config.settings import join_settings
from ...design_space import NetworkPlan, adjust_block_compatibility, complexity
from ...design_space.plan import anynet_settings
from ...errors import ConfigError
from ...process.files import write_text
from ...process.tables import aligned
from ..arguments import (
    add_files,
    add_force,
    add_settings,
    at_least,
    check_written,
    planned_network,
    positive,
)

COMPOUND = {"dWr": "d1_w8_g8_r1"}  # the paper's fast compound scaling, alpha 0.8


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="a name that `list` shows, or an alias")
    add_settings(parser)
    add_files(
        parser,
        config="a recipe with a model and an image size",
        write="recipe of train.py, ends in .yaml",
    )
    parser.add_argument("--image_size", type=at_least(8), help="side, pixels (default: 224)")
    text = (
        "dWr (default): mostly the width; letters: d depth, w width, g group width, r image size, "
        "alike; or their weights, d1_w8_g8_r1"
    )
    parser.add_argument("--by", type=scaling, default="dWr", metavar="SCALING", help=text)
    text = "multiply-accumulates, times X"
    parser.add_argument("--factor", type=positive, required=True, metavar="X", help=text)
    add_force(parser, "replace FILE if it exists")


def scaling(text: str) -> dict[str, float]:
    """Return the weights of d, w, g and r in a text as pycls' `MODEL.SCALING_TYPE` has it."""
    words = COMPOUND.get(text, text)
    if re.fullmatch("[dwgr]+", words):
        words = "_".join(f"{letter}1" for letter in words)
    found = dict(re.findall(r"([dwgr])(\d+(?:\.\d+)?)", words))
    weights = {key: float(found.get(key, 0)) for key in "dwgr"}
    if "_".join(map("".join, found.items())) != words or not sum(weights[key] for key in "dwr"):
        raise ArgumentTypeError(
            f"{text!r} is none of dWr, letters of dwgr, or d1_w2_r1; d, w or r must grow"
        )
    return weights


def run(arguments: Namespace) -> None:
    check_written(arguments, "write", (".yaml", ".yml"))
    keys = ("model", "regnet", "anynet")
    given = {key: getattr(arguments, key) for key in keys} | {"image_resize": arguments.image_size}
    given = {key: value for key, value in given.items() if value is not None}
    config = load_config(arguments.config, given, rules=lambda config: ())
    plan, size, options = planned_network(config), config.image_resize, settings_of(config)
    kept = {key: options[key] for key in ("global_pool", "zero_init_last") if key in options}
    scaled, scaled_size = scale(plan, size, arguments.by, arguments.factor)
    print(*_table({"before": (plan, size), "after": (scaled, scaled_size)}), sep="\n")
    text = join_settings(anynet_settings(scaled) | kept)
    print(f'\n--model anynet --anynet "{text}" --image_resize {scaled_size}')
    if arguments.write:
        shape = {"model": "anynet", "anynet": text, "image_resize": scaled_size}
        recipe = "".join(f"{key}: {value}\n" for key, value in shape.items())
        if arguments.config:
            recipe = dump_config(replace(config, regnet=None, **shape))
        write_text(Path(arguments.write), recipe, ConfigError)


def scale(
    plan: NetworkPlan, image_size: int, weights: dict[str, float], factor: float
) -> tuple[NetworkPlan, int]:
    """Return a plan and image size whose d w^2 r^2 is `factor` times as large, but for rounding."""
    total = weights["d"] + weights["w"] + weights["r"]
    deeper = factor ** (weights["d"] / total)
    wider, grouped, larger = (factor ** (weights[key] / total / 2) for key in "wgr")
    widths = [_multiple(8, width * wider, least=8) for width in plan.widths]
    groups = [_group_width(group * grouped) for group in plan.group_widths]
    widths, groups = adjust_block_compatibility(widths, plan.bottleneck_ratios, groups)
    depths = tuple(_multiple(1, depth * deeper, least=1) for depth in plan.depths)
    scaled = replace(plan, depths=depths, widths=tuple(widths), group_widths=tuple(groups))
    return scaled, _multiple(4, image_size * larger, least=8)


def _multiple(unit: int, number: float, *, least: int) -> int:
    """Return the multiple of `unit` nearest to a number, and not below `least`."""
    return max(least, unit * round(number / unit))


def _group_width(number: float) -> int:
    """Return a power of two up to 4 or a multiple of 8."""
    whole = _multiple(1, number, least=1)
    if whole > 5:
        return _multiple(8, whole, least=8)
    return min(4, 1 << (whole - 1).bit_length())  # 3 becomes 4


def _table(networks: dict[str, tuple[NetworkPlan, int]]) -> list[str]:
    rows = [("", "image", "depths", "widths", "group widths", "params", "MACs", "activations")]
    for name, (plan, size) in networks.items():
        costs = [f"{count:,}" for count in vars(complexity(plan, size)).values()]
        shape = (plan.depths, plan.widths, plan.group_widths)
        rows.append((name, str(size), *(",".join(map(str, row)) for row in shape), *costs))
    before, after = (vars(complexity(*network)).values() for network in networks.values())
    rows.append(("times", *("",) * 4, *(f"{new / old:.2f}" for old, new in zip(before, after))))
    return aligned(rows)
