"""`mindcv embed`: the features of images, the classifier's input, for search and other programs."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from ..data.samples.pictures import find_images
from ..errors import ConfigError
from ..names import plural
from ..process.files import replacing, sha256_of, writing
from ..process.tables import write_csv
from .arguments import (
    add_files,
    add_images,
    add_network_arguments,
    at_least,
    build_network,
    check_network_arguments,
    check_output,
)
from .predict import name_skipped, require_some


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = "The features are those after global pooling, before the classifier."
    add_images(parser)
    add_network_arguments(parser)
    text = ".npz: arrays `features` (images, channels) and `paths`, for `search`; or .csv"
    add_files(parser, required=True, output=text)
    parser.add_argument("--batch_size", type=at_least(1), default=16, help="images at a time")


def run(arguments: Namespace) -> None:
    check_network_arguments(arguments)
    check_output("output", arguments.output, (".npz", ".csv"), force=True)
    paths = find_images(arguments.images)
    network, metadata, _ = open_network(arguments, "embed")
    paths, features = embed(network, metadata, paths, arguments.batch_size)
    output = Path(arguments.output)
    if output.suffix == ".csv":
        head = ("path", *(f"feature_{number}" for number in range(features.shape[1])))
        write_csv(output, [head, *((p, *row) for p, row in zip(paths, features.tolist()))])
    else:
        with writing(output, ConfigError), replacing(output) as unfinished:
            with open(unfinished, "wb") as file:
                known = {"model": metadata.model, "weights": fingerprint(network, metadata)}
                np.savez(file, features=features, paths=np.array(paths), **known)
    count = plural(len(features), "image")
    print(f"wrote {arguments.output}: {features.shape[1]} features of {count}")


def open_network(arguments: Namespace, purpose: str):
    """Return the network of the command line, its metadata and the source of its weights.

    Raises:
        ConfigError: it cannot be run in two parts, as AnyNet can.
    """
    from ..engine import start_runtime

    start_runtime(mode=1)
    network, metadata, source = build_network(arguments)
    if not hasattr(network, "forward_features"):
        raise ConfigError(f"{metadata.model} has no forward_features and forward_head to {purpose}")
    return network, metadata, source


def embed(network, metadata, paths: list[str], batch_size: int) -> tuple[list[str], np.ndarray]:
    """Return the readable images and their features, (images, channels) float32.

    Raises:
        DataError: no image can be read.
        WeightsError: a feature is not finite.
    """
    from mindspore import Tensor

    from ..classifier import batches_of
    from ..data import Normalize
    from ..engine.evaluation import require_finite

    normalize = Normalize(metadata.preprocessing.mean, metadata.preprocessing.std)
    found, features = [], []
    for batch in batches_of(paths, metadata.preprocessing, batch_size, name_skipped):
        files, views = zip(*batch)
        maps = network.forward_features(normalize(Tensor(np.stack(views))))
        features.append(network.forward_head(maps, pre_logits=True).asnumpy())
        require_finite(features[-1])
        found += files
    require_some(found, paths, "there is no feature")
    return found, np.concatenate(features)


def fingerprint(network, metadata) -> str:
    """Return a hash of weights and preprocessing: features of others cannot be compared."""
    pixels = json.dumps(metadata.preprocessing.to_dict(), sort_keys=True).encode()
    return sha256_of(pixels, *(one.asnumpy().tobytes() for one in network.get_parameters()))
