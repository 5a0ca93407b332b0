"""The folder of what is kept between runs and can be made again: weights, lists of images."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder; it need not exist.

    It is the one in the environment variable MINDCV_CACHE, else `mindcv` in the folder in
    XDG_CACHE_HOME, else ~/.cache/mindcv.
    """
    if own := os.environ.get("MINDCV_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(shared):  # its specification says that a relative path is ignored
        shared = os.path.expanduser("~/.cache")
    return Path(shared) / "mindcv"
