"""Is a file the published one? By its hash; where none is known, by its structure.

A file without a known hash is taken on trust once: its SHA-256 is written beside it, in the
form of sha256sum, and must be the same at every later use.
"""

import hashlib
import json
import logging
import os
import re
import zipfile
from pathlib import Path

from ..errors import WeightsError
from ..plain_files import open_regular, read_regular, replacing
from .table import PublishedWeights

_logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_LARGEST_RECORD = 1 << 16  # bytes


def check_cached(path: Path, weights: PublishedWeights) -> None:
    """Check a file of the cache before its use.

    Raises:
        WeightsError: unreadable, or not the published file; it is left as it is.
    """
    try:
        digest = check_content(path, weights)
        recorded = None if weights.sha256 else _recorded(path)
    except OSError as error:
        raise WeightsError(f"weight file {str(path)!r}: {error.strerror}") from None
    except WeightsError as error:
        raise WeightsError(f"{error}\n  {_remedy(path, weights)}") from None
    if weights.sha256:
        return
    if recorded is None:
        remember(path, weights, digest)
    elif digest != recorded:
        raise WeightsError(
            f"weight file {str(path)!r} has changed: SHA-256 is {digest}, at its first use it was "
            f"{recorded} ({_record(path).name})\n  {_remedy(path, weights)}"
        )


def check_content(path: Path, weights: PublishedWeights) -> str:
    """Return the SHA-256 of a file that is, or may well be, the published one.

    Raises:
        WeightsError: it is not.
        OSError: unreadable.
    """
    digest = _sha256(path)
    if weights.sha256:
        if digest.startswith(weights.sha256):
            return digest
        page = "; it is a web page" if _is_web_page(path) else ""
        raise WeightsError(
            f"weight file {str(path)!r} is not the published one{page}: SHA-256 is {digest}, "
            f"expected {weights.sha256}{'…' if len(weights.sha256) < 64 else ''}"
        )
    if fault := _fault(path, weights):
        raise WeightsError(f"weight file {str(path)!r} is no such weights: {fault}")
    return digest


def remember(path: Path, weights: PublishedWeights, digest: str) -> None:
    """Record the SHA-256 of a file without a known hash."""
    record = _record(path)
    told = f"no published hash of {weights.url} is known; took it on trust, SHA-256 {digest}"
    try:
        with replacing(record) as unfinished:
            unfinished.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    except OSError as error:
        _logger.warning("%s; it cannot be recorded: %s: %s", told, record, error.strerror)
    else:
        _logger.warning("%s, recorded in %s", told, record)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", opener=open_regular) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    record = _record(path)
    if not os.path.lexists(record):
        return None
    words = read_regular(record, _LARGEST_RECORD).decode(errors="replace").split()
    if not words or not re.fullmatch("[0-9a-f]{64}", words[0]):
        raise WeightsError(f"{str(record)!r} holds no SHA-256")
    return words[0]


def _remedy(path: Path, weights: PublishedWeights) -> str:
    return f"delete {path}* and try again; the file is published at {weights.url}"


def _fault(path: Path, weights: PublishedWeights) -> str | None:
    """Tell why the file cannot be the weights, from its size and structure."""
    if _is_web_page(path):
        return "it is a web page"
    size = path.stat().st_size
    # Half precision is the least that anyone publishes.
    if weights.params and size < weights.params * 1e6 * 2:
        return f"{size} bytes are too few for {weights.params} million parameters"
    if weights.url.endswith(".safetensors"):
        return _safetensors_fault(path, size)
    if weights.url.endswith((".pth", ".pyth", ".pt")):
        with path.open("rb") as file:
            head = file.read(4)
        # torch writes zip archives, and wrote bare pickles of protocol 2 before version 1.6.
        if not (head.startswith(b"\x80\x02") or zipfile.is_zipfile(path)):
            return f"no torch file begins with {head!r}"
    return None


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    return head.startswith((b"<!doctype", b"<html"))


def _safetensors_fault(path: Path, size: int) -> str | None:
    """The file is 8 bytes that tell the header's length, the header as JSON, and the tensors."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            return "the header is longer than the file"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[0] != "_"]
            expected = 8 + length + max(ends)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return "the header cannot be read"
    return None if size == expected else f"{size} bytes, the header tells {expected}"
