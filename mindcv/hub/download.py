"""One transfer that ends with the whole, verified file under its name, or with nothing there."""

import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import WeightsError
from .https import (
    Trouble,
    continues,
    is_safe,
    network,
    opener_for,
    origin_of,
    refuse_other_content,
    request_for,
)
from .part import Part

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_LARGEST = 1 << 34  # bytes; no file of the table comes near it


@dataclass(frozen=True)
class Patience:
    """How often and how long to try; seconds.

    Attributes:
        attempts: transfers begun, at most.
        first_wait, longest_wait: before the second attempt, doubled for each further one, and its
            bound, which holds for a wait that the server asks for as well.
        stall: of silence, or of less than `slowest` bytes a second, that end an attempt.
        deadline: of everything.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    stall: float = 30.0
    slowest: float = 1024.0
    deadline: float = 4 * 3600.0


PATIENCE = Patience()


def download(
    url: str,
    target: Path,
    check: Callable[[Path], object],
    patience: Patience = PATIENCE,
    continue_leftover: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch `url` and give it the name `target` once `check` has passed it.

    Until then it is `<target>.part`. An attempt continues what an earlier one got if the server
    still has the same file (ETag or date, and length), else it begins anew. The caller sees to it
    that no other process fetches the same target.

    Args:
        url: https; http only on this machine.
        check: takes the path of the whole file and raises WeightsError if it is a wrong one.
        continue_leftover: use what an earlier call left; else it is discarded, and nothing is left.

    Raises:
        WeightsError: not to be had; address, reason and `target` are told.
    """
    if not is_safe(url):
        raise unavailable(url, target, "the address is not https")
    opener = opener_for(url)
    part = Part(target.with_name(target.name + ".part"), url)
    end = time.monotonic() + patience.deadline
    if not continue_leftover:
        part.discard()
    for attempt in range(1, patience.attempts + 1):
        try:
            continued = _transfer(opener, part, patience, end)
            _check(check, part, continued)
            part.publish(target)
            return
        except Trouble as trouble:
            last = not trouble.passing or attempt == patience.attempts
            if trouble.stale or (last and not continue_leftover):
                part.discard()
            wait = _wait(trouble, attempt, patience)
            if last or time.monotonic() + wait > end:
                count = f" (attempt {attempt} of {patience.attempts})" if attempt > 1 else ""
                raise unavailable(url, target, trouble.reason + count) from None
            _logger.warning("%s: %s; next attempt in %.1f s", url, trouble.reason, wait)
        sleep(wait)


def unavailable(url: str, target: Path, reason: str) -> WeightsError:
    """Return the error that tells why there are no weights, and how to get them by hand."""
    return WeightsError(
        f"published weights cannot be fetched: {reason}\n"
        f"  address: {url}\n"
        f"  if you get the file elsewhere, put it here: {target}"
    )


def _transfer(opener, part: Part, patience: Patience, end: float) -> bool:
    """Get the file, or what is missing of it; tell whether bytes of before were continued."""
    size, origin = part.kept()
    if origin and size == origin.length:
        return True
    timeout = max(0.001, min(patience.stall, end - time.monotonic()))
    with (
        network(),
        opener.open(request_for(part.url, size, origin), timeout=timeout) as response,
    ):
        refuse_other_content(response)
        continued = response.status == 206
        if continued:
            if not origin or not continues(response, size, origin):
                raise Trouble("the server sent another range than was asked for", stale=True)
            _logger.info("continuing %s at byte %d of %d", part.url, size, origin.length)
            file = part.resume()
        else:
            size, origin = 0, origin_of(part.url, response)
            if (origin.length or 0) > _LARGEST:
                raise Trouble(f"the server announces {origin.length} bytes", passing=False)
            _logger.info("fetching %s to %s", part.url, part.path.parent)
            file = part.begin(origin)
        try:
            size += _copy(response, part, file, size, origin.length, patience, end)
        finally:
            os.close(file)
    if origin.length not in (None, size):
        raise Trouble(f"the transfer ended after {size} of {origin.length} bytes")
    return continued


def _copy(response, part, file: int, size: int, length: int | None, patience, end: float) -> int:
    """Write the body to the part and return its bytes."""
    copied, window, moved = 0, time.monotonic(), 0
    bar = tqdm(
        desc=part.path.stem,
        total=length,
        initial=size,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,  # where standard error is no terminal
    )
    with bar:
        while chunk := response.read1(_CHUNK):
            part.write(file, chunk)
            bar.update(len(chunk))
            copied += len(chunk)
            moved += len(chunk)
            now = time.monotonic()
            if size + copied > _LARGEST:
                raise Trouble(f"more than {_LARGEST} bytes came", passing=False, stale=True)
            if now > end:
                raise Trouble(f"{patience.deadline:.0f} s are over", passing=False)
            if now - window >= patience.stall:
                if moved < patience.slowest * (now - window):
                    raise Trouble(f"slower than {patience.slowest:.0f} bytes a second")
                window, moved = now, 0
    return copied


def _check(check: Callable[[Path], object], part: Part, continued: bool) -> None:
    """Discard a wrong file; one pieced together from two transfers deserves a fresh attempt."""
    try:
        check(part.path)
    except WeightsError as error:
        reason = f"{error}; it was discarded"
        raise Trouble(reason, passing=continued, wait=0, stale=True) from None
    except OSError as error:
        raise Trouble(f"{part.path}: {error.strerror}", passing=False) from None


def _wait(trouble: Trouble, attempt: int, patience: Patience) -> float:
    if trouble.wait is not None:
        return min(trouble.wait, patience.longest_wait)
    wait = min(patience.first_wait * 2 ** (attempt - 1), patience.longest_wait)
    return wait * random.uniform(0.5, 1)  # so that processes that fail together part
