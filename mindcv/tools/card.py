"""`mindcv card`: a model card in Markdown, from a checkpoint and the run folder it lies in."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config.options import OPTIONS
from ..errors import ConfigError
from ..process.entry_point import import_user_module
from ..process.files import printable, write_text
from ..task import MULTI_LABEL
from ..weights import Metadata, describe_choice, read_weights
from .arguments import (
    add_ema_argument,
    add_files,
    add_force,
    add_import_module,
    check_written,
    file_path,
)
from .report.run_folder import RunFolder, read_run_folder

# Paths and what concerns the machine say nothing of the model.
_LEFT_OUT = {"num_parallel_workers", "distribute", "device_target"} | {
    name
    for name, entry in OPTIONS.items()
    if entry.metadata["per_host"] or entry.metadata["is_path"]
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = "Intended use, data and limits are yours to write: the card has a heading each."
    parser.add_argument(
        "checkpoint", type=file_path, metavar="CKPT", help="that names its model, as of `train`"
    )
    add_files(parser, output=".md (default: print the card)")
    add_force(parser)
    add_ema_argument(parser)
    add_import_module(parser)


def run(arguments: Namespace) -> None:
    check_written(arguments, "output", (".md",))
    import_user_module(arguments.import_module)
    from ..models import create_model_from_file

    file = read_weights(arguments.checkpoint)
    network, metadata = create_model_from_file(file, ema=arguments.ema)
    path = Path(arguments.checkpoint)
    is_of_run = all((path.parent / name).is_file() for name in ("config.yaml", "metrics.csv"))
    run = read_run_folder(str(path.parent)) if is_of_run else None
    kind = describe_choice(file, arguments.ema)[0]
    text = "\n".join(card(path.name, metadata, network, kind=kind, run=run))
    if arguments.output:
        write_text(Path(arguments.output), f"{text}\n", ConfigError)
        text = f"wrote {arguments.output}"
    print(text)


def card(
    name: str, metadata: Metadata, network, *, kind: str, run: RunFolder | None
) -> Iterator[str]:
    """Yield the lines of the card.

    Args:
        name: of the weight file.
        kind: averaged or raw.
        run: that wrote the file; None: unknown.
    """
    used = metadata.preprocessing
    yield from ("---", "library_name: mindcv", "pipeline_tag: image-classification", "---", "")
    yield from (f"# {metadata.model}", "", "| | |", "|---|---|")
    params = sum(parameter.size for parameter in network.trainable_params())
    facts = {"file": f"{_cell(name)}, the {kind} weights", "parameters": f"{params:,}"}
    if hasattr(network, "complexity") and used.sides[0] == used.sides[1]:
        macs = network.complexity(used.sides[0]).macs
        facts["multiply-accumulates"] = f"{macs:,} for an image"
    facts["input"] = f"{used.sides[0]} x {used.sides[1]} pixels, {metadata.in_channels} channels"
    facts |= {key.replace("_", " "): _cell(value) for key, value in used.to_dict().items()}
    several = ", none or several in an image" if metadata.task == MULTI_LABEL.name else ""
    facts["classes"] = f"{metadata.num_classes}{several}"
    row = run and run.row_of(run.path / name)
    if row:
        facts["trained until epoch"] = str(row.epoch)
        column = f"{'ema_' if kind == 'averaged' else ''}val_{run.task.score}"
        if column in row.values:
            measure = f"{run.task.score_title} on the validation images"
            facts[measure] = f"{row.values[column]:.3f} %"
    yield from (f"| {key} | {value} |" for key, value in facts.items())
    yield from ("", "## Use", "", "```python", "from mindcv import Classifier", "")
    yield from (f"classifier = Classifier.from_pretrained({name!r})", "```", "")
    for heading in ("Intended use", "Training data", "Limits"):
        yield from (f"## {heading}", "", "To be written.", "")
    if metadata.class_names:
        yield from ("## Classes", "", "; ".join(map(_cell, metadata.class_names)), "")
    changed = run.config.changed() if run and run.config else {}
    if changed := {key: value for key, value in changed.items() if key not in _LEFT_OUT}:
        yield from ("## Training options", "", "Those that differ from the defaults:", "")
        yield from ("| option | value |", "|---|---|")
        yield from (f"| `{key}` | {_cell(value)} |" for key, value in changed.items())


def _cell(value: Any) -> str:
    """Return text that Markdown shows as it is."""
    several = isinstance(value, (list, tuple))
    text = printable(", ".join(map(str, value)) if several else str(value))
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", text)
