"""Build the network that a weight file describes; the file may come from anyone."""

import os
from collections.abc import Mapping
from typing import Any

from mindspore import nn

from ..design_space import SETTINGS, complexity
from ..design_space.plan import ACTIVATIONS, BLOCK_TYPES, ROUNDINGS, STEM_TYPES
from ..errors import ConfigError, MindCVError, WeightsError
from ..hub import PublishedWeights, imagenet_classes
from ..weights import Metadata, WeightFile, read_weights
from ..weights.load import load_weights
from ..weights.match import count_channels, preprocessing_of, sort_contents
from .registry import canonical_name, create_model, find_published

# The builder's options that a file may set, with their texts or type and range; none of them says
# where weights come from.
_OPTIONS: dict[str, tuple] = {
    "activation": ACTIVATIONS,
    "block_type": BLOCK_TYPES,
    "bot_mul": (float, 1 / 64, 64),
    "d": (int, 1, 1000),
    "global_pool": ("avg", "max"),
    "group_w": (int, 1, 2**16),
    "head_w": (int, 0, 2**16),
    "rounding": ROUNDINGS,
    "se_r": (float, 0, 64),
    "stem_type": STEM_TYPES,
    "stem_w": (int, 1, 2**16),
    "stride": (int, 1, 4),
    "w_0": (int, 8, 2**16),
    "w_a": (float, 0, 2**16),
    "w_m": (float, 1, 2**16),
}

# Parameters by which a network may exceed its file, so that loading can name what is missing.
_ROOM = 2**25


def create_model_from_file(
    path: str | os.PathLike | WeightFile,
    model_name: str = "",
    num_classes: int | None = None,
    ema: bool | None = None,
    in_channels: int | None = None,
) -> tuple[nn.Cell, Metadata]:
    """Build the network of a weight file and load its weights.

    Args:
        path: a weight file of any library, or the result of `read_weights`. A file that this
            library wrote names its model, classes and preprocessing.
        model_name: needed if the file does not name its model, otherwise must agree with it.
        num_classes: must agree with the file; None: as in the file.
        ema: load the averaged weights; None: if the file holds them, else the raw ones.
        in_channels: of the images; must agree with the file; None: as in the file, or 3.

    Returns:
        The network in evaluation mode, and the file's metadata or the defaults for its model.

    Raises:
        WeightsError: the file cannot be used, or neither it nor `model_name` names the model.
        ConfigError: unknown model, or images of other channels than the file's.
    """
    name = canonical_name(model_name) if model_name else ""
    file = path if isinstance(path, WeightFile) else read_weights(path)
    metadata, channels = file.metadata, count_channels(file)
    if channels and in_channels not in (None, channels):
        raise ConfigError(
            f"in_channels {in_channels}, but the network of weight file {file.path!r} takes "
            f"{channels}; leave in_channels out"
        )
    if metadata is None:
        if not name:
            raise WeightsError(
                f"weight file {file.path!r} does not name its model; name the model (--model)"
            )
        contents = sort_contents(file, ema=ema)
        metadata = Metadata(
            name,
            num_classes=contents.num_classes if num_classes is None else num_classes,
            in_channels=channels or in_channels or 3,
            preprocessing=preprocessing_of(file),
        )
    elif name not in ("", metadata.model):
        raise WeightsError(f"weight file {file.path!r} is of model {metadata.model}, not {name}")
    elif num_classes not in (None, metadata.num_classes):
        raise WeightsError(
            f"weight file {file.path!r} is of {metadata.num_classes} classes, not {num_classes}"
        )
    network = create_described(metadata, file)
    load_weights(network, file, ema=ema, new_head=False)
    return network.set_train(False), metadata


def create_published_model(
    model_name: str, pretrained: bool | str = True
) -> tuple[nn.Cell, Metadata, PublishedWeights]:
    """Build the network of published weights, and load them.

    Args:
        model_name, pretrained: as for `create_model`.

    Returns:
        The network in evaluation mode, its metadata and the description of its weights.

    Raises:
        ConfigError: unknown model or source.
        WeightsError: the weights cannot be fetched or do not fit.
    """
    weights = find_published(model_name, pretrained)
    classes = weights.num_classes
    network = create_model(model_name, num_classes=classes, pretrained=weights.source)
    metadata = Metadata(
        canonical_name(model_name),
        num_classes=classes,
        class_names=imagenet_classes() if classes == 1000 else None,
        preprocessing=weights.preprocessing,
    )
    return network.set_train(False), metadata, weights


def create_described(metadata: Metadata, file: WeightFile) -> nn.Cell:
    """Build the network that metadata describe, with fresh weights.

    Raises:
        WeightsError: an option that no file may set, or of a wrong type or range; options that make
            no network, or one far larger than the file.
        ConfigError: unknown model.
    """
    _check_options(metadata.options, file.path)
    name = canonical_name(metadata.model)
    try:
        _check_size(name, metadata, file)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, MindCVError):
            raise
        raise WeightsError(
            f"weight file {file.path!r} describes no {name} that can be built: {error}"
        ) from None
    return create_model(
        name,
        num_classes=metadata.num_classes,
        in_channels=metadata.in_channels,
        **metadata.options,
    )


def _check_options(options: Mapping[str, Any], path: str) -> None:
    for key, value in options.items():
        if key not in _OPTIONS:
            raise WeightsError(
                f"weight file {path!r} sets the option {key[:60]!r} of its model; a file may set "
                f"{', '.join(_OPTIONS)} only"
            )
        allowed = _OPTIONS[key]
        if not _is_allowed(value, allowed):
            expected = allowed if type(allowed[0]) is str else f"{allowed[1]} to {allowed[2]}"
            raise WeightsError(
                f"weight file {path!r} sets the option {key} of its model to {value!r:.60}; "
                f"expected {expected}"
            )


def _is_allowed(value: Any, allowed: tuple) -> bool:
    if type(allowed[0]) is str:
        return type(value) is str and value in allowed
    kind, low, high = allowed
    types = (int, float) if kind is float else (int,)
    return type(value) in types and low <= value <= high


def _check_size(name: str, metadata: Metadata, file: WeightFile) -> None:
    """Refuse a network that the file cannot fill, before it takes memory."""
    held = sum(tensor.size for tensor in file.tensors.values())
    wanted, room = max(metadata.num_classes, metadata.in_channels), 0
    if name in SETTINGS:
        shape = {"num_classes": metadata.num_classes, "in_channels": metadata.in_channels}
        shape |= {key: value for key, value in metadata.options.items() if key != "global_pool"}
        wanted, room = complexity(SETTINGS[name].plan(**shape)).params, _ROOM
    if wanted > held + room:
        raise WeightsError(
            f"weight file {file.path!r} holds {held} numbers, but its description is of a {name} "
            f"with {metadata.num_classes} classes and at least {wanted} parameters"
        )
