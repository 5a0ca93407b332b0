"""`python -m mindcv list`: costs and published weights of the models."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from ..design_space import SETTINGS, Complexity, complexity
from ..errors import ConfigError
from ..hub import published_weights
from ..process.entry_point import import_user_module
from ..process.tables import aligned
from .arguments import add_model_arguments


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "pattern", nargs="?", default="", help="part of a name, or a pattern such as 'regnet_y*gf'"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with exact numbers")
    add_model_arguments(parser)


def run(arguments: Namespace) -> None:
    from ..models import list_models

    import_user_module(arguments.import_module)
    pattern = arguments.pattern
    if pattern and not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    names = list_models(pattern)
    if not names:
        raise ConfigError(f"no model matches {arguments.pattern!r}; list without it shows all")
    rows = [describe(name, arguments.image_size) for name in names]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print("\n".join(table(rows)))


def describe(name: str, image_size: int) -> dict[str, Any]:
    """Return a row of the list; costs are of a square image, None: unknown."""
    published = published_weights(name)
    if name in SETTINGS:  # building a large network takes seconds
        costs = complexity(SETTINGS[name].plan(), image_size)
    else:
        from ..models import create_model

        network = create_model(name)
        params = sum(parameter.size for parameter in network.trainable_params())
        is_known = hasattr(network, "complexity")
        costs = network.complexity(image_size) if is_known else Complexity(params, None, None)
    return {
        "model": name,
        **{key: getattr(costs, key) for key in Complexity.__dataclass_fields__},
        "image_size": image_size,
        # The best accuracy in percent, and the sources.
        "top1": max((entry.top1 for entry in published if entry.top1 is not None), default=None),
        "weights": [*dict.fromkeys(entry.source for entry in published)],
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    head = ("model", "params (M)", "MACs (G)", "acts (M)", "input", "top-1", "weights")
    columns = {"params": 1e6, "macs": 1e9, "activations": 1e6, "image_size": None, "top1": 1}
    cells = [head]
    for row in rows:
        numbers = (
            str(row[key]) if unit is None else "-" if row[key] is None else f"{row[key] / unit:.2f}"
            for key, unit in columns.items()
        )
        cells.append((row["model"], *numbers, ", ".join(row["weights"]) or "-"))
    return aligned(cells, left=(0, len(head) - 1))
