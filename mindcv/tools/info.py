"""`python -m mindcv info`: the stages of one model, its costs, and the line its widths follow."""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import settings_of, shaping
from ..design_space import (
    GENERAL,
    SETTINGS,
    LinearFit,
    NetworkPlan,
    Setting,
    fit_widths,
    plan_model,
)
from ..design_space.complexity import complexity, complexity_by_part
from ..design_space.plan import BLOCKS, BlockPlan
from ..errors import ConfigError, WeightsError
from ..hub import published_weights
from ..process.entry_point import import_user_module
from ..process.tables import aligned
from ..weights import read_weights
from .arguments import add_files, add_model_arguments, add_settings

_ROWS, _COLUMNS = 20, 68  # of the plot; with its axis it fits into 80 columns


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="NAME", nargs="?", help="a name that `list` shows, or an alias"
    )
    add_settings(parser)
    add_files(parser, ckpt_path="the model that this weight file describes, in place of NAME")
    parser.add_argument(
        "--scale", choices=("linear", "log"), default="linear", help="of the plot's width axis"
    )
    add_model_arguments(parser)


def run(arguments: Namespace) -> None:
    name, options, plan = _find_model(arguments)
    from ..models import create_model

    network = None if plan else create_model(name)  # building a large network takes seconds
    plan = plan or getattr(network, "plan", None)
    print(name, "", sep="\n")
    if plan is None:
        params = sum(parameter.size for parameter in network.trainable_params())
        print(f"{params:,} parameters ({params / 1e6:.2f} M)")
        print("stages, MACs and activations are not known: the model has no attribute `plan`")
        print("", *published(name), sep="\n")
        return
    if name == "anynet" or name not in (*SETTINGS, *GENERAL):
        found = fit_widths(plan.widths, plan.depths)
    else:  # its own rule shapes them
        given = {
            key: value for key, value in options.items() if key in Setting.__dataclass_fields__
        }
        found = replace(SETTINGS[name], **given) if name in SETTINGS else Setting(**given)
    line = (found.w_0, found.w_a)
    print(*rule(found), "", sep="\n")
    print(*stage_table(plan, arguments.image_size), "", sep="\n")
    print(*published(name), "", sep="\n")
    print(*draw_widths(plan.widths, plan.depths, line, arguments.scale), sep="\n")
    distance = mean_distance(plan, line)
    print(f"{'':>9}on average a width is {distance:.1%} off the line (geometric mean)")


def _find_model(arguments: Namespace) -> tuple[str, Mapping[str, Any], NetworkPlan | None]:
    """Return the model's name, arguments of its builder, and its plan if it is of this library."""
    if bool(arguments.model) == bool(arguments.ckpt_path):
        many = "not both" if arguments.model else "neither was given"
        raise ConfigError(
            f"command line: NAME or --ckpt_path FILE says which model; {many}; --help"
        )
    options = shaping(settings_of(arguments, place="command line: ", needed=True))
    from ..models import canonical_name, plan_described

    import_user_module(arguments.import_module)
    if arguments.model:
        name = canonical_name(arguments.model)
        return name, options, plan_model(name, **options)
    file = read_weights(arguments.ckpt_path)
    if file.metadata is None:
        raise WeightsError(f"weight file {file.path!r} does not name its model; give its NAME")
    plan = plan_described(file.metadata, file)
    return canonical_name(file.metadata.model), file.metadata.options, plan


def rule(found: Setting | LinearFit) -> list[str]:
    """Describe the quantized-linear rule of the widths, or the one that comes nearest."""
    formula = f"u_j = w_0 + w_a * j for {found.d} blocks, quantized by w_m"
    source = "(Designing Network Design Spaces, 3.3)"
    if isinstance(found, LinearFit):
        return [
            f"the nearest rule, {formula} {source}",
            f"w_a {found.w_a:.4g}   w_0 {found.w_0}   w_m {found.w_m:.4g}   depth {found.d}   "
            f"e_fit {found.e_fit:.3f}, the mean of |log(width by the rule / width)|",
        ]
    return [
        f"{formula} {source}",
        f"w_a {found.w_a}   w_0 {found.w_0}   w_m {found.w_m}   depth {found.d}   "
        f"group width {found.group_w}   bottleneck ratio {found.bot_mul:g}   "
        f"se ratio {found.se_r:g}",
    ]


def stage_table(plan: NetworkPlan, image_size: int) -> list[str]:
    """Return the table of stem, stages, head and total for a square image."""
    head = ("part", "output", "blocks", "width", "groups", "group w", "stride", "se width")
    stem, *stages, classifier = complexity_by_part(plan, image_size)
    shapes = [
        ("1", str(plan.stem_width), "", "", "", ""),
        *(_stage_shape(plan, blocks) for blocks in plan.stages()),
        ("", str(plan.num_classes), "", "", "", ""),
    ]
    cells = [(*head, "params", "MACs", "activations")]
    for part, shape in zip((stem, *stages, classifier), shapes):
        size = f"{part.image_size}x{part.image_size}"
        cells.append((part.name, size, *shape, *_figures(part.complexity)))
    total = _figures(complexity(plan, image_size))
    return aligned([*cells, ("total", "", str(sum(plan.depths)), *("",) * 5, *total)])


def _figures(costs) -> tuple[str, ...]:
    return tuple(f"{count:,}" for count in (costs.params, costs.macs, costs.activations))


def _stage_shape(plan: NetworkPlan, blocks: Sequence[BlockPlan]) -> tuple[str, ...]:
    first, *_ = blocks
    groups, squeezed = ("-", "-"), "-"
    if BLOCKS[plan.block_type].has_bottleneck:
        groups = (first.groups, first.bottleneck // first.groups)
        if plan.se_ratio:  # of each block's input width, which further blocks share
            squeezed = ",".join(str(block.squeezed) for block in blocks[:2])
    return tuple(map(str, (len(blocks), first.out_width, *groups, first.stride, squeezed)))


def published(name: str) -> list[str]:
    """Describe the published weights, with accuracies in percent."""
    found = published_weights(name)
    if not found:
        return ["published weights: none known"]
    lines = ["published weights:"]
    for row in found:
        top1, top5 = (f"{v:5.2f}" if v is not None else "    -" for v in (row.top1, row.top5))
        size = row.preprocessing.image_size
        lines.append(f"  {row.source:<14} top-1 {top1}   top-5 {top5}   {size} pixels")
    return lines


def mean_distance(plan: NetworkPlan, line: tuple[float, float]) -> float:
    """Return the geometric mean of the blocks' relative distances from the line."""
    widths = np.repeat(plan.widths, plan.depths)
    ratios = np.abs(np.log(widths / (line[0] + line[1] * np.arange(len(widths)))))
    return math.exp(ratios.mean()) - 1


def draw_widths(
    widths: Sequence[int],
    depths: Sequence[int],
    line: tuple[float, float],
    scale: str = "linear",
) -> list[str]:
    """Plot width over block index in text, at most 80 columns wide.

    Args:
        widths, depths: channels and blocks of each stage.
        line: (w_0, w_a) of the line u_j = w_0 + w_a * j, channels.
        scale: of the width axis, linear or log.
    """
    blocks = np.repeat(widths, depths).tolist()
    wanted = [line[0] + line[1] * j for j in range(len(blocks))]
    place = math.log if scale == "log" else float
    low, high = (place(end([*blocks, *wanted])) for end in (min, max))

    def row(width: float) -> int:
        return round((place(width) - low) / (high - low) * (_ROWS - 1)) if high > low else 0

    step = max(1, min(4, _COLUMNS // len(blocks)))  # characters per block; above 68 they share
    used = min(_COLUMNS, step * len(blocks))
    cells = [[" "] * used for _ in range(_ROWS)]  # the lowest row first
    for column in range(used):
        block = column * len(blocks) // used
        cells[row(blocks[block])][column] = "="
        if column == 0 or (column - 1) * len(blocks) // used != block:
            at = row(wanted[block])
            cells[at][column] = "@" if cells[at][column] == "=" else "o"
    labels = {row(width): str(width) for width in sorted(set(widths))}
    plot = [f"{labels.get(at, ''):>7} |{''.join(cells[at])}".rstrip() for at in range(_ROWS)]
    last = str(len(blocks) - 1)
    numbers = "0" + last.rjust(max(used - step, len(last))) if len(blocks) > 1 else "0"
    legend = "= width of block j   o line w_0 + w_a * j   @ both"
    return [*reversed(plot), f"{'':>7} +{'-' * used}", f"{'':>9}{numbers}", f"{'':>9}{legend}"]
