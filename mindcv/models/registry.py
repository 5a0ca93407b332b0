"""The model registry, which maps names to builders, and `create_model`."""

import copy
import fnmatch
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from mindspore import nn

from ..design_space.published import GENERAL, SETTINGS, family_name, unknown_model
from ..errors import ConfigError, MindCVError
from ..hub import (
    PublishedWeights,
    choose_weights,
    fetch,
    is_repository,
    published_weights,
    weights_at,
)
from ..weights.load import load_weights
from ..weights.schemes import CLASSIFIER, FIRST_CONV
from .features import features_of

_BUILDERS: dict[str, Callable[..., nn.Cell]] = {}
_ENTRYPOINTS: dict[str, Callable[..., nn.Cell]] = {}  # where another function stands for a builder


class UnknownModelError(ConfigError, RuntimeError, KeyError):
    """A model that is not registered; MindCV raises a RuntimeError or a KeyError for it."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError would quote its message


def register_model(
    builder: Callable[..., nn.Cell], entrypoint: Callable[..., nn.Cell] | None = None
) -> Callable[..., nn.Cell]:
    """Register a builder under its function name; use it as a decorator.

    The builder takes `num_classes`, `in_channels` and its own options, and returns a Cell that maps
    images (N, C, H, W) to logits (N, num_classes). A builder with the parameter `pretrained` loads
    its published weights itself. Defining the same function once more, as in a notebook, replaces
    it. Where the module has a dictionary `default_cfgs`, the model's entry describes its weights.

    Args:
        entrypoint: what `model_entrypoint` returns; None: the builder.

    Raises:
        ValueError: another function has registered the name.
    """
    name = builder.__name__
    old = _BUILDERS.get(name, builder)
    if (old.__module__, old.__qualname__) != (builder.__module__, builder.__qualname__):
        raise ValueError(
            f"model {name!r} is registered already, by {old.__module__}; choose another name"
        )
    _BUILDERS[name] = builder
    if entrypoint:
        _ENTRYPOINTS[name] = entrypoint
    exported = getattr(sys.modules.get(builder.__module__), "__all__", None)
    if isinstance(exported, list) and name not in exported:
        exported.append(name)
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
        model_name: a name of `list_models()`, or the model's name in timm, torchvision or pycls; or
            hf-hub:owner/name, a RegNet of timm on Hugging Face.
        num_classes: 0: no classifier. If the weights have other classes, the head keeps its fresh
            weights, and a log line says so.
        pretrained: load published weights, downloaded once and verified: True for the default
            source (or that of timm's tag, as in regnety_032.ra_in1k), or a source, e.g.
            torchvision_v2, or an address (see hub/sources.py): hf-hub:owner/name,
            modelscope:owner/name, https://…#sha256=….
        checkpoint_path: weight file of the same model.
        ema: load the averaged weights (`ema.*`) of the checkpoint.
        auto_mapping: ignored; MindCV has it, but here parameter names of other libraries are always
            recognised.
        features_only: return a network that gives feature maps instead of logits: a `FeatureNet`
            for a RegNet.
        out_indices: maps that features_only returns, see `FeatureNet`.
        **kwargs: options of the builder, e.g. drop_rate, drop_path_rate; None: the default.

    Raises:
        ConfigError: unknown or contradictory options, num_classes or in_channels that is not an
            integer, or no such published weights. For an unknown model also a RuntimeError and a
            KeyError; the message suggests names.
        WeightsError: the weights are missing, damaged or belong to another model.
    """
    if is_repository(model_name):
        weights = find_published(model_name)
        pretrained = model_name if pretrained else False
        model_name = weights.model
    builder = _BUILDERS[canonical_name(model_name)]
    given = {"num_classes": num_classes, "in_channels": in_channels, "pretrained": pretrained}
    _check_kinds({**kwargs, **given, "checkpoint_path": checkpoint_path})
    if pretrained and checkpoint_path:
        raise ConfigError("pretrained and checkpoint_path both name weights; give one of them")
    if out_indices is not None and not features_only:
        raise ConfigError("out_indices chooses feature maps; give features_only=True with it")
    if isinstance(out_indices, (int, str)) or not all(
        isinstance(index, Integral) for index in out_indices or ()
    ):
        raise ConfigError(f"out_indices {out_indices!r:.60} are not several whole numbers")
    path, options, is_cut = checkpoint_path, dict(kwargs), False
    if "pretrained" in inspect.signature(builder).parameters:  # it loads and cuts by itself
        options["pretrained"] = pretrained
        if features_only and not checkpoint_path:  # a file is of the whole network
            options |= {"features_only": True, "out_indices": out_indices}
            is_cut = True
    else:
        num_classes = 0 if features_only else num_classes
        path = fetch(find_published(model_name, pretrained)) if pretrained else checkpoint_path
    options = {key: value for key, value in options.items() if value is not None}
    try:
        model = builder(num_classes=num_classes, in_channels=in_channels, **options)
    except TypeError as error:
        found = re.search(r"keyword argument '(\w+)'", str(error))  # unexpected, or given twice
        missing = re.search(r"missing \d+ required .*: (.*)", str(error))
        general = GENERAL.get(canonical_name(model_name))
        takes = f"; it takes {', '.join(inspect.signature(general).parameters)}" if general else ""
        if general and missing:
            raise ConfigError(f"model {model_name} needs {missing[1]}{takes}") from None
        if not found or found[1] not in options:
            raise
        raise ConfigError(f"model {model_name} does not take {found[1]}: {error}{takes}") from None
    except ValueError as error:
        if isinstance(error, MindCVError) or not family_name(model_name):
            raise
        raise ConfigError(f"model {model_name}: {error}") from None
    if path:
        load_weights(model, path, ema=ema)
    return features_of(model, out_indices) if features_only and not is_cut else model


_KINDS = {
    "num_classes": (Integral, "a whole number"),
    "in_channels": (Integral, "a whole number"),
    "drop_rate": (Real, "a number"),
    "drop_path_rate": (Real, "a number"),
    "pretrained": ((bool, str), "True, False or a source of weights"),
    "checkpoint_path": ((str, os.PathLike), "a path"),
}


def _check_kinds(given: Mapping[str, Any]) -> None:
    for name, (kinds, words) in _KINDS.items():
        value = given.get(name)
        if name not in given or (value is None and kinds is not Integral):  # None: the default
            continue
        if not isinstance(value, kinds) or (kinds in (Integral, Real) and isinstance(value, bool)):
            raise ConfigError(f"{name} {value!r:.60} is not {words}")


def list_models(
    filter: str | Sequence[str] | None = "",
    module: str | None = "",
    pretrained: bool = False,
    exclude_filters: str | Sequence[str] | None = "",
) -> list[str]:
    """Return the names that `create_model` builds alone, 200mf before 1_6gf before 12gf.

    `regnet` and `anynet` need the arguments of `RegNet` and `AnyNet` besides: they are not listed.

    Args:
        filter: shell-style pattern, e.g. `regnet_x*`, or several, of which one must match; empty or
            None: all.
        module: only models that this module defines, e.g. `regnet`.
        pretrained: only models with published weights.
        exclude_filters: pattern, or several, of names to leave out.
    """

    def matches(name: str, patterns: str | Sequence[str] | None) -> bool:
        patterns = [patterns] if isinstance(patterns, str) else patterns
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ())

    names = [
        name
        for name in _BUILDERS
        if name not in GENERAL
        and (not filter or matches(name, filter))
        and (not module or _module_of(name) == module)
        and (not pretrained or is_model_pretrained(name))
        and not matches(name, exclude_filters)
    ]
    return sorted(names, key=_natural_key)


def is_model(model_name: str) -> bool:
    """Return whether a name, of this or another library, is registered."""
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
    raise UnknownModelError(unknown_model(model_name, _BUILDERS))


def model_entrypoint(model_name: str) -> Callable[..., nn.Cell]:
    """Return the function that builds a model, MindCV's parameters first.

    Raises:
        KeyError, ConfigError: unknown model.
    """
    name = canonical_name(model_name)
    return _ENTRYPOINTS.get(name, _BUILDERS[name])


def list_modules() -> list[str]:
    """Return the names of the modules that define models."""
    return sorted({_module_of(name) for name in _BUILDERS})


def is_model_in_modules(model_name: str, module_names: str | Iterable[str]) -> bool:
    """Return whether one of the modules (or the one that a text names) defines the model."""
    modules = [module_names] if isinstance(module_names, str) else module_names
    name = _resolve(model_name)
    return name in _BUILDERS and _module_of(name) in modules


def is_model_pretrained(model_name: str) -> bool:
    """Return whether a model is registered and has published weights."""
    return bool(get_pretrained_cfg(model_name).get("url"))


def get_pretrained_cfg(model_name: str) -> dict[str, Any]:
    """Return a model's default weights as MindCV describes them; empty: unknown model.

    The entries are url (empty: none published), num_classes, and the names of the layers first_conv
    and classifier. A model of one's own has its entry in the `default_cfgs` of its module.
    """
    name = _resolve(model_name)
    if name not in _BUILDERS:
        return {}
    if name not in SETTINGS and name not in GENERAL:
        module = sys.modules.get(_BUILDERS[name].__module__)
        return copy.deepcopy(getattr(module, "default_cfgs", {}).get(name, {}))
    rows = published_weights(name)
    return {
        "url": rows[0].url if rows else "",
        "num_classes": rows[0].num_classes if rows else 1000,
        "first_conv": FIRST_CONV.removesuffix(".weight"),
        "classifier": CLASSIFIER.removesuffix(".weight"),
    }


def get_pretrained_cfg_value(model_name: str, cfg_key: str) -> Any:
    """Return an entry of `get_pretrained_cfg`; None if there is none."""
    return get_pretrained_cfg(model_name).get(cfg_key)


def has_pretrained_cfg_key(model_name: str, cfg_key: str) -> bool:
    """Return whether `get_pretrained_cfg` has an entry."""
    return cfg_key in get_pretrained_cfg(model_name)


def find_published(model_name: str, pretrained: bool | str = True) -> PublishedWeights:
    """Return the published weights that `create_model` loads for these arguments.

    Args:
        model_name: may be empty, or the address itself, where a repository names the model.

    Raises:
        ConfigError: unknown model, no such weights, or a tag that contradicts the source.
        WeightsError: the description of a repository cannot be fetched.
    """
    if is_repository(model_name) or (not model_name and is_repository(pretrained)):
        return choose_weights(model_name, "", pretrained)
    name = canonical_name(model_name)
    config = get_pretrained_cfg(name)
    if name not in SETTINGS and config.get("url"):
        weights = weights_at(config["url"])
        if pretrained in (True, weights.source):
            return replace(weights, num_classes=config.get("num_classes", 1000))
    return choose_weights(model_name, name, pretrained)


def __getattr__(name: str) -> dict[str, dict[str, Any]]:
    if name == "_model_pretrained_cfgs":  # MindCV's guide on fine-tuning reads it
        return {model: get_pretrained_cfg(model) for model in _BUILDERS}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _resolve(name: str) -> str:
    return name if name in _BUILDERS else family_name(name) or name


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
