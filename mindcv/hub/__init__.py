"""Published weights: the table of them, and downloads that can be trusted."""

from ..cache_folder import cache_folder
from .cache import fetch
from .table import PublishedWeights, choose_source, find_weights, published_weights

__all__ = [
    "PublishedWeights",
    "cache_folder",
    "choose_source",
    "fetch",
    "find_weights",
    "published_weights",
]
