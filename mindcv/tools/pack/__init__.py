"""Packing an image folder into sharded MindRecord files, which are read as one dataset."""

from .dataset import pack, verify

__all__ = ["pack", "verify"]
