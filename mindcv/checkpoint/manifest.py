"""The seal of a checkpoint: a manifest with the size and SHA-256 of each of its files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError

FORMAT = 1
_BLOCK = 2**20


@dataclass(frozen=True)
class Manifest:
    """What is written last and makes files a checkpoint.

    Attributes:
        path: the manifest's own place; the files lie beside it.
        files: name -> (size in bytes, SHA-256 in hexadecimal).
        record: what else belongs to the checkpoint, JSON values by name.
    """

    path: Path
    files: Mapping[str, tuple[int, str]]
    record: Mapping[str, Any]

    def file(self, suffix: str) -> Path:
        """Return the path of the file that ends so."""
        return self.path.with_name(next(name for name in self.files if name.endswith(suffix)))

    def check_files(self, elsewhere: Path | None = None) -> None:
        """Compare every file with its size and hash.

        Args:
            elsewhere: folder of the files that are not beside the manifest; None: all are.

        Raises:
            WeightsError: one is missing, cut off or changed.
        """
        for name in self.files:
            path = self.path.with_name(name)
            if elsewhere is not None and not path.exists():
                path = elsewhere / name
            self.check_file(path)

    def check_file(self, path: Path) -> None:
        """Compare a file with the size and hash of the one of its name.

        Raises:
            WeightsError: it is missing, cut off or changed.
        """
        size, digest = self.files[path.name]
        try:
            found, content = measure(path)
        except OSError as error:
            raise WeightsError(
                f"checkpoint file {path} cannot be read: {error.strerror}; {self.path.name} "
                f"says that it has {size} bytes"
            ) from None
        if found != size:
            raise WeightsError(
                f"checkpoint file {path} is damaged: {found} bytes, {size} were written"
            )
        if content != digest:
            raise WeightsError(
                f"checkpoint file {path} is damaged: its SHA-256 is {content[:12]}…, of what "
                f"was written {digest[:12]}…"
            )


def measure(path: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def seal(files: Mapping[str, tuple[int, str]], record: Mapping[str, Any]) -> bytes:
    """Return the content of a manifest file; the last entry is the hash of the others."""
    body = {"format": FORMAT, "files": files, "record": record}
    text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
    return _with_hash(text)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, not the files it tells of.

    Raises:
        WeightsError: it cannot be read, or a byte is not as it was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"checkpoint manifest {path} cannot be read: {error.strerror}") from None
    try:
        whole = json.loads(content)
        body = {key: whole[key] for key in ("format", "files", "record")}
        files = {name: (size, digest) for name, (size, digest) in body["files"].items()}
        text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
        is_intact = _with_hash(text) == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_intact = False
    if not is_intact:
        raise WeightsError(
            f"checkpoint manifest {path} is damaged: its own SHA-256 does not fit its text"
        )
    if body["format"] != FORMAT:
        raise WeightsError(
            f"checkpoint manifest {path} has the format {body['format']}; this version of mindcv "
            f"reads {FORMAT}: update mindcv"
        )
    return Manifest(path, files, body["record"])


def _with_hash(text: str) -> bytes:
    # Paths may be any bytes; json.loads reads what surrogatepass writes.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    # Still JSON: the hash is one more entry at the end.
    whole = f'{text[:-2]},\n "sha256": "{digest}"\n}}\n'
    return whole.encode("utf-8", "surrogatepass")
