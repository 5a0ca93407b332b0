"""The cache of published weights: `<cache>/<model>/<source>/<file>`, one process fetches each."""

import errno
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..cache_folder import cache_folder
from ..errors import ConfigError, WeightsError
from ..plain_files import open_regular
from .content import check_cached, check_content, remember
from .download import PATIENCE, Patience, download, unavailable
from .table import PublishedWeights

_logger = logging.getLogger(__name__)

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


def fetch(
    weights: PublishedWeights,
    patience: Patience = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Return the path of the weight file in the cache, after downloading it if need be.

    A file that stands in the cache, fetched or put there by hand, is verified at every use and
    never replaced. Of several processes that ask at once one downloads and the others wait. With
    MINDCV_OFFLINE=1 nothing is downloaded.

    Args:
        patience: how often and how long to try.
        sleep: waits so many seconds between two attempts.

    Raises:
        WeightsError: the file cannot be fetched, or is not the published one; the message tells
            the address and where the file can be put by hand.
    """
    target = place_of(weights)
    try:
        _refuse_links(target.parent)
        if os.path.lexists(target):
            check_cached(target, weights)
            return target
        if _offline():
            raise unavailable(weights.url, target, "MINDCV_OFFLINE is set")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, weights.url, patience.deadline):
            if os.path.lexists(target):  # another process was faster
                check_cached(target, weights)
            else:
                _download(weights, target, patience, sleep)
    except OSError as error:
        reason = f"{error.filename or target.parent}: {error.strerror or error}"
        raise unavailable(weights.url, target, reason) from None
    return target


def place_of(weights: PublishedWeights) -> Path:
    """Return where in the cache the file belongs; it need not be there.

    Raises:
        WeightsError: the address, model or source gives no file name.
    """
    file = unquote(urlsplit(weights.url).path).replace("\\", "/").rsplit("/", 1)[-1]
    return cache_folder().joinpath(*map(_plain, (weights.model, weights.source, file)))


def _refuse_links(folder: Path) -> None:
    """Raise an OSError where a folder within the cache is a link; the cache itself may be one."""
    for part in (folder.parent, folder):
        if part.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link", str(part))


def _plain(name: str) -> str:
    """Return the name as one part of a path that cannot lead elsewhere."""
    plain = _UNSAFE.sub("_", name).lstrip(".")
    if not plain:
        raise WeightsError(f"published weights: {name!r} is no file name")
    return plain


def _offline() -> bool:
    wish = os.environ.get("MINDCV_OFFLINE", "").lower()
    if wish in ("1", "true", "yes", "on"):
        return True
    if wish in ("", "0", "false", "no", "off"):
        return False
    raise ConfigError(f"environment variable MINDCV_OFFLINE: expected 1 or 0, got {wish!r}")


@contextmanager
def _locked(target: Path, url: str, longest: float):
    """Hold the lock of one file; it dies with its process, so that a killed one blocks nobody."""
    try:
        import fcntl
    except ImportError:
        raise unavailable(url, target, "this system has no file locks (fcntl)") from None
    give_up = time.monotonic() + longest
    lock = open_regular(target.with_name(target.name + ".lock"), os.O_RDWR | os.O_CREAT)
    try:
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    reason = f"another process has been fetching it for {longest:.0f} s"
                    raise unavailable(url, target, reason) from None
            if not told:
                _logger.info("another process fetches %s; waiting for it", url)
                told = True
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def _download(weights: PublishedWeights, target: Path, patience: Patience, sleep) -> None:
    note = f"; {weights.note}" if weights.note else ""
    _logger.info("weights of %s, licence %s%s", weights.owner, weights.licence, note)
    digests = []
    download(
        weights.url,
        target,
        check=lambda path: digests.append(check_content(path, weights)),
        patience=patience,
        # What a dead process left can only be trusted where the whole can be proved.
        continue_leftover=weights.sha256 is not None,
        sleep=sleep,
    )
    if weights.sha256 is None:
        remember(target, weights, digests[-1])
