"""`mindcv search`: the images most similar to a photo, and near-duplicates, by their features."""

import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data.samples.pictures import find_images
from ..errors import ConfigError, DataError, WeightsError
from ..names import plural
from ..process.files import printable, reading
from .arguments import (
    NETWORK_OPTIONS,
    add_files,
    add_images,
    add_network_arguments,
    at_least,
    check_contact_sheet,
    check_network_arguments,
    refuse_idle,
)
from .embed import embed, fingerprint, open_network

_BLOCK = 1024  # rows of the similarities at a time


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = "Similarity is the cosine of two images' features: 1 for the same image."
    add_images(parser, "*", "files or folders to look for")
    add_files(
        parser,
        features="of `embed`, .npz, to search in",
        contact_sheet="draw each image and its neighbours: .png",
        font="of the contact sheet, for names beyond Latin letters",
    )
    parser.add_argument("--top_k", type=at_least(1), help="neighbours of each image (default: 5)")
    parser.add_argument(
        "--duplicates",
        type=float,
        metavar="LEAST",
        help="without IMAGE: the pairs within the features of at least this similarity, e.g. 0.98",
    )
    add_network_arguments(parser)


def run(arguments: Namespace) -> None:
    if not arguments.features:
        raise ConfigError("command line: search in which features? add --features FILE.npz")
    if bool(arguments.images) == (arguments.duplicates is not None):
        raise ConfigError("command line: give either images to look for, or --duplicates LEAST")
    if arguments.duplicates is not None:
        refuse_idle(
            arguments,
            ("contact_sheet", "font", "top_k", *NETWORK_OPTIONS),
            "is for images to look for; --duplicates compares the features alone",
        )
        features, paths, _ = read_features(Path(arguments.features))
        count = 0
        for one, other, similarity in duplicates(features, arguments.duplicates):
            print(f"{similarity:.4f}  {printable(paths[one])}  {printable(paths[other])}")
            count += 1
        among = plural(len(paths), "image")
        print(f"{plural(count, 'pair')} of at least {arguments.duplicates:g} among {among}")
        return
    check_network_arguments(arguments)
    check_contact_sheet(arguments)
    features, paths, weights = read_features(Path(arguments.features))
    queries = find_images(arguments.images)
    network, metadata, _ = open_network(arguments, "embed")
    if fingerprint(network, metadata) != weights:
        raise WeightsError(
            f"{arguments.features} holds features of other weights or of images of another "
            "preprocessing; run `embed` again with the weights and the --image_size of this search"
        )
    queries, found = embed(network, metadata, queries, batch_size=16)
    rows = []
    for query, row in zip(queries, unit(found) @ unit(features).T):
        best = np.argsort(-row, kind="stable")[: arguments.top_k or 5]
        neighbours = [(paths[index], float(row[index])) for index in best]
        print(printable(query))
        for path, similarity in neighbours:
            print(f"  {similarity:.4f}  {printable(path)}")
        rows.append((query, neighbours))
    if arguments.contact_sheet:
        from ..data.contact_sheet import write_neighbours

        write_neighbours(Path(arguments.contact_sheet), rows, arguments.font)
        print(f"wrote {arguments.contact_sheet}")


def read_features(path: Path) -> tuple[np.ndarray, list[str], str]:
    """Return features (images, channels), paths and the weights' hash of a file of `embed`.

    Raises:
        DataError: it is no such file.
    """
    try:
        with reading(path, DataError), np.load(path, allow_pickle=False) as file:
            features, paths = np.asarray(file["features"], np.float32), file["paths"].tolist()
            weights = str(file["weights"])
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no file that `embed` wrote: {error}") from None
    if features.ndim != 2 or len(features) != len(paths) or not np.isfinite(features).all():
        raise DataError(f"{path} is no file that `embed` wrote: its features are not sound")
    return features, paths, weights


def unit(features: np.ndarray) -> np.ndarray:
    """Return the rows, scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def duplicates(features: np.ndarray, least: float) -> Iterator[tuple[int, int, float]]:
    """Yield (first, second, similarity) of the pairs that are at least so similar."""
    rows = unit(features)
    for start in range(0, len(rows), _BLOCK):
        similar = rows[start : start + _BLOCK] @ rows[start:].T
        for one, other in zip(*np.nonzero(np.triu(similar, 1) >= least)):
            if other > one:
                yield int(start + one), int(start + other), float(similar[one, other])
