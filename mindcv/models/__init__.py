"""Models by name: the registry and the RegNet family."""

import mindspore as ms

from ..process.cpu import limit_instructions
from ..weights.load import load_weights
from .features import FeatureInfo, FeatureNet, freeze
from .folding import fold_batch_norm, fold_on_cpu
from .from_file import create_described, create_model_from_file
from .registry import (
    canonical_name,
    create_model,
    find_published,
    is_model,
    is_model_in_modules,
    is_model_pretrained,
    list_models,
    list_modules,
    model_entrypoint,
    register_model,
)
from .regnet import AnyNet, RegNet  # also registers the family

# At import, so that it comes before the first convolution of any program.
limit_instructions(ms.get_context("device_target"))

__all__ = [
    "AnyNet",
    "FeatureInfo",
    "FeatureNet",
    "RegNet",
    "canonical_name",
    "create_described",
    "create_model",
    "create_model_from_file",
    "find_published",
    "fold_batch_norm",
    "fold_on_cpu",
    "freeze",
    "is_model",
    "is_model_in_modules",
    "is_model_pretrained",
    "list_models",
    "list_modules",
    "load_weights",
    "model_entrypoint",
    "register_model",
]
