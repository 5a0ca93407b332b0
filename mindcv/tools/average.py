"""`python -m mindcv average`: the mean of the weights of several checkpoints of one network."""

import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from ..errors import ConfigError
from ..weights import read_weights, write_weights
from ..weights.match import sort_contents
from ..weights.write import SUFFIXES
from .arguments import check_output, file_path
from .averaging import Weights, average_weights, running_statistics


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints", nargs="+", type=file_path, metavar="CKPT", help="two files or more"
    )
    parser.add_argument(
        "--output", type=file_path, metavar="FILE", required=True, help="the averaged checkpoint"
    )
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="a weight for each (default: equal)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(arguments: Namespace) -> None:
    paths, shares = arguments.checkpoints, arguments.weights or [1.0] * len(arguments.checkpoints)
    check_output("output", arguments.output, SUFFIXES, arguments.force, paths)
    _check_inputs(paths, shares)
    tensors, metadata = average_weights(_read_all(paths), shares)
    write_weights(arguments.output, tensors, metadata)
    print(f"wrote {arguments.output}: the mean of {len(tensors)} tensors of {len(paths)} files")
    statistics = running_statistics(tensors)
    if statistics:
        print(
            f"  {len(statistics)} of them are running statistics of batch normalisation, averaged "
            "too; they are not those of the averaged weights: validate.py --precise_bn_samples N "
            "measures them anew on training images (precise BN); trust no other accuracy"
        )


def _check_inputs(paths: list[str], shares: list[float]) -> None:
    if len(paths) < 2:
        raise ConfigError("command line: one checkpoint has no average; name two or more")
    if len(shares) != len(paths):
        raise ConfigError(f"command line: {len(shares)} weights for {len(paths)} checkpoints")
    if not all(0 < share < math.inf for share in shares):
        raise ConfigError(f"command line: weights {shares} must be positive numbers")
    real = [os.path.realpath(path) for path in paths]
    twice = [path for index, path in enumerate(paths) if real[index] in real[:index]]
    if twice:
        raise ConfigError(f"command line: {twice[0]!r} is named twice; --weights counts it more")


def _read_all(paths: list[str]) -> Iterator[Weights]:
    """Read file after file; what is no weight of the network is left out and told."""
    for path in paths:
        contents = sort_contents(read_weights(path))
        if contents.set_aside:
            print(f"{path}: set aside {len(contents.set_aside)} entries that are no weights")
        yield path, contents.weights, contents.file.metadata
