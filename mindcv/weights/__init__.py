"""Read, match, load and write weight files of any library, with their metadata."""

from ..data.preprocessing import Preprocessing
from .file import ENDINGS, Metadata, WeightFile, read_weights, write_weights
from .match import count_channels, count_classes, describe_choice, has_averages, preprocessing_of

__all__ = [
    "ENDINGS",
    "Metadata",
    "Preprocessing",
    "WeightFile",
    "has_averages",
    "read_weights",
    "count_channels",
    "count_classes",
    "describe_choice",
    "preprocessing_of",
    "write_weights",
]
