"""Build the network that a weight file describes; the file may come from anyone."""

import os
from collections.abc import Mapping
from typing import Any

from mindspore import nn

from ..design_space import GENERAL, NetworkPlan, complexity, plan_model
from ..design_space.plan import ACTIVATIONS, BLOCK_TYPES, ROUNDINGS, STEM_TYPES
from ..errors import ConfigError, WeightsError
from ..hub import PublishedWeights, fetch
from ..weights import Metadata, WeightFile, read_weights
from ..weights.load import load_weights
from ..weights.match import count_channels, preprocessing_of, sort_contents
from .registry import canonical_name, create_model, find_published

# The builder's options that a file may set, with their texts or type and range, in a list: those of
# each item, one a stage; none of them says where weights come from.
_OPTIONS: dict[str, tuple | list[tuple]] = {
    "activation": ACTIVATIONS,
    "block_type": BLOCK_TYPES,
    "bot_mul": (float, 1 / 64, 64),
    "bot_muls": [(float, 1 / 64, 64)],
    "d": (int, 1, 1000),
    "depths": [(int, 1, 1000)],
    "global_pool": ("avg", "max"),
    "group_w": (int, 1, 2**16),
    "group_ws": [(int, 1, 2**16)],
    "head_w": (int, 0, 2**16),
    "rounding": ROUNDINGS,
    "se_r": (float, 0, 64),
    "stem_type": STEM_TYPES,
    "stem_w": (int, 1, 2**16),
    "stride": (int, 1, 4),
    "strides": [(int, 1, 4)],
    "w_0": (int, 8, 2**16),
    "w_a": (float, 0, 2**16),
    "w_m": (float, 1, 2**16),
    "widths": [(int, 1, 2**16)],
}
_MOST_STAGES = 16

# Parameters by which a network may exceed its file, so that loading can name what is missing.
_ROOM = 2**25


def create_model_from_file(
    path: str | os.PathLike | WeightFile,
    model_name: str = "",
    num_classes: int | None = None,
    ema: bool | None = None,
    in_channels: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[nn.Cell, Metadata]:
    """Build the network of a weight file and load its weights.

    Args:
        path: a weight file of any library, or the result of `read_weights`. A file that this
            library wrote names its model, classes and preprocessing.
        model_name: needed if the file does not name its model, otherwise must agree with it.
        num_classes: must agree with the file; None: as in the file.
        ema: load the averaged weights; None: if the file holds them, else the raw ones.
        in_channels: of the images; must agree with the file; None: as in the file, or 3.
        options: further arguments of the model's builder, for a file that does not name them; must
            agree with one that does.

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
                f"weight file {file.path!r} does not name its model; name the model (--model), or "
                "write a copy that does: `mindcv convert FILE COPY.ckpt --model NAME`"
            )
        if name in GENERAL and not options:
            raise ConfigError(
                f"weight file {file.path!r} does not tell the settings that shape {name}; add "
                f"--{name} SETTINGS (create_model_from_file: options)"
            )
        contents = sort_contents(file, ema=ema)
        metadata = Metadata(
            name,
            num_classes=contents.num_classes if num_classes is None else num_classes,
            in_channels=channels or in_channels or 3,
            preprocessing=preprocessing_of(file),
            options=options or {},
        )
    elif name not in ("", metadata.model):
        raise WeightsError(f"weight file {file.path!r} is of model {metadata.model}, not {name}")
    elif num_classes not in (None, metadata.num_classes):
        raise WeightsError(
            f"weight file {file.path!r} is of {metadata.num_classes} classes, not {num_classes}"
        )
    if options and options != metadata.options:
        raise WeightsError(
            f"weight file {file.path!r} is of a {metadata.model} with {dict(metadata.options)}, "
            f"not with {dict(options)}; leave these settings out"
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
    if weights.num_classes is None:
        return *create_model_from_file(fetch(weights), weights.model), weights
    name = canonical_name(weights.model)
    network = create_model(name, num_classes=weights.num_classes, pretrained=weights.source)
    metadata = Metadata(
        name,
        num_classes=weights.num_classes,
        class_names=weights.class_names,
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
    plan_described(metadata, file)
    return create_model(
        metadata.model,
        num_classes=metadata.num_classes,
        in_channels=metadata.in_channels,
        **metadata.options,
    )


def plan_described(metadata: Metadata, file: WeightFile) -> NetworkPlan | None:
    """Return the plan of the network that metadata describe; None: not of this library.

    Raises:
        WeightsError, ConfigError: as `create_described`.
    """
    _check_options(metadata.options, file.path)
    name = canonical_name(metadata.model)
    shape = {"num_classes": metadata.num_classes, "in_channels": metadata.in_channels}
    try:
        plan = plan_model(name, **shape, **metadata.options)
        wanted = complexity(plan).params if plan else max(shape.values())
    except (ValueError, TypeError, OverflowError) as error:
        raise WeightsError(
            f"weight file {file.path!r} describes no {name} that can be built: {error}"
        ) from None
    # A network that the file cannot fill is refused before it takes time or memory.
    if plan and name in GENERAL and sum(plan.depths) > len(file.tensors):
        raise WeightsError(
            f"weight file {file.path!r} holds {len(file.tensors)} tensors, but describes "
            f"{name} with {sum(plan.depths)} blocks"
        )
    held = sum(tensor.size for tensor in file.tensors.values())
    if wanted > held + (_ROOM if plan else 0):
        raise WeightsError(
            f"weight file {file.path!r} holds {held} numbers, but its description is of a {name} "
            f"with {metadata.num_classes} classes and at least {wanted} parameters"
        )
    return plan


def _check_options(options: Mapping[str, Any], path: str) -> None:
    for key, value in options.items():
        if key not in _OPTIONS:
            raise WeightsError(
                f"weight file {path!r} sets the option {key[:60]!r} of its model; a file may set "
                f"{', '.join(_OPTIONS)} only"
            )
        allowed = _OPTIONS[key]
        if not _is_allowed(value, allowed):
            item = allowed[0] if isinstance(allowed, list) else allowed
            expected = item if type(item[0]) is str else f"{item[1]} to {item[2]}"
            if isinstance(allowed, list):
                expected = f"a list of up to {_MOST_STAGES} values, each {expected}"
            raise WeightsError(
                f"weight file {path!r} sets the option {key} of its model to {value!r:.60}; "
                f"expected {expected}"
            )


def _is_allowed(value: Any, allowed: tuple | list[tuple]) -> bool:
    if isinstance(allowed, list):
        is_list = type(value) is list and len(value) <= _MOST_STAGES
        return is_list and all(_is_allowed(each, allowed[0]) for each in value)
    if type(allowed[0]) is str:
        return type(value) is str and value in allowed
    kind, low, high = allowed
    types = (int, float) if kind is float else (int,)
    return type(value) in types and low <= value <= high
