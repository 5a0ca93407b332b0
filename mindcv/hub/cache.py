"""The cache of published weights, `<cache>/<model>/<source>/<file>`, verified at every use."""

import errno
import logging
import os
import re
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import WeightsError
from ..process.download import Failure, download
from ..process.files import cache_folder, open_regular, read_regular, replacing, sha256_of_file
from ..weights import read_weights
from ..weights.guards import is_web_page
from .table import PublishedWeights

_logger = logging.getLogger(__name__)

_LARGEST_RECORD = 2**16  # bytes


def fetch(weights: PublishedWeights) -> Path:
    """Return the path of a published weight file, downloading it if the cache does not hold it.

    A cached file, downloaded or put there by hand, is verified at every use and never replaced. If
    several processes need the file, one downloads it and the others wait. With MINDCV_OFFLINE=1
    nothing is downloaded.

    Raises:
        ConfigError: MINDCV_OFFLINE is neither 1 nor 0.
        WeightsError: the file cannot be fetched or is not the published one; the message says where
            it is published and, if it could not be fetched, where to put it by hand.
    """
    target = place_of(weights)
    try:
        for part in (target.parent.parent, target.parent):  # the cache itself may be a link
            if part.is_symlink():
                raise OSError(errno.ELOOP, "it is a symbolic link", str(part))
        if not os.path.lexists(target):
            note = f"; {weights.note}" if weights.note else ""
            _logger.info("weights of %s, licence %s%s", weights.owner, weights.licence, note)
            fault_of = partial(_fault_of, weights=weights, target=target)
            if download(weights.url, target, fault_of, resumes=weights.sha256 is not None):
                return target
        if fault := _fault_of(target, weights, target):
            remedy = f"delete {target}* and try again; the file is published at {weights.url}"
            raise WeightsError(f"{fault}\n  {remedy}")
        return target
    except Failure as failure:
        reason = failure.reason
    except OSError as error:
        reason = f"{error.filename or target.parent}: {error.strerror or error}"
    raise WeightsError(
        f"published weights cannot be fetched: {reason}\n"
        f"  address: {weights.url}\n"
        f"  if you get the file elsewhere, put it here: {target}"
    )


def place_of(weights: PublishedWeights) -> Path:
    """Return where the file belongs in the cache, whether or not it exists."""
    file = unquote(urlsplit(weights.url).path).replace("\\", "/").rsplit("/", 1)[-1]
    return cache_folder().joinpath(*map(_plain, (weights.model, weights.source, file)))


def _plain(name: str) -> str:
    """Return the name as a single path component that cannot lead elsewhere."""
    plain = re.sub("[^A-Za-z0-9._+-]", "_", name).lstrip(".")
    if not plain:
        raise WeightsError(f"published weights: {name!r} is not a file name")
    return plain


def _fault_of(path: Path, weights: PublishedWeights, target: Path) -> str | None:
    """Return why a file is not the published one; None: no fault found.

    Without a published hash, a file that is readable and large enough is trusted at its first use.
    Its hash is then recorded beside `target`, in the format of sha256sum, and must not change.
    """
    with open(path, "rb", opener=open_regular) as file:
        start = file.read(512)
        file.seek(0)
        digest = sha256_of_file(file)
    record = target.with_name(f"{target.name}.sha256")
    expected, whose = weights.sha256, "the published one"
    if expected is None and os.path.lexists(record):
        text = read_regular(record, _LARGEST_RECORD).decode(errors="replace")
        if not re.match(r"[0-9a-f]{64}\s", text):
            return f"{str(record)!r} holds no SHA-256"
        expected, whose = text[:64], f"what it was at its first use, see {record.name}"
    if expected is not None:
        if digest.startswith(expected):
            return None
        page = "; it is a web page" if is_web_page(start) else ""
        dots = "…" if len(expected) < len(digest) else ""
        return (
            f"weight file {str(path)!r} is not {whose}{page}: SHA-256 is {digest}, expected "
            f"{expected}{dots}"
        )
    try:
        read_weights(path)
    except WeightsError as error:
        return str(error)
    size = path.stat().st_size
    if weights.params and size < weights.params * 1e6 * 2:  # at least half precision
        return (
            f"weight file {str(path)!r}: {size} bytes are too few for {weights.params} million "
            "parameters"
        )
    _record(record, digest, weights.url)
    return None


def _record(record: Path, digest: str, url: str) -> None:
    try:
        with replacing(record) as unfinished:
            unfinished.write_text(f"{digest}  {record.stem}\n", encoding="utf-8")
        where = f"recorded in {record}"
    except OSError as error:
        where = f"which cannot be recorded: {record}: {error.strerror}"
    _logger.warning("no published hash of %s is known: trusted, SHA-256 %s, %s", url, digest, where)
