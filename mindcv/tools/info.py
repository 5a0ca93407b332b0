"""`python -m mindcv info`: the stages of one model, its costs, and the line its widths follow."""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ..design_space import SETTINGS, NetworkPlan, Setting
from ..design_space.complexity import complexity, complexity_by_part
from ..hub import published_weights
from ..process.entry_point import import_user_module
from .arguments import at_least, file_path
from .width_plot import draw_widths


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME", help="a name that `list` shows, or an alias")
    parser.add_argument(
        "--image_size", type=at_least(8), default=224, help="side of the image, pixels"
    )
    parser.add_argument(
        "--scale", choices=("linear", "log"), default="linear", help="of the plot's width axis"
    )
    parser.add_argument(
        "--import_module", type=file_path, help="module or .py file that registers your own models"
    )


def run(arguments: Namespace) -> None:
    from ..models import canonical_name

    if arguments.import_module:
        import_user_module(arguments.import_module)
    name = canonical_name(arguments.model)
    print("\n".join(describe(name, arguments.image_size, arguments.scale)))


def describe(name: str, image_size: int, scale: str) -> list[str]:
    """Return all that is known of a model, as lines of text."""
    from ..models import create_model

    setting = SETTINGS.get(name)
    network = None if setting else create_model(name)  # a large one would take seconds
    plan = setting.plan() if setting else getattr(network, "plan", None)
    if plan is None:
        params = sum(parameter.size for parameter in network.trainable_params())
        known = [
            f"{params:,} parameters ({params / 1e6:.2f} M)",
            "stages, MACs and activations are not known: the model has no attribute `plan`",
        ]
        return [name, "", *known, "", *published(name)]
    line = (setting.w_0, setting.w_a) if setting else None
    return [
        name,
        "",
        *rule(setting),
        "",
        *stage_table(plan, image_size),
        "",
        *published(name),
        "",
        *draw_widths(plan.widths, plan.depths, line, scale),
        *fit(plan, line),
    ]


def rule(setting: Setting | None) -> list[str]:
    """Return the parameters of the quantized-linear rule."""
    if setting is None:
        return ["the line its widths follow is not known: it is no published RegNet"]
    return [
        f"u_j = w_0 + w_a * j for {setting.depth} blocks, quantized by w_m "
        "(Designing Network Design Spaces, 3.3)",
        f"w_a {setting.w_a}   w_0 {setting.w_0}   w_m {setting.w_m}   depth {setting.depth}   "
        f"group width {setting.group_width}   bottleneck ratio {setting.bottleneck_ratio:g}   "
        f"se ratio {setting.se_ratio:g}",
    ]


def stage_table(plan: NetworkPlan, image_size: int) -> list[str]:
    """Return the table of stem, stages, head and total for a square image."""
    head = ("part", "output", "blocks", "width", "groups", "group w", "stride", "se width")
    parts = complexity_by_part(plan, image_size)
    cells = [(*head, "params", "MACs", "activations")]
    for index, part in enumerate(parts):
        size = f"{part.image_size}x{part.image_size}"
        if index == 0:
            shape = ("1", str(plan.stem_width), "", "", "", "")
        elif index == len(parts) - 1:
            shape = ("", str(plan.num_classes), "", "", "", "")
        else:
            shape = _stage_shape(plan, index - 1)
        costs = part.complexity
        figures = (f"{costs.params:,}", f"{costs.macs:,}", f"{costs.activations:,}")
        cells.append((part.name, size, *shape, *figures))
    total = complexity(plan, image_size)
    figures = (f"{total.params:,}", f"{total.macs:,}", f"{total.activations:,}")
    cells.append(("total", "", str(sum(plan.depths)), *("",) * 5, *figures))
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        )
        for row in cells
    ]


def _stage_shape(plan: NetworkPlan, stage: int) -> tuple[str, ...]:
    grouped = "bottleneck" in plan.block_type
    in_width = plan.widths[stage - 1] if stage else plan.stem_width
    squeezed = [round(in_width * plan.se_ratio)]  # of each block's input width
    if plan.depths[stage] > 1:
        squeezed.append(round(plan.widths[stage] * plan.se_ratio))
    return (
        str(plan.depths[stage]),
        str(plan.widths[stage]),
        str(plan.groups[stage]) if grouped else "-",
        str(plan.group_widths[stage]) if grouped else "-",
        str(plan.strides[stage]),
        ",".join(map(str, squeezed)) if plan.se_ratio and grouped else "-",
    )


def published(name: str) -> list[str]:
    """Return the published weights of a model, with their accuracies in percent."""
    found = published_weights(name)
    if not found:
        return ["published weights: none known"]
    return [
        "published weights:",
        *(
            f"  {entry.source:<14} top-1 {_percent(entry.top1)}   top-5 {_percent(entry.top5)}   "
            f"{entry.preprocessing.image_size} pixels"
            for entry in found
        ),
    ]


def _percent(value: float | None) -> str:
    return "    -" if value is None else f"{value:5.2f}"


def fit(plan: NetworkPlan, line: Sequence[float] | None) -> list[str]:
    """Return how far the blocks' widths lie from the line on average."""
    if line is None:
        return []
    widths = [width for width, depth in zip(plan.widths, plan.depths) for _ in range(depth)]
    ratios = [abs(math.log(width / (line[0] + line[1] * j))) for j, width in enumerate(widths)]
    mean = math.exp(sum(ratios) / len(ratios)) - 1
    return [f"{'':>9}on average a width is {mean:.1%} off the line (geometric mean)"]
