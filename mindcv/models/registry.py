"""The model registry, which maps names to builders, and `create_model`."""

import fnmatch
import re
from collections.abc import Callable, Sequence

import numpy as np
from mindspore import nn

from ..design_space.published import split_tag, unknown_model
from ..errors import ConfigError
from ..hub import PublishedWeights, choose_weights, fetch, published_weights
from ..weights.load import load_weights
from .features import FeatureNet

_BUILDERS: dict[str, Callable[..., nn.Cell]] = {}
_ALIASES: dict[str, str] = {}


def register_model(
    builder: Callable[..., nn.Cell], aliases: Sequence[str] = ()
) -> Callable[..., nn.Cell]:
    """Register a builder under its function name; use it as a decorator.

    The builder takes `num_classes`, `in_channels` and its own options, and returns a Cell that maps
    images (N, C, H, W) to logits (N, num_classes). Aliases are in lower case and match in any case;
    a registered name takes precedence.

    Raises:
        ValueError: the name is already registered.
    """
    name = builder.__name__
    if name in _BUILDERS:
        taken = _BUILDERS[name].__module__
        raise ValueError(f"model {name!r} is registered already, by {taken}; choose another name")
    _BUILDERS[name] = builder
    _ALIASES.update(dict.fromkeys(aliases, name))
    return builder


def create_model(
    model_name: str,
    num_classes: int = 1000,
    pretrained: bool | str = False,
    in_channels: int = 3,
    checkpoint_path: str = "",
    ema: bool = False,
    auto_mapping: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **kwargs,
) -> nn.Cell:
    """Build a registered model with fresh weights, published weights or those of a file.

    Args:
        model_name: a name of `list_models()`, or the model's name in timm, torchvision or pycls.
        num_classes: 0: no classifier. If the weights have other classes, the head keeps its fresh
            weights, and a log line says so.
        pretrained: load published weights, downloaded once and verified: True for the default
            source (or that of timm's tag, as in regnety_032.ra_in1k), or a source, e.g.
            torchvision_v2.
        checkpoint_path: weight file of the same model.
        ema: load the averaged weights (`ema.*`) of the checkpoint.
        auto_mapping: ignored; MindCV has it, but here parameter names of other libraries are always
            recognised.
        features_only: return a `FeatureNet`, which gives feature maps instead of logits.
        out_indices: maps that features_only returns, see `FeatureNet`.
        **kwargs: options of the builder, e.g. drop_rate, drop_path_rate; None: the default.

    Raises:
        ConfigError: unknown model (the message suggests names), unknown or contradictory options,
            num_classes or in_channels that is not an integer, or no such published weights.
        WeightsError: the weights are missing, damaged or belong to another model.
    """
    builder = model_entrypoint(model_name)
    for name, number in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool):
            raise ConfigError(f"{name} {number!r} is no whole number")
    if pretrained and checkpoint_path:
        raise ConfigError("pretrained and checkpoint_path both name weights; give one of them")
    if out_indices is not None and not features_only:
        raise ConfigError("out_indices chooses feature maps; give features_only=True with it")
    path = fetch(find_published(model_name, pretrained)) if pretrained else checkpoint_path
    options = {key: value for key, value in kwargs.items() if value is not None}
    if features_only:
        num_classes = 0
    try:
        model = builder(num_classes=num_classes, in_channels=in_channels, **options)
    except TypeError as error:
        found = re.search(r"keyword argument '(\w+)'", str(error))  # unexpected, or given twice
        if not found or found[1] not in options:
            raise
        raise ConfigError(f"model {model_name} does not take {sorted(options)}: {error}") from None
    if path:
        load_weights(model, path, ema=ema)
    return FeatureNet(model, out_indices) if features_only else model


def list_models(
    filter: str = "", module: str = "", pretrained: bool = False, exclude_filters="", **_
) -> list[str]:
    """Return the registered names in natural order: 200mf before 1_6gf before 12gf.

    Args:
        filter: shell-style pattern, e.g. `regnet_x*`; empty: all.
        module: only models that this module defines, e.g. `regnet`.
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
    """Return whether a name or alias is registered."""
    return _resolve(model_name) in _BUILDERS


def canonical_name(model_name: str) -> str:
    """Return the registered name for a name of timm, torchvision or pycls.

    RegNetX-1.6GF, regnetx_016 and regnetx_016.tv2_in1k are regnet_x_1_6gf. regnet_x_400mf and
    regnet_y_800mf are pycls' networks; torchvision's are regnet_x_400mf_tv and regnet_y_800mf_tv.

    Raises:
        ConfigError: unknown name; the message suggests the closest ones.
    """
    name = _resolve(model_name)
    if name in _BUILDERS:
        return name
    raise ConfigError(unknown_model(model_name, [*_BUILDERS, *_ALIASES]))


def model_entrypoint(model_name: str) -> Callable[..., nn.Cell]:
    """Return the builder of a model; ConfigError: unknown model."""
    return _BUILDERS[canonical_name(model_name)]


def list_modules() -> list[str]:
    """Return the names of the modules that define models."""
    return sorted({_module_of(name) for name in _BUILDERS})


def is_model_in_modules(model_name: str, module_names) -> bool:
    """Return whether one of the modules defines the model."""
    name = _resolve(model_name)
    return name in _BUILDERS and _module_of(name) in set(module_names)


def is_model_pretrained(model_name: str) -> bool:
    """Return whether a model has published weights; ConfigError: unknown model."""
    return bool(published_weights(canonical_name(model_name)))


def find_published(model_name: str, pretrained: bool | str = True) -> PublishedWeights:
    """Return the published weights that `create_model` loads for these arguments.

    Raises:
        ConfigError: unknown model, no such weights, or a tag that contradicts the source.
    """
    name = canonical_name(model_name)
    return choose_weights(model_name, name, pretrained)


def _resolve(name: str) -> str:
    if name in _BUILDERS:
        return name
    model, _ = split_tag(name)
    return _ALIASES.get(model.lower(), name)


def _module_of(name: str) -> str:
    return _BUILDERS[name].__module__.rsplit(".", 1)[-1]


def _natural_key(name: str) -> tuple:
    """Sort by compute where a name states it (1_6gf is 1600 MFLOPs), else by whole numbers."""
    text, *rest = re.split(r"(\d+(?:_\d+)?[mg]f|\d+)", name)
    key = [text]
    for number, text in zip(rest[::2], rest[1::2]):
        scale = {"mf": 1, "gf": 1000}.get(number[-2:])
        value = round(float(number[:-2].replace("_", ".")) * scale) if scale else int(number)
        key += [value, text]
    return tuple(key)
