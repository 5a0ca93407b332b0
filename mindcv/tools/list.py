"""`python -m mindcv list`: costs and published weights of the models."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..design_space import SETTINGS, Complexity, complexity
from ..errors import ConfigError
from ..hub import published_weights
from ..process.entry_point import import_user_module
from ..process.tables import aligned
from .arguments import add_model_arguments


@dataclass(frozen=True)
class Row:
    model: str
    params: int  # trainable parameters
    macs: int | None  # of a square image of `image_size` pixels; None: unknown
    activations: int | None  # likewise
    image_size: int
    top1: float | None  # best published top-1 accuracy, percent; None: unknown
    weights: tuple[str, ...]  # sources of published weights


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="", help="part of a name, or a pattern such as 'regnet_y*gf'"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with exact numbers")
    add_model_arguments(parser)


def run(arguments: Namespace) -> None:
    from ..models import list_models

    if arguments.import_module:
        import_user_module(arguments.import_module)
    pattern = arguments.pattern
    if pattern and not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {arguments.pattern!r}; list without it shows all")
    rows = [describe(name, arguments.image_size) for name in names]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print("\n".join(table(rows)))


def describe(name: str, image_size: int) -> Row:
    published = published_weights(name)
    costs = _costs(name, image_size)
    return Row(
        model=name,
        params=costs.params,
        macs=costs.macs,
        activations=costs.activations,
        image_size=image_size,
        top1=max((entry.top1 for entry in published if entry.top1 is not None), default=None),
        weights=tuple(dict.fromkeys(entry.source for entry in published)),
    )


def _costs(name: str, image_size: int) -> Complexity:
    from ..models import create_model

    if name in SETTINGS:  # building a large network takes seconds
        return complexity(SETTINGS[name].plan(), image_size)
    network = create_model(name)
    if hasattr(network, "complexity"):
        return network.complexity(image_size)
    return Complexity(sum(p.size for p in network.trainable_params()), None, None)


def table(rows: Sequence[Row]) -> list[str]:
    head = ("model", "params (M)", "MACs (G)", "acts (M)", "input", "top-1", "weights")
    cells = [
        (
            row.model,
            f"{row.params / 1e6:.2f}",
            "-" if row.macs is None else f"{row.macs / 1e9:.2f}",
            "-" if row.activations is None else f"{row.activations / 1e6:.2f}",
            str(row.image_size),
            "-" if row.top1 is None else f"{row.top1:.2f}",
            ", ".join(row.weights) or "-",
        )
        for row in rows
    ]
    return aligned([head, *cells], left=(0, len(head) - 1))
