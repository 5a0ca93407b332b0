"""Checking the images of a dataset before a training meets them; no mindspore is imported."""

from .findings import Findings, find
from .listing import Listing, list_images
from .run import scan
from .table import Image, ImageTable

__all__ = ["Findings", "Image", "ImageTable", "Listing", "find", "list_images", "scan"]
