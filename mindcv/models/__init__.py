"""Models by name: the registry and the RegNet family."""

import mindspore as ms

from ..mindcv_paths import submodule
from ..process import environment  # noqa: F401
from ..process.cpu import limit_instructions
from ..weights.load import load_weights
from . import helpers, layers, registry, regnet  # noqa: F401
from .features import FeatureExtractWrapper, FeatureInfo, FeatureNet, Frozen, freeze
from .folding import fold_batch_norm, fold_on_cpu
from .from_file import (
    create_described,
    create_model_from_file,
    create_published_model,
    plan_described,
)
from .registry import (
    UnknownModelError,
    canonical_name,
    create_model,
    find_published,
    get_pretrained_cfg,
    get_pretrained_cfg_value,
    has_pretrained_cfg_key,
    is_model,
    is_model_in_modules,
    is_model_pretrained,
    list_models,
    list_modules,
    model_entrypoint,
    register_model,
)
from .regnet import *  # noqa: F403  # AnyNet, RegNet and a function for each of the family

# At import, so that it comes before the first convolution of any program.
limit_instructions(ms.get_context("device_target"))


def __getattr__(name: str):
    return submodule(__name__, name)


__all__ = [
    *regnet.__all__,
    "FeatureExtractWrapper",
    "FeatureInfo",
    "FeatureNet",
    "Frozen",
    "UnknownModelError",
    "canonical_name",
    "create_described",
    "create_model",
    "create_model_from_file",
    "create_published_model",
    "find_published",
    "fold_batch_norm",
    "fold_on_cpu",
    "freeze",
    "get_pretrained_cfg",
    "get_pretrained_cfg_value",
    "has_pretrained_cfg_key",
    "is_model",
    "is_model_in_modules",
    "is_model_pretrained",
    "list_models",
    "list_modules",
    "load_weights",
    "model_entrypoint",
    "plan_described",
    "register_model",
]
