"""Failures inside MindSpore's pipeline, told as data errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DataError

_REASON = re.compile(r"Dataset Pipeline Error Message:\s*\n-+\s*\n\[ERROR\] (.*)")


@contextmanager
def pipeline_failures_as_data_errors() -> Iterator[None]:
    """Turn a failure of the input pipeline into one message; let other errors pass.

    Raises:
        DataError: the pipeline failed; the message names the file where MindSpore knows it.
    """
    try:
        yield
    except RuntimeError as error:
        found = _REASON.search(str(error))
        if found is None:
            raise
        reason = found[1].strip()
        remedy = "replace or remove the file" if "data file is" in reason else "see --debug"
        raise DataError(f"the input pipeline failed: {reason} ({remedy})") from error
