"""Where images come from: each dataset layout is a class of numbered images with labels."""

from .protocol import ImageError, Samples

__all__ = ["ImageError", "Samples"]
