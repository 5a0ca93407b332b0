"""Weight files: reading those of any library, naming schemes, what travels with the weights."""

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
