"""What is known of each image, in little memory."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

OK, CONVERTED, BAD = "ok", "converted", "bad"


class Image(NamedTuple):
    """What was found out of one image.

    Attributes:
        bytes: of the file.
        width, height: pixels; 0 where its header does not tell.
        mode: Pillow's; empty where it is unknown.
        format: of the content, whatever the suffix says; empty where it is unknown.
        sha256: of the file's bytes, 32 bytes; empty where it cannot be read.
        pixels: SHA-256 of the decoded RGB pixels and their size, where that was asked for.
        verdict: `OK`; `CONVERTED`: training reads it through Pillow, as 8-bit RGB; `BAD`: nothing
            decodes it.
        reason: why it is converted or bad.
        notes: what is odd about it.
    """

    bytes: int
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    sha256: bytes = b""
    pixels: bytes = b""
    verdict: str = OK
    reason: str = ""
    notes: tuple[str, ...] = ()


class ImageTable(Sequence):
    """A sequence of `Image` that takes some 100 bytes for each: words are shared.

    Args:
        with_pixels: hashes of the pixels are kept too.
    """

    def __init__(self, with_pixels: bool = False):
        self.with_pixels = with_pixels
        self._numbers = {name: array("q") for name in ("bytes", "width", "height")}
        kept = ("sha256", "pixels") if with_pixels else ("sha256",)
        self._digests = {name: bytearray() for name in kept}
        self._words = {name: [] for name in ("mode", "format", "verdict", "reason", "notes")}
        self._shared = {}

    def __len__(self) -> int:
        return len(self._numbers["bytes"])

    def __getitem__(self, index: int) -> Image:
        values = {name: column[index] for name, column in self._numbers.items()}
        values |= {name: column[index] for name, column in self._words.items()}
        for name, column in self._digests.items():
            digest = bytes(column[32 * index : 32 * index + 32])
            values[name] = digest if any(digest) else b""
        return Image(**values)

    def append(self, image: Image) -> None:
        for name, column in self._numbers.items():
            column.append(getattr(image, name))
        for name, column in self._words.items():
            value = getattr(image, name)
            column.append(self._shared.setdefault(value, value))
        for name, column in self._digests.items():
            column += getattr(image, name) or bytes(32)

    def numbers(self, name: str) -> np.ndarray:
        """Return a column of numbers, (n,) int64."""
        return np.array(self._numbers[name], np.int64)

    def words(self, name: str) -> list:
        """Return a column of words, (n,)."""
        return self._words[name]

    def digests(self, name: str) -> np.ndarray:
        """Return a column of hashes, (n, 4) uint64; zeros where there is none."""
        return np.frombuffer(bytes(self._digests[name]), np.uint64).reshape(-1, 4)
