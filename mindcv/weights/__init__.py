"""Weight files: reading those of any library, naming schemes, what travels with the weights."""

from .contents import told_classes, told_preprocessing
from .metadata import Metadata, Preprocessing
from .reading import WeightFile, read_weights
from .writing import write_weights

__all__ = [
    "Metadata",
    "Preprocessing",
    "WeightFile",
    "read_weights",
    "told_classes",
    "told_preprocessing",
    "write_weights",
]
