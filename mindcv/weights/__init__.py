"""Read, match, load and write weight files of any library, with their metadata."""

from ..data.preprocessing import Preprocessing
from .match import count_classes, has_averages, preprocessing_of
from .metadata import Metadata
from .read import WeightFile, read_weights
from .write import write_weights

__all__ = [
    "Metadata",
    "Preprocessing",
    "WeightFile",
    "has_averages",
    "read_weights",
    "count_classes",
    "preprocessing_of",
    "write_weights",
]
