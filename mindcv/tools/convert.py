"""Turn a weight file of any library into another format or other names."""

import argparse
from dataclasses import replace

from ..errors import WeightsError
from ..weights import Metadata, read_weights, write_weights
from ..weights.match import Contents, sort_contents, told_preprocessing
from ..weights.read import READABLE
from ..weights.schemes import OWN, WRITABLE
from ..weights.write import SUFFIXES
from .arguments import check_output, file_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=file_path, metavar="IN", help=f"weight file: {READABLE}")
    parser.add_argument(
        "output", type=file_path, metavar="OUT", help="ends in .ckpt, .safetensors or .npz"
    )
    parser.add_argument("--model", default="", help="check the weights against this model")
    parser.add_argument("--names", default=OWN, choices=WRITABLE, help="whose names to write")
    parser.add_argument("--ema", action="store_true", help="take the averaged weights")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(arguments: argparse.Namespace) -> None:
    """Convert and print what was read and written.

    Raises:
        ConfigError: OUT cannot be written or is IN, see `check_output`; or no such model.
        WeightsError: IN cannot be read, does not fit the model, or has no such names.
    """
    check_output("OUT", arguments.output, SUFFIXES, arguments.force, [arguments.input])
    file = read_weights(arguments.input)
    contents = sort_contents(file, ema=arguments.ema)
    metadata = _metadata(contents, arguments.model)
    if arguments.model:
        contents, line = _check_model(contents, metadata, arguments.ema)
    elif not contents.scheme:
        raise WeightsError(
            f"weight file {file.path!r} has the names of no known library, e.g. "
            f"{', '.join(list(contents.weights)[:3])}; --model tells which they should be"
        )
    else:
        line = _summary(contents)
    print(line)
    count = write_weights(arguments.output, contents.weights, metadata, arguments.names)
    print(f"wrote {count} tensors to {arguments.output}, names of {arguments.names}")


def _metadata(contents: Contents, model: str) -> Metadata | None:
    known = contents.file.metadata
    if known is None:
        return model and _default_metadata(contents, model) or None
    if model and known.model != model:
        raise WeightsError(
            f"weight file {contents.file.path!r} is of model {known.model}, not {model}"
        )
    return known


def _default_metadata(contents: Contents, model: str) -> Metadata:
    return replace(
        Metadata(model),
        num_classes=contents.num_classes,
        in_channels=contents.in_channels or 3,
        preprocessing=told_preprocessing(contents.file),
    )


def _check_model(contents: Contents, metadata: Metadata, ema: bool) -> tuple[Contents, str]:
    """Load the weights into the model, which fails unless all of them fit; tell what was loaded."""
    from ..models import create_described, load_weights

    network = create_described(metadata, contents.file)
    report = load_weights(network, contents.file, ema=ema, new_head=False)
    return sort_contents(contents.file, network.parameters_dict(), ema), report.line


def _summary(contents: Contents) -> str:
    line = f"read {len(contents.weights)} tensors from {contents.file.path} "
    line += f"({contents.file.format}), names of {contents.scheme}"
    if contents.choice:
        line += f": {contents.choice}"
    if contents.set_aside:
        line += f"; set aside {len(contents.set_aside)} that are no weights"
    return "; ".join([line, *contents.notes])
