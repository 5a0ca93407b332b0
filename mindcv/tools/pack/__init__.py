"""Packing an image folder into sharded MindRecord files, which are read as one dataset."""

from .run import pack
from .verify import verify

__all__ = ["pack", "verify"]
