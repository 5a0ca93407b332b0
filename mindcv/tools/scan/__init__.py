"""Check the images of a dataset before training; imports no mindspore."""

from .findings import Findings
from .images import Image, ImageTable, scan
from .listing import Listing, list_images

__all__ = ["Findings", "Image", "ImageTable", "Listing", "list_images", "scan"]
