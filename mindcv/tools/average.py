"""`python -m mindcv average`: the mean of the weights of several checkpoints of a network."""

import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import ConfigError, WeightsError
from ..names import plural
from ..process.entry_point import import_user_module
from ..weights import Metadata, describe_choice, read_weights, write_weights
from ..weights.file import SUFFIXES
from ..weights.match import STATISTICS, counted, differences, shown_names, sort_contents
from .arguments import (
    add_ema_argument,
    add_files,
    add_force,
    add_import_module,
    at_least,
    check_output,
    file_path,
    refuse_idle,
)

# Options of the measurement, with their defaults.
_MEASURING = {
    "dataset": "imagenet",
    "train_split": "train",
    "val_fraction": 0.0,
    "precise_bn_samples": 8192,
    "batch_size": 32,
}
_STATISTICS = (*STATISTICS, "running_mean", "running_var")  # also by torch's names

# A file: path, tensors and metadata.
Weights = tuple[str, Mapping[str, np.ndarray], Metadata | None]


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "The mean of running statistics is not the statistics of the mean weights. With --data_dir "
        "they are measured anew on training images, with random crops and flips."
    )
    parser.add_argument(
        "checkpoints", nargs="+", type=file_path, metavar="CKPT", help="two files or more"
    )
    add_files(parser, required=True, output="the averaged checkpoint")
    parser.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="a weight for each (default: equal)"
    )
    add_force(parser)
    add_ema_argument(parser)
    group = parser.add_argument_group("statistics of batch normalisation")
    group.add_argument("--data_dir", type=file_path, metavar="FOLDER", help="the training images")
    group.add_argument("--dataset", help="as of train (default: imagenet)")
    group.add_argument("--train_split", help="default: train")
    group.add_argument("--val_fraction", type=float, help="as of train (default: 0)")
    group.add_argument(
        "--precise_bn_samples",
        type=at_least(1),
        help="images to measure on (default: 8192)",
    )
    group.add_argument("--batch_size", type=at_least(2), help="default: 32")
    add_import_module(group)


def run(arguments: Namespace) -> None:
    paths, shares = arguments.checkpoints, arguments.weights or [1.0] * len(arguments.checkpoints)
    check_output("output", arguments.output, SUFFIXES, arguments.force, inputs=paths)
    _check_inputs(paths, shares)
    if not arguments.data_dir:
        reason = "is for training images; add --data_dir FOLDER, or leave it out"
        refuse_idle(arguments, (*_MEASURING, "import_module"), reason)
    tensors, metadata = average_weights(_read_all(paths, arguments.ema), shares)
    images = measure_statistics(arguments, tensors, metadata) if arguments.data_dir else 0
    write_weights(arguments.output, tensors, metadata)
    print(f"wrote {arguments.output}: the mean of {len(tensors)} tensors of {len(paths)} files")
    count = sum(name.endswith(_STATISTICS) for name in tensors)
    if images:
        print(f"  {count} running statistics of batch normalisation measured on {images} images")
    elif count:
        print(
            f"  {count} of them are running statistics of batch normalisation, averaged too; they "
            "are not those of the averaged weights: --data_dir FOLDER measures them anew on "
            "training images (precise BN); only the accuracy after that is meaningful"
        )


def measure_statistics(
    arguments: Namespace, tensors: dict[str, np.ndarray], metadata: Metadata | None
) -> int:
    """Replace the running statistics by those of training images; return how many images.

    Raises:
        WeightsError: the files do not name their model.
        DataError: there are no training images, or they do not fill a batch.
    """
    if metadata is None:
        raise WeightsError("data_dir: the files do not name their model, so no image can be run")
    from ..config import Config
    from ..engine import build
    from ..models import create_model_from_file
    from ..weights import WeightFile

    import_user_module(arguments.import_module)
    given = {name: getattr(arguments, name) or value for name, value in _MEASURING.items()}
    config = Config(
        model=metadata.model,
        in_channels=metadata.in_channels,
        num_classes=metadata.num_classes,
        color_jitter=None,
        data_dir=arguments.data_dir,
        **given,
        **metadata.preprocessing.to_options(),
    )
    runtime = build.start_runtime(config)
    network, _ = create_model_from_file(WeightFile("the average", "", tensors, metadata))
    images = build.build_statistics(config, runtime, network, metadata.num_classes)()
    for parameter in network.get_parameters():
        if parameter.name.endswith(STATISTICS):
            tensors[parameter.name] = parameter.asnumpy()
    return images


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


def _read_all(paths: list[str], ema: bool | None) -> Iterator[Weights]:
    for path in paths:
        file = read_weights(path)
        print(describe_choice(file, ema)[1], flush=True)
        contents = sort_contents(file, shown_names(file), ema)
        if not contents.weights:
            raise WeightsError(f"weight file {path!r} holds no weights of a network")
        if contents.set_aside:
            print(f"{path}: ignored {plural(len(contents.set_aside), 'entry')} without weights")
        yield path, contents.weights, file.metadata


def average_weights(
    files: Iterable[Weights], shares: Sequence[float]
) -> tuple[dict[str, np.ndarray], Metadata | None]:
    """Return the weighted mean of all float tensors, summed in float64, and the common metadata.

    Integer tensors must be equal in all files and are kept. The files are consumed one at a time,
    so an iterator can read them lazily.

    Args:
        shares: positive weights of the files; only their ratios count.

    Raises:
        WeightsError: names, shapes, types, integer tensors or metadata differ, or a value is not
            finite.
    """
    first, sums = None, {}
    for current, share in zip(files, shares, strict=True):
        first = first or current
        _check_same_kind(first, current)
        path, tensors, _ = current
        for name, tensor in tensors.items():
            if not np.issubdtype(tensor.dtype, np.floating):
                if not np.array_equal(tensor, first[1][name]):
                    raise WeightsError(
                        f"tensor {name} holds whole numbers, which have no mean, and {path!r} and "
                        f"{first[0]!r} disagree on it"
                    )
                continue
            if not np.isfinite(tensor).all():
                raise WeightsError(f"weight file {path!r}: tensor {name} is not finite everywhere")
            sums[name] = sums.get(name, 0.0) + tensor.astype(np.float64) * share
    _, tensors, metadata = first
    mean = {
        name: (sums[name] / sum(shares)).astype(tensor.dtype) if name in sums else tensor
        for name, tensor in tensors.items()
    }
    return mean, metadata


def _check_same_kind(first: Weights, other: Weights) -> None:
    ours, theirs = first[1], other[1]
    found = differences(theirs, ours, surplus="only there")
    found["of another type"] = [
        f"{name} {theirs[name].dtype} for {ours[name].dtype}"
        for name in ours
        if name in theirs and theirs[name].dtype != ours[name].dtype
    ]
    problems = [*counted(found, f" of {len(ours)} tensors"), *_metadata_differences(first, other)]
    if problems:
        lines = [f"{other[0]!r} is not of the same network as {first[0]!r}; nothing was averaged"]
        raise WeightsError("\n  ".join(lines + problems))


def _metadata_differences(first: Weights, other: Weights) -> list[str]:
    ours, theirs = first[2], other[2]
    if ours is None or theirs is None:
        if ours is theirs:
            return []
        silent, known = (first, other) if ours is None else (other, first)
        return [f"{known[0]!r} is of model {known[2].model}, {silent[0]!r} names none"]
    pairs = [(e.name, getattr(theirs, e.name), getattr(ours, e.name)) for e in fields(Metadata)]
    return [f"{name}: {_short(new)} for {_short(old)}" for name, new, old in pairs if new != old]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
