"""`python -m mindcv predict`: classify images and folders of images."""

import csv
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..data.samples.folder import IMAGE_SUFFIXES, images_below
from ..errors import ConfigError, DataError
from ..process.files import printable, replacing, table_cell, writing
from ..weights import Metadata, Preprocessing
from .arguments import (
    add_files,
    add_network_arguments,
    at_least,
    build_network,
    check_network_arguments,
    check_output,
    file_path,
)


@dataclass(frozen=True)
class Guess:
    """A likely class of an image; the fields are the columns of the csv."""

    rank: int  # from 1
    class_index: int
    class_name: str  # empty: unknown
    probability: float  # of the softmax over all classes


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of an image, the likeliest first."""

    path: str  # as the user wrote it
    guesses: tuple[Guess, ...]


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
    check_network_arguments(arguments, classifies=True)
    if arguments.output:
        check_output("output", arguments.output, (".json", ".csv"), force=True)
    if arguments.contact_sheet:
        check_output("contact_sheet", arguments.contact_sheet, (".png",), force=True)
    from ..data.contact_sheet import MOST_PREDICTIONS, draw_predictions, load_font

    font = load_font(arguments.font)
    paths = find_images(arguments.images)
    names = read_class_names(arguments.class_names) if arguments.class_names else None

    from ..engine import start_runtime
    from ..models import fold_on_cpu

    runtime = start_runtime(arguments.mode, arguments.device_target)
    network, metadata = build_network(arguments)
    if names is not None:
        metadata = _renamed(metadata, names)

    skipped: dict[str, str] = {}

    def skip(path: str, reason: str) -> None:
        skipped[path] = reason
        print(f"skipped {printable(path)}: {printable(reason)}", file=sys.stderr)

    predictions, tiles = [], []
    for prediction, view in classify(
        fold_on_cpu(network, runtime.device_target),
        metadata,
        paths,
        top_k=arguments.top_k,
        batch_size=min(arguments.batch_size, len(paths)),
        on_bad=skip,
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


def find_images(places: Sequence[str]) -> list[str]:
    """Return the given files, and the images below the given folders, each path once.

    Folders are searched as those of a dataset are (see `walk`), including links to folders;
    the plots in a run folder are skipped. A file given by name may have any suffix and is not
    checked here.

    Raises:
        DataError: a folder holds no image or cannot be read.
    """
    found = {}
    for place in places:
        inside = _search(place) if os.path.isdir(place) else [place]
        if not inside:
            raise DataError(
                f"folder {place!r} holds no image ({', '.join(IMAGE_SUFFIXES)}), or it is a run "
                "folder, whose plots are not classified"
            )
        for path in inside:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _search(folder: str) -> list[str]:
    """Return the sorted images below a folder, a folder's own before its subfolders'."""
    found = [os.fsdecode(path) for path in images_below(Path(folder), ".")]
    paths = [os.path.join(folder, os.path.relpath(path, ".")) for path in found]
    plots = {place for place in set(map(os.path.dirname, paths)) if _is_run_folder(place)}
    return sorted((path for path in paths if os.path.dirname(path) not in plots), key=_sort_key)


def _is_run_folder(place: str) -> bool:
    return all(os.path.isfile(os.path.join(place, name)) for name in ("config.yaml", "metrics.csv"))


def _sort_key(path: str) -> list[tuple[bool, str]]:
    *folders, name = path.split(os.sep)
    return [*((True, folder) for folder in folders), (False, name)]


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


def _renamed(metadata: Metadata, names: tuple[str, ...]) -> Metadata:
    if len(names) != metadata.num_classes:
        raise ConfigError(
            f"class_names: the file holds {len(names)} names, the model has "
            f"{metadata.num_classes} classes"
        )
    return replace(metadata, class_names=names)


def classify(
    network,
    metadata: Metadata,
    paths: Sequence[str],
    *,
    top_k: int,
    batch_size: int,
    on_bad: Callable[[str, str], None],
) -> Iterator[tuple[Prediction, np.ndarray]]:
    """Yield the prediction of each readable image and the network's view of it.

    The view is the resized and cropped image before normalisation, uint8 (H, W, 3).

    Args:
        network: maps normalised images to logits, in evaluation mode.
        metadata: provides preprocessing and class names.
        batch_size: the last batch is padded, so that the graph is compiled only once.
        on_bad: called with path and reason of each unreadable file.

    Raises:
        WeightsError: the logits are not finite.
    """
    from mindspore import Tensor, nn

    from ..data import Normalize
    from ..engine.evaluation import softmax

    used, names = metadata.preprocessing, metadata.class_names
    step = nn.SequentialCell(Normalize(used.mean, used.std), network).set_train(False)
    for batch in _batches(paths, used, batch_size, on_bad):
        files, views = zip(*batch)
        padding = np.zeros((batch_size - len(views), *views[0].shape), np.uint8)
        logits = step(Tensor(np.concatenate([np.stack(views), padding])))
        logits = logits[0] if isinstance(logits, tuple) else logits
        shares = softmax(logits.asnumpy()[: len(views)])
        for path, view, row in zip(files, views, shares):
            best = np.argsort(-row, kind="stable")[:top_k].tolist()
            guesses = (
                Guess(rank, index, names[index] if names else "", float(row[index]))
                for rank, index in enumerate(best, 1)
            )
            yield Prediction(path, tuple(guesses)), view


def _batches(paths, preprocessing: Preprocessing, batch_size: int, on_bad):
    from ..data.transforms import evaluation_transforms

    operations = evaluation_transforms(preprocessing)
    batch = []
    for path in paths:
        try:
            batch.append((path, read_image(path, operations)))
        except DataError as error:
            on_bad(path, str(error))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def read_image(path: str, operations: Sequence[Callable]) -> np.ndarray:
    """Read an image file and apply the evaluation transforms.

    Args:
        operations: `evaluation_transforms(preprocessing)`; they return uint8 (H, W, 3).

    Raises:
        DataError: the file cannot be read or decoded, or an operation fails.
    """
    from ..data.image_files import decodable
    from ..data.samples.files import read_file

    image = decodable(read_file(os.fsencode(path)))
    try:
        for operation in operations:
            image = operation(image)
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.startswith("[ERROR]")]
        raise DataError(reason[0][8:] if reason else str(error).splitlines()[0]) from None
    return image


def prediction_lines(prediction: Prediction) -> list[str]:
    """Return the lines for the terminal: the path, then a line for each class."""
    rows = (
        f"  {guess.probability:7.2%}  {guess.class_index:>4}  {printable(guess.class_name)}"
        for guess in prediction.guesses
    )
    return [printable(prediction.path), *(row.rstrip() for row in rows)]


def write_json(
    path: Path, model: str, predictions: Sequence[Prediction], skipped: Mapping[str, str]
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


def write_csv(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a row for each image and class."""
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
