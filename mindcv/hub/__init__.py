"""Published weights: their table, and verified downloads."""

from .cache import fetch
from .sources import choose_weights, is_address, is_repository
from .table import (
    PublishedWeights,
    find_weights,
    imagenet_classes,
    published_weights,
    require_classifier,
    weights_at,
)

__all__ = [
    "PublishedWeights",
    "choose_weights",
    "fetch",
    "find_weights",
    "imagenet_classes",
    "is_address",
    "is_repository",
    "published_weights",
    "require_classifier",
    "weights_at",
]
