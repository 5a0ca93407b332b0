"""Turns failures inside MindSpore's pipeline into data errors."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import mindspore.dataset as ds

from ..errors import DataError

_WAITS = 30  # tenths of a second
_REASON = re.compile(r"Dataset Pipeline Error Message:\s*\n-+\s*\n\[ERROR\] (.*)")
_PYTHON = re.compile(r"Python Call Stack:\s*\n-+\s*\n(.*?)\n\s*\n-+", re.DOTALL)
INTERRUPTED = "Interrupted system call"  # of a pipeline that is ended, whatever the reason


@contextmanager
def pipeline_failures_as_data_errors(*pipelines: ds.Dataset | None) -> Iterator[None]:
    """Turn a failure of an input pipeline into a DataError that names the file, if it is known.

    Other errors pass. `pipelines` are those read inside: MindSpore passes on only the text of a
    failure, so a DataError of their sources is raised unchanged.
    """
    try:
        yield
    except RuntimeError as error:
        texts = [str(error)]
        for failure in _failures_in(pipelines, error):
            if isinstance(failure, DataError):
                raise failure from None
            texts.append(str(failure))
        reasons = list(filter(None, map(_reason_in, texts)))
        if not reasons:
            raise
        reason = next((one for one in reasons if INTERRUPTED not in one), reasons[0])
        remedy = "replace or remove the file" if "data file is" in reason else "see --debug"
        raise DataError(f"the input pipeline failed: {reason} ({remedy})") from error


def _reason_in(text: str) -> str | None:
    # With nested pipelines, the last stack is the innermost one's.
    stacks, own = _PYTHON.findall(text), _REASON.search(text)
    return stacks[-1].strip().splitlines()[-1].strip() if stacks else own and own[1].strip()


def _failures_in(pipelines, error: RuntimeError) -> list[Exception]:
    """Return what the sources raised; MindSpore may report it before the source has recorded it."""
    for _ in range(_WAITS if _REASON.search(str(error)) and pipelines else 1):
        found = list(filter(None, map(_failure_in, pipelines)))
        if found:
            break
        time.sleep(0.1)
    return found


def _failure_in(pipeline: ds.Dataset | None) -> Exception | None:
    if pipeline is None:
        return None
    own = getattr(getattr(pipeline, "source", None), "failure", None)
    return own or next(filter(None, map(_failure_in, pipeline.children)), None)
