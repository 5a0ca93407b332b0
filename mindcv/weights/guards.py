"""What the readers of all formats share: limits, element types and zip archives.

The limits lie far above any set of weights. A tensor costs a reader some hundred bytes, whatever
it holds, so a file of empty tensors could fill the memory.
"""

import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..errors import WeightsError

MOST_TENSORS = 50_000
MOST_AXES = 32  # numpy's own limit
LARGEST_HEADER = 2**22  # bytes of JSON; the names of ImageNet-21k's classes have one million
_LARGEST_DIRECTORY = 2**24  # bytes of a zip archive's list of its entries

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)", re.IGNORECASE)

# What a reader returns: by name, the type of the elements and the array; bfloat16 as uint16.
Tensors = dict[str, tuple[str, np.ndarray]]


class WeightStream(io.FileIO):
    """A weight file being read; no single `read` may exceed `most` bytes."""

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
    """Open a zip archive whose list of entries has a reasonable size."""
    file.most = _LARGEST_DIRECTORY  # `zipfile` reads the list by one call
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise WeightsError(
            f"weight file {file.name!r} is a zip archive, cut off or damaged: {error}"
        ) from None
    finally:
        file.most = None
    check_count(len(archive.infolist()), file.name)
    with archive:
        yield archive


def check_count(count: int, path: str) -> None:
    if count > MOST_TENSORS:
        raise WeightsError(
            f"weight file {path!r} holds more than {MOST_TENSORS} tensors; that is no set of "
            "weights"
        )


def is_web_page(start: bytes) -> bool:
    return _WEB_PAGE.match(start) is not None


def stored_type(dtype: str, order: str = "<") -> np.dtype:
    """Return the numpy type of elements as a file stores them: bfloat16 as uint16, bit by bit."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder(order)


def native(array: np.ndarray) -> np.ndarray:
    """Return an array whose type does not name the byte order.

    `<f4` and `f4` are the same numbers and equal to numpy; MindSpore 2.7 knows the second only.
    """
    spelled = array.dtype.newbyteorder("=")
    return array.view(spelled) if array.dtype.isnative else array.astype(spelled)
