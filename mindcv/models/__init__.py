"""Models by name: the registry and the RegNet family."""

from ..weights.load import load_weights
from .described import create_described
from .features import FeatureInfo, FeatureNet
from .freezing import freeze
from .from_file import create_model_from_file
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
