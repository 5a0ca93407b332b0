"""Weight files: reading those of any library, naming schemes, what travels with the weights."""

from ..data.preprocessing import Preprocessing
from .match import has_averages, told_classes, told_preprocessing
from .metadata import Metadata
from .read import WeightFile, read_weights
from .write import write_weights

__all__ = [
    "Metadata",
    "Preprocessing",
    "WeightFile",
    "has_averages",
    "read_weights",
    "told_classes",
    "told_preprocessing",
    "write_weights",
]
