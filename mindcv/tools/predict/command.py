"""`python -m mindcv predict`: classify image files and folders of them.

Ends with 0 when at least one image was classified, and tells how many were not; with 4 when none
was.
"""

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace

from ...errors import ConfigError, DataError
from ...process.foreign_text import printable
from ..arguments import at_least, file_path
from ..network_source import add_network_arguments, build_network, check_network_arguments
from ..output_files import appearing_when_complete, check_output


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "Ends with 0 when at least one image was classified; files that cannot be read are named "
        "on stderr and skipped. Ends with 4 when none was classified."
    )
    parser.add_argument(
        "images", nargs="+", type=file_path, metavar="IMAGE", help="files, and folders of files"
    )
    add_network_arguments(parser)
    parser.add_argument("--top_k", type=at_least(1), default=5, help="classes of each image")
    parser.add_argument(
        "--output", type=file_path, metavar="FILE", help="write the predictions: .json or .csv"
    )
    parser.add_argument(
        "--contact_sheet",
        type=file_path,
        metavar="FILE",
        help="draw the images and predictions: .png",
    )
    parser.add_argument(
        "--font",
        type=file_path,
        metavar="FILE",
        help="of the contact sheet, for names beyond Latin letters",
    )
    parser.add_argument(
        "--class_names",
        type=file_path,
        metavar="FILE",
        help="one name a line, or .json; replaces the weights' own",
    )
    parser.add_argument("--image_size", type=at_least(8), help="instead of the weights' own")
    parser.add_argument("--batch_size", type=at_least(1), default=16, help="images at a time")
    parser.add_argument("--device_target", choices=("Ascend", "CPU"), help="default: what there is")
    parser.add_argument(
        "--mode",
        type=int,
        choices=(0, 1),
        default=1,
        help="0: graph mode, faster for thousands of images; 1: PyNative, starts at once (default)",
    )


def run(arguments: Namespace) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names may be any bytes
    check_network_arguments(arguments, classifies=True)
    if arguments.output:
        check_output("output", arguments.output, (".json", ".csv"), force=True)
    if arguments.contact_sheet:
        check_output("contact_sheet", arguments.contact_sheet, (".png",), force=True)
    from ...data.lettering import load_font
    from .contact_sheet import MOST_IMAGES
    from .images import find_images
    from .results import prediction_lines, read_class_names

    font = load_font(arguments.font)
    paths = find_images(arguments.images)
    names = read_class_names(arguments.class_names) if arguments.class_names else None

    from ...engine import start_runtime
    from ...models import fold_on_cpu
    from .classify import classify

    runtime = start_runtime(arguments.mode, arguments.device_target)
    network, metadata = build_network(arguments)
    network = fold_on_cpu(network, runtime.device_target)
    names = _class_names(names, metadata)
    preprocessing = metadata.preprocessing
    if arguments.image_size:
        preprocessing = replace(preprocessing, image_size=arguments.image_size)

    skipped: dict[str, str] = {}

    def skip(path: str, reason: str) -> None:
        skipped[path] = reason
        print(f"skipped {printable(path)}: {printable(reason)}", file=sys.stderr)

    predictions, tiles = [], []
    batch_size = min(arguments.batch_size, len(paths))
    top_k = min(arguments.top_k, metadata.num_classes)
    for prediction, view in classify(network, paths, preprocessing, top_k, batch_size, skip):
        print("\n".join(prediction_lines(prediction, names)))
        predictions.append(prediction)
        if arguments.contact_sheet and len(tiles) < MOST_IMAGES:
            tiles.append((prediction, view))
    if not predictions:
        raise DataError(f"none of {len(paths)} files could be read; nothing was classified")
    _write(arguments, metadata, names, predictions, tiles, skipped, font)
    if skipped:
        print(f"{len(predictions)} classified, {len(skipped)} skipped", file=sys.stderr)


def _class_names(names, metadata):
    if names is not None and len(names) != metadata.num_classes:
        raise ConfigError(
            f"class_names: the file holds {len(names)} names, the model has "
            f"{metadata.num_classes} classes"
        )
    return names or metadata.class_names


def _write(arguments, metadata, names, predictions, tiles, skipped, font) -> None:
    from .contact_sheet import write_contact_sheet
    from .results import write_csv, write_json

    if arguments.output:
        with appearing_when_complete(arguments.output) as (path,):
            if arguments.output.endswith(".json"):
                write_json(path, metadata.model, predictions, names, skipped)
            else:
                write_csv(path, predictions, names)
    if arguments.contact_sheet:
        left_out = len(predictions) - len(tiles)
        source = arguments.ckpt_path or f"published by {arguments.pretrained or 'default source'}"
        title = f"{metadata.model}   {source}"
        with appearing_when_complete(arguments.contact_sheet) as (path,):
            write_contact_sheet(path, title, tiles, names, left_out, font)
        if left_out:
            print(f"contact sheet: {left_out} images left out", file=sys.stderr)
