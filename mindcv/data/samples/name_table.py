"""Many file names in little memory."""

from collections.abc import Iterable

import numpy as np


class NameTable:
    """A sequence of byte strings in two arrays: 4 or 8 bytes a name beside its own.

    Attributes:
        blob: (bytes,) uint8, all names one after the other.
        ends: (n,) uint32 or int64, where each name ends in the blob.
    """

    def __init__(self, blob: np.ndarray, ends: np.ndarray):
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "NameTable":
        """Return the table of these names; they are not kept as Python objects."""
        blob, lengths = bytearray(), []
        for name in names:
            blob += name
            lengths.append(len(name))
        ends = np.cumsum(lengths, dtype=np.int64)
        kind = np.uint32 if len(blob) < 2**32 else np.int64
        return cls(np.frombuffer(blob, np.uint8), ends.astype(kind))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self.ends):
            raise IndexError(index)
        start = int(self.ends[index - 1]) if index else 0
        return self.blob[start : int(self.ends[index])].tobytes()
