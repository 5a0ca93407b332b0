"""Where images come from: each layout of a dataset is a class of numbered images with labels."""

from .protocol import DATASETS, ImageError, Samples

__all__ = ["DATASETS", "ImageError", "Samples"]
