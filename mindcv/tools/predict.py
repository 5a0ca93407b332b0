"""`python -m mindcv predict`: classify images and folders of images."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence, Sized
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.samples.pictures import find_images
from ..errors import ConfigError, DataError
from ..names import plural
from ..process.files import printable, write_text
from ..process.tables import write_csv
from ..task import SINGLE_LABEL
from .arguments import (
    NETWORK_OPTIONS,
    add_files,
    add_images,
    add_network_arguments,
    at_least,
    build_network,
    check_contact_sheet,
    check_network_arguments,
    check_output,
    refuse_idle,
    share,
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
    add_images(parser)
    add_network_arguments(parser)
    parser.add_argument(
        "--top_k",
        type=at_least(1),
        help="classes of each image at most (default: 5; all, where images show several)",
    )
    parser.add_argument(
        "--threshold",
        type=share,
        help="smallest probability of a class (default: 0; 0.5, where images show several)",
    )
    add_files(
        parser,
        output="write the predictions instead of printing them: .json or .csv",
        contact_sheet="draw the images and predictions: .png; more pages are called FILE-2.png, …",
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
    is_exported = arguments.ckpt_path and arguments.ckpt_path.endswith((".onnx", ".mindir"))
    if is_exported:
        refuse_idle(
            arguments,
            (name for name in NETWORK_OPTIONS if name != "ckpt_path"),
            f"is for checkpoints; the exported file {arguments.ckpt_path!r} has its own, which are "
            "fixed",
        )
    elif not (arguments.ckpt_path or arguments.pretrained):
        arguments.pretrained, arguments.model = True, arguments.model or DEFAULT_MODEL
    if not is_exported:
        check_network_arguments(arguments, classifies=True)
    if arguments.output:
        check_output("output", arguments.output, (".json", ".csv"), force=True)
    check_contact_sheet(arguments)
    from ..data.contact_sheet import PredictionSheets, load_font

    font = load_font(arguments.font)
    paths = find_images(arguments.images)
    names = read_class_names(arguments.class_names) if arguments.class_names else None

    from ..classifier import Classifier
    from ..engine import start_runtime

    start_runtime(arguments.mode, arguments.device_target)
    if is_exported:
        from .export.deployed import DeployedClassifier

        classifier = DeployedClassifier(arguments.ckpt_path)
        print(f"{arguments.ckpt_path}: {classifier.source}", flush=True)
    else:
        classifier = Classifier(*build_network(arguments))
    if names is not None:
        classifier.metadata = classifier.metadata.with_class_names(names)

    skipped: dict[str, str] = {}

    def skip(path: str, reason: str) -> None:
        skipped[path] = reason
        name_skipped(path, reason)

    title = f"{classifier.metadata.model}   {classifier.source}"
    known = frozenset(class_folders(classifier.metadata))
    sheets = PredictionSheets(arguments.contact_sheet, title, font=font)
    predictions = []
    asked = {name: getattr(arguments, name) for name in ("top_k", "threshold", "batch_size")}
    for prediction, view in classifier.stream(paths, **asked, on_bad=skip):
        label = true_class(prediction.path, known)
        if not arguments.output:
            print("\n".join(prediction_lines(prediction)))
        predictions.append((prediction, label))
        if arguments.contact_sheet:
            sheets.add(prediction, view, label)
    require_some(predictions, paths, "nothing was classified")
    written = sheets.close() if arguments.contact_sheet else []
    if arguments.output:
        write_predictions(Path(arguments.output), classifier.metadata.model, predictions, skipped)
        written.insert(0, arguments.output)
    print(summary(predictions, len(skipped)))
    if written:
        print(f"wrote {', '.join(written)}")


def name_skipped(path: str, reason: str) -> None:
    print(f"skipped {printable(path)}: {printable(reason)}", file=sys.stderr)


def require_some(found: Sized, paths: Sized, consequence: str) -> None:
    """Raise a DataError if no file could be read."""
    if not len(found):
        count = plural(len(paths), "file")
        raise DataError(f"none of {count} could be read; {consequence}")


def class_folders(metadata) -> tuple[str, ...]:
    """Return the names that, as those of folders, tell the true class; of several labels, none."""
    return (metadata.class_names or ()) if metadata.task == SINGLE_LABEL.name else ()


def true_class(path: str, known: Collection[str]) -> str:
    """Return the class that the folder of an image names; empty: it names none of the known."""
    name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return name if name in known else ""


def summary(predictions: Sequence[tuple["Prediction", str]], skipped: int) -> str:
    """Return how many images were classified, and how many rightly where folders name classes."""
    text = f"{len(predictions)} classified" + (f", {skipped} skipped" if skipped else "")
    labelled = [(prediction, label) for prediction, label in predictions if label]
    if not labelled:
        return text
    ranks = [
        next((g.rank for g in prediction.guesses if g.class_name == label), 0)
        for prediction, label in labelled
    ]
    shares = [f"top-1 {100 * ranks.count(1) / len(ranks):.3f} %"]
    if all(len(prediction.guesses) >= 5 for prediction, _ in labelled):
        within = sum(0 < rank <= 5 for rank in ranks)
        shares.append(f"top-5 {100 * within / len(ranks):.3f} %")
    return f"{text}; {', '.join(shares)} of the {len(ranks)} whose folder names their class"


def read_class_names(path: str) -> tuple[str, ...]:
    """Read class names in the order of the logits.

    A text file has one name in each line. A JSON file has a list, or an object from index to name;
    of a list in place of a name, the last entry counts (`{"0": ["n01440764", "tench"], …}`).
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if path.lower().endswith(".json"):
            names = json.loads(text)
            if isinstance(names, Mapping):
                names = [names[str(index)] for index in range(len(names))]
            names = [entry[-1] if isinstance(entry, list) else entry for entry in names]
        else:
            names = [line.strip() for line in text.rstrip().splitlines()]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"class_names: {path!r} cannot be read: {reason}") from None
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"class_names: {path!r} holds no list of names")
    return tuple(names)


def prediction_lines(prediction: "Prediction") -> list[str]:
    """Return the lines for the terminal: the path, then a line for each class."""
    rows = (
        f"  {guess.probability:7.2%}  {guess.class_index:>4}  {printable(guess.class_name)}"
        for guess in prediction.guesses
    )
    return [printable(prediction.path), *([row.rstrip() for row in rows] or ["  no class"])]


def write_predictions(
    output: Path,
    model: str,
    predictions: Sequence[tuple["Prediction", str]],
    skipped: Mapping[str, str],
) -> None:
    """Write a .json file, or a .csv file with a row for each image and class.

    Args:
        predictions: with the class that the image's folder names, or an empty text.
        skipped: reasons by path; not in a csv.
    """
    if output.suffix != ".json":
        from ..classifier import Guess

        columns = [entry.name for entry in fields(Guess)]
        nothing = dict.fromkeys(columns, "")  # keeps the row of an image without a class
        rows = (
            (entry.path, label, *(asdict(guess) if guess else nothing).values())
            for entry, label in predictions
            for guess in entry.guesses or [None]
        )
        write_csv(output, [("path", "true_class", *columns), *rows])
        return
    content = {
        "model": model,
        "images": [
            {
                "path": entry.path,
                "true_class": label or None,
                "predictions": [asdict(guess) for guess in entry.guesses],
            }
            for entry, label in predictions
        ],
        "skipped": [{"path": name, "reason": reason} for name, reason in skipped.items()],
    }
    # Bytes of a path that are not UTF-8 become JSON escapes.
    text = json.dumps(content, ensure_ascii=False, indent=1)
    write_text(output, f"{text}\n", ConfigError)
