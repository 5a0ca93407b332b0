"""Which image is where."""

import os
from bisect import bisect_right
from itertools import accumulate

from .listing import ClassFolder, Listing


class Places:
    """The paths and classes of a listing's images, by their places in its order."""

    def __init__(self, listing: Listing):
        self._classes = listing.classes
        self._ends = list(accumulate(len(folder.images) for folder in listing.classes))

    def folder(self, index: int) -> ClassFolder:
        return self._classes[bisect_right(self._ends, index)]

    def path(self, index: int) -> str:
        number = bisect_right(self._ends, index)
        folder = self._classes[number]
        start = self._ends[number - 1] if number else 0
        return os.path.join(folder.path, folder.images[index - start])
