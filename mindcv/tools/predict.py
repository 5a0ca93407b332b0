"""`python -m mindcv predict`: classify images and folders of images."""

import csv
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.samples.pictures import find_images
from ..errors import ConfigError, DataError
from ..process.files import printable, replacing, table_cell, writing
from .arguments import (
    add_files,
    add_network_arguments,
    at_least,
    build_network,
    check_network_arguments,
    check_output,
    file_path,
)

DEFAULT_MODEL = "regnet_y_400mf"  # 17 MB of published weights

if TYPE_CHECKING:  # it imports MindSpore
    from ..classifier import Prediction


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        f"Without weights, those published for --model (default: {DEFAULT_MODEL}) are downloaded. "
        "Ends with 0 when at least one image was classified; files that cannot be read are named "
        "on stderr and skipped. Ends with 4 when none was classified."
    )
    parser.add_argument(
        "images", nargs="+", type=file_path, metavar="IMAGE", help="files, and folders of files"
    )
    add_network_arguments(parser)
    parser.add_argument("--top_k", type=at_least(1), default=5, help="classes of each image")
    add_files(
        parser,
        output="write the predictions: .json or .csv",
        contact_sheet="draw the images and predictions: .png",
        font="of the contact sheet, for names beyond Latin letters",
        class_names="one name a line, or .json; replaces the weights' own",
    )
    parser.add_argument("--batch_size", type=at_least(1), default=16, help="images at a time")
    parser.add_argument(
        "--device_target", choices=("Ascend", "CPU"), help="default: Ascend if there is one"
    )
    parser.add_argument(
        "--mode",
        type=int,
        choices=(0, 1),
        default=1,
        help="0: graph mode, faster for thousands of images; 1: PyNative, starts at once (default)",
    )


def run(arguments: Namespace) -> None:
    if not (arguments.ckpt_path or arguments.pretrained):
        arguments.pretrained, arguments.model = True, arguments.model or DEFAULT_MODEL
    check_network_arguments(arguments, classifies=True)
    if arguments.output:
        check_output("output", arguments.output, (".json", ".csv"), force=True)
    if arguments.contact_sheet:
        check_output("contact_sheet", arguments.contact_sheet, (".png",), force=True)
    from ..data.contact_sheet import MOST_PREDICTIONS, draw_predictions, load_font

    font = load_font(arguments.font)
    paths = find_images(arguments.images)
    names = read_class_names(arguments.class_names) if arguments.class_names else None

    from ..classifier import Classifier
    from ..engine import start_runtime

    start_runtime(arguments.mode, arguments.device_target)
    network, metadata = build_network(arguments)
    if names is not None:
        metadata = metadata.with_class_names(names)

    skipped: dict[str, str] = {}

    def skip(path: str, reason: str) -> None:
        skipped[path] = reason
        print(f"skipped {printable(path)}: {printable(reason)}", file=sys.stderr)

    predictions, tiles = [], []
    for prediction, view in Classifier(network, metadata).stream(
        paths, top_k=arguments.top_k, batch_size=arguments.batch_size, on_bad=skip
    ):
        print("\n".join(prediction_lines(prediction)))
        predictions.append(prediction)
        if arguments.contact_sheet and len(tiles) < MOST_PREDICTIONS:
            tiles.append((prediction, view))
    if not predictions:
        raise DataError(f"none of {len(paths)} files could be read; nothing was classified")
    if arguments.output:
        output = Path(arguments.output)
        with writing(output, ConfigError), replacing(output) as path:
            if output.name.endswith(".json"):
                write_json(path, metadata.model, predictions, skipped)
            else:
                write_csv(path, predictions)
    if arguments.contact_sheet:
        left_out = len(predictions) - len(tiles)
        whose = "default source" if arguments.pretrained is True else arguments.pretrained
        source = arguments.ckpt_path or f"published by {whose}"
        title = f"{metadata.model}   {source}"
        sheet = Path(arguments.contact_sheet)
        with writing(sheet, ConfigError), replacing(sheet) as path:
            drawn = draw_predictions(tiles, title=title, left_out=left_out, font=font)
            drawn.save(path, "PNG")
        if left_out:
            print(f"contact sheet: {left_out} images left out", file=sys.stderr)
    if skipped:
        print(f"{len(predictions)} classified, {len(skipped)} skipped", file=sys.stderr)


def read_class_names(path: str) -> tuple[str, ...]:
    """Read class names in the order of the logits.

    A text file has one name in each line. A JSON file has a list, or an object from index to name;
    of a list in place of a name, the last entry counts (`{"0": ["n01440764", "tench"], …}`).
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if path.lower().endswith(".json"):
            names = _from_json(json.loads(text))
        else:
            names = [line.strip() for line in text.rstrip().splitlines()]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"class_names: {path!r} cannot be read: {reason}") from None
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names: {path!r} holds no list of names")
    return tuple(names)


def _from_json(found) -> list[str]:
    if isinstance(found, Mapping):
        found = [found[str(index)] for index in range(len(found))]
    return [entry[-1] if isinstance(entry, list) else entry for entry in found]


def prediction_lines(prediction: "Prediction") -> list[str]:
    """Return the lines for the terminal: the path, then a line for each class."""
    rows = (
        f"  {guess.probability:7.2%}  {guess.class_index:>4}  {printable(guess.class_name)}"
        for guess in prediction.guesses
    )
    return [printable(prediction.path), *(row.rstrip() for row in rows)]


def write_json(
    path: Path, model: str, predictions: Sequence["Prediction"], skipped: Mapping[str, str]
) -> None:
    content = {
        "model": model,
        "images": [
            {"path": entry.path, "predictions": [asdict(guess) for guess in entry.guesses]}
            for entry in predictions
        ],
        "skipped": [{"path": name, "reason": reason} for name, reason in skipped.items()],
    }
    # Bytes of a path that are not UTF-8 become JSON escapes.
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_bytes(text.encode("utf-8", "backslashreplace") + b"\n")


def write_csv(path: Path, predictions: Sequence["Prediction"]) -> None:
    """Write a row for each image and class."""
    from ..classifier import Guess

    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        columns = ["path", *(field.name for field in fields(Guess))]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for entry in predictions:
            for guess in entry.guesses:
                # Spreadsheets run cells that look like formulas.
                foreign = {"path": entry.path, "class_name": guess.class_name}
                safe = {name: table_cell(text) for name, text in foreign.items()}
                writer.writerow(asdict(guess) | safe)
