"""The model registry: names to builders, and `create_model` on top of it."""

import difflib
import fnmatch
import re
from collections.abc import Callable

from mindspore import nn

from ..errors import ConfigError, WeightsError
from ..weights.load import load_weights

_BUILDERS: dict[str, Callable[..., nn.Cell]] = {}


def register_model(builder: Callable[..., nn.Cell]) -> Callable[..., nn.Cell]:
    """Register a builder under its function name; use it as a decorator.

    The builder takes `num_classes`, `in_channels` and options of its own, and returns a Cell that
    maps images (N, C, H, W) to logits (N, num_classes).

    Raises:
        ValueError: the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        taken = _BUILDERS[name].__module__
        raise ValueError(f"model {name!r} is registered already, by {taken}; choose another name")
    _BUILDERS[name] = builder
    return builder


def create_model(
    model_name: str,
    num_classes: int = 1000,
    pretrained: bool = False,
    in_channels: int = 3,
    checkpoint_path: str = "",
    ema: bool = False,
    auto_mapping: bool = False,
    **kwargs,
) -> nn.Cell:
    """Build a registered model, with fresh weights or with those of a file.

    Args:
        model_name: a name of `list_models()`.
        num_classes: classes of the head. Where a weight file has other classes, the head keeps its
            fresh weights, and a log line says so.
        pretrained: published weights; not available in this version.
        in_channels: channels of the images.
        checkpoint_path: MindSpore checkpoint of the same model, written by this library or MindCV.
        ema: take the averaged weights (`ema.*`) of the checkpoint.
        auto_mapping: accepted for MindCV's sake; names are always recognised by themselves.
        **kwargs: options of the builder, e.g. drop_rate, drop_path_rate; None: the default.

    Raises:
        ConfigError: unknown model (the closest names are told) or unknown option.
        WeightsError: the weights are missing, damaged or belong to another model.
    """
    builder = model_entrypoint(model_name)
    if pretrained:
        raise WeightsError(
            f"no published weights of {model_name} can be fetched by this version; "
            "download a checkpoint and give its path as checkpoint_path"
        )
    options = {key: value for key, value in kwargs.items() if value is not None}
    try:
        model = builder(num_classes=num_classes, in_channels=in_channels, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ConfigError(f"model {model_name} does not take {sorted(options)}: {error}") from None
    if checkpoint_path:
        load_weights(model, checkpoint_path, ema=ema)
    return model


def list_models(
    filter: str = "", module: str = "", pretrained: bool = False, exclude_filters="", **_
) -> list[str]:
    """Return the registered names in natural order: 200mf before 1_6gf before 12gf.

    Args:
        filter: shell-style pattern, e.g. `regnet_x*`; empty: all.
        module: only models defined in this module, e.g. `regnet`.
        pretrained: only models with published weights.
        exclude_filters: pattern, or list of patterns, of names to leave out.
    """
    excluded = [exclude_filters] if isinstance(exclude_filters, str) else exclude_filters
    names = [
        name
        for name in _BUILDERS
        if (not filter or fnmatch.fnmatchcase(name, filter))
        and (not module or _module_of(name) == module)
        and (not pretrained or is_model_pretrained(name))
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in excluded if pattern)
    ]
    return sorted(names, key=_natural_key)


def is_model(model_name: str) -> bool:
    """Tell whether the name is registered."""
    return model_name in _BUILDERS


def model_entrypoint(model_name: str) -> Callable[..., nn.Cell]:
    """Return the builder of a registered model.

    Raises:
        ConfigError: unknown name; the closest ones are told.
    """
    if model_name in _BUILDERS:
        return _BUILDERS[model_name]
    close = difflib.get_close_matches(model_name, _BUILDERS, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "list_models() tells the names"
    raise ConfigError(f"model {model_name!r} is not registered; {hint}")


def list_modules() -> list[str]:
    """Return the names of the modules that define models."""
    return sorted({_module_of(name) for name in _BUILDERS})


def is_model_in_modules(model_name: str, module_names) -> bool:
    """Tell whether one of the modules defines the model."""
    return model_name in _BUILDERS and _module_of(model_name) in set(module_names)


def is_model_pretrained(model_name: str) -> bool:
    """Tell whether `create_model(…, pretrained=True)` has weights for the model."""
    model_entrypoint(model_name)
    return False


def _module_of(name: str) -> str:
    return _BUILDERS[name].__module__.rsplit(".", 1)[-1]


def _natural_key(name: str) -> tuple:
    """Sort by compute where a name tells it (1_6gf is 1600 MFLOPs), else by number, not digit."""
    parts = re.split(r"(\d+(?:_\d+)?[mg]f|\d+)", name)
    key = []
    for index, part in enumerate(parts):
        if index % 2 == 0:
            key.append(part)
        elif part[-1] == "f":
            scale = 1000 if part[-2] == "g" else 1
            key.append(round(float(part[:-2].replace("_", ".")) * scale))
        else:
            key.append(int(part))
    return tuple(key)
