"""How much a weight file may announce; far above what any set of weights has.

A tensor costs a reader some hundred bytes, whatever it holds, so that files of empty ones would
fill the memory.
"""

from typing import Any

from ..errors import WeightsError

MOST_TENSORS = 50_000
MOST_AXES = 32  # numpy's own limit
LARGEST_HEADER = 2**22  # bytes of JSON; the names of ImageNet-21k's classes have one million
LARGEST_DIRECTORY = 2**24  # bytes of a zip archive's list of its entries


def check_count(count: int, path: Any) -> None:
    """Raise a WeightsError where a file holds too many tensors."""
    if count > MOST_TENSORS:
        raise WeightsError(
            f"weight file {path!r} holds more than {MOST_TENSORS} tensors; that is no set of "
            "weights"
        )
