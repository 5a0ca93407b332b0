"""Limits, element types and zip archives, shared by the readers of all formats.

The limits lie far above any real set of weights. A tensor costs a reader about a hundred bytes
whatever its size, so without them a file of empty tensors could fill the memory.
"""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

MOST_TENSORS = 50_000
MOST_AXES = 32  # numpy's own limit
ENTRY = "mindcv.metadata"  # name of the entry that holds the metadata
LARGEST_HEADER = 2**22  # bytes of JSON; ImageNet-21k's class names take a million
_LARGEST_DIRECTORY = 2**24  # bytes of a zip archive's list of entries

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)", re.IGNORECASE)


class Refusal(Exception):
    """Why a weight file is not read, as the end of a sentence that begins with its path."""


# What a reader returns: name -> (element type, array); the array of a bfloat16 tensor is uint16.
Tensors = dict[str, tuple[str, np.ndarray]]


class WeightStream(io.FileIO):
    """An open weight file; a single `read` of more than `most` bytes raises a ValueError."""

    most: int | None = None

    def read(self, size: int | None = -1) -> bytes:
        if self.most is not None and size is not None and size > self.most:
            raise ValueError(f"its list of entries has {size} bytes")
        return super().read(size)

    @property
    def size(self) -> int:
        return os.fstat(self.fileno()).st_size


@contextmanager
def open_zip(file: WeightStream) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive, refusing one whose list of entries is unreasonably large."""
    file.most = _LARGEST_DIRECTORY  # `zipfile` reads the list in one call
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Refusal(f"is a zip archive, cut off or damaged: {error}") from None
    finally:
        file.most = None
    check_count(len(archive.infolist()))
    with archive:
        yield archive


def check_count(count: int) -> None:
    if count > MOST_TENSORS:
        raise Refusal(f"holds more than {MOST_TENSORS} tensors; that is not a set of weights")


def is_web_page(start: bytes) -> bool:
    return _WEB_PAGE.match(start) is not None


def stored_type(dtype: str, order: str = "<") -> np.dtype:
    """Return the numpy type of stored elements; bfloat16 is read as its uint16 bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder(order)


def native(array: np.ndarray) -> np.ndarray:
    """Return the array with a plain native type: MindSpore 2.7 knows `f4` but not `<f4`."""
    spelled = array.dtype.newbyteorder("=")
    return array.view(spelled) if array.dtype.isnative else array.astype(spelled)
