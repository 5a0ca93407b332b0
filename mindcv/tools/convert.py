"""`python -m mindcv convert`: convert a weight file to another format or other names."""

import argparse

from ..errors import WeightsError
from ..names import plural
from ..weights import read_weights, write_weights
from ..weights.file import READABLE, SUFFIXES
from ..weights.match import sort_contents, without_statistics
from ..weights.schemes import NATIVE, WRITABLE, names_of
from .arguments import add_force, add_settings, check_output, file_path, settings_of, shaping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=file_path, metavar="IN", help=f"weight file: {READABLE}")
    parser.add_argument(
        "output", type=file_path, metavar="OUT", help="ends in .ckpt, .safetensors or .npz"
    )
    parser.add_argument("--model", default="", help="check the weights against this model")
    add_settings(parser)
    parser.add_argument("--names", default=NATIVE, choices=WRITABLE, help="whose names to write")
    parser.add_argument("--ema", action="store_true", help="take the averaged weights")
    add_force(parser, "replace OUT if it exists")


def run(arguments: argparse.Namespace) -> None:
    check_output("OUT", arguments.output, SUFFIXES, arguments.force, inputs=[arguments.input])
    options = shaping(settings_of(arguments, place="command line: "))
    file = read_weights(arguments.input)
    metadata, wanted = file.metadata, ()
    if arguments.model:
        from ..models import create_model_from_file

        network, metadata = create_model_from_file(
            file, arguments.model, ema=arguments.ema, options=options
        )
        wanted = network.parameters_dict()
    contents = sort_contents(file, wanted, arguments.ema)
    if not (contents.scheme or arguments.model):
        raise WeightsError(
            f"weight file {file.path!r} has the names of no known library, e.g. "
            f"{', '.join(list(contents.weights)[:3])}; name the model they belong to: --model"
        )
    if problems := without_statistics(contents.weights):
        raise WeightsError(f"weight file {file.path!r}: {problems[0]}")
    line = f"read {len(contents.weights)} tensors from {file.path} ({file.format}), "
    line += names_of(contents.scheme)
    if contents.choice:
        line += f": {contents.choice}"
    if contents.set_aside:
        line += f"; ignored {plural(len(contents.set_aside), 'entry')} that are not weights"
    print("; ".join([line, *contents.notes]))
    if arguments.model:
        print(f"all of them fit {metadata.model}")
    count = write_weights(arguments.output, contents.weights, metadata, arguments.names)
    print(f"wrote {plural(count, 'tensor')} to {arguments.output}, {names_of(arguments.names)}")
