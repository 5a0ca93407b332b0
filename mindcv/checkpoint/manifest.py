"""The seal of a checkpoint: a manifest with the size and SHA-256 of each of its files."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..process.files import open_regular, read_regular, reading, sha256_of, sha256_of_file

FORMAT = 1
PRUNED = ".pruned"  # replaces .json while the files are being removed
STATE = ".state.npz"
_LARGEST = 2**26  # bytes; that of an ImageNet-21k run has one million
_SHA256 = re.compile("[0-9a-f]{64}")
# The types of a run's record, checked because a manifest may come from somebody else.
_KEPT = {"is_midway": bool, "score": (float, int, None)}
_RUN = _KEPT | {
    "best_score": (float, int, None),
    "config": dict,
    "data": {
        "class_names": [str],
        "files?": {"names?": [str], "sizes?": [str], "times?": [str]},
        "fingerprint": str,
        "images_of_classes": [int],
    },
    "epoch": int,
    "is_evaluated": bool,
    "rows": [[str]],
    "runtime": {"world_size": int},
    "skipped": int,
    "skipped_in_a_row?": int,
    "steps": int,
    "update?": {"images": int, "batches": int, "images_of_epoch": int},
    "versions": dict,
    "workers": int,
}
_LARGEST_NUMBER = 2**53
_MOST_RANKS = 2**20
_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_NAME = re.compile(
    rf"(?P<model>.+)-(?P<epoch>{_NUMBER})_(?P<step>{_NUMBER})(?P<mark>|_unevaluated)"
)


@dataclass(frozen=True, order=True)
class Position:
    """A position in a run; later positions compare as larger.

    Attributes:
        epoch: from 1.
        step: steps done in the epoch.
        is_evaluated: False after the last step of an epoch until its evaluation and logging are
            done; otherwise True.
    """

    epoch: int = 1
    step: int = 0
    is_evaluated: bool = True

    def name(self, model: str) -> str:
        """Return the name, without suffix, of a checkpoint saved here."""
        return f"{model}-{self.epoch}_{self.step}{'' if self.is_evaluated else '_unevaluated'}"

    def count(self, steps_per_epoch: int) -> int:
        """Return the steps done in the whole run."""
        return (self.epoch - 1) * steps_per_epoch + self.step


def position_of(name: str) -> Position | None:
    """Return the position that a name without suffix states; None if it is not a checkpoint's."""
    found = _NAME.fullmatch(name)
    return found and Position(int(found["epoch"]), int(found["step"]), not found["mark"])


@dataclass(frozen=True)
class Manifest:
    """The file that is written last and turns files into a checkpoint.

    Attributes:
        path: of the manifest; the files lie beside it.
        files: name -> (size in bytes, SHA-256 in hexadecimal).
        record: further JSON values by name.
    """

    path: Path
    files: Mapping[str, tuple[int, str]]
    record: Mapping[str, Any]

    @property
    def position(self) -> Position | None:
        """Where the run stood, from the name; None for the best weights."""
        return position_of(self.path.stem)

    def file(self, suffix: str) -> Path:
        """Return the path of the file with this suffix."""
        return self.path.with_name(next(name for name in self.files if name.endswith(suffix)))

    def check_files(self, elsewhere: Path | None = None) -> None:
        """Check all files by `check_file`; those not beside the manifest are in `elsewhere`."""
        for name in self.files:
            path = self.path.with_name(name)
            if elsewhere is not None and not os.path.lexists(path):
                path = elsewhere / name
            self.check_file(name, path)

    def check_file(self, name: str, path: Path) -> None:
        """Check that the file at `path` has the size and hash of the one called `name`.

        Raises:
            WeightsError: it is missing, truncated, changed, or not a regular file.
        """
        size, digest = self.files[name]
        try:
            with open(path, "rb", opener=open_regular) as file:
                found = os.fstat(file.fileno()).st_size
                content = sha256_of_file(file) if found == size else ""
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


def seal(files: Mapping[str, tuple[int, str]], record: Mapping[str, Any]) -> bytes:
    """Return the content of a manifest file; its last entry is the hash of the others."""
    body = {"format": FORMAT, "files": files, "record": record}
    text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
    return _with_hash(text)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, without the files that it lists.

    It may come from somebody else, with a matching hash, so the names in it are checked as well.

    Raises:
        WeightsError: it cannot be read, is damaged, or lists files of another checkpoint.
    """
    with reading(f"checkpoint manifest {path}", WeightsError):
        content = read_regular(path, _LARGEST)
    try:
        whole = json.loads(content)
        body = {key: whole[key] for key in ("format", "files", "record")}
        files = {file: (size, digest) for file, (size, digest) in body["files"].items()}
        text = json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True)
        is_intact = _with_hash(text) == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_intact = False
    if not is_intact:
        raise WeightsError(
            f"checkpoint manifest {path} is damaged: its own SHA-256 does not match its content"
        )
    if body["format"] != FORMAT:
        raise WeightsError(
            f"checkpoint manifest {path} has the format {body['format']}; this version of mindcv "
            f"reads {FORMAT}: update mindcv"
        )
    name = path.name.removesuffix(".json").removesuffix(PRUNED)
    for file, (size, digest) in files.items():
        is_own = file in (f"{name}.ckpt", f"{name}{STATE}")
        is_size = type(size) is int and 0 <= size < 2**63
        if not (is_own and is_size and type(digest) is str and _SHA256.fullmatch(digest)):
            raise WeightsError(
                f"checkpoint manifest {path} names {file!r} with size {size!r}; expected "
                f"{name}.ckpt and {name}{STATE} only, with their sizes and SHA-256: it is not used"
            )
    if type(body["record"]) is not dict or not files:
        raise WeightsError(f"checkpoint manifest {path} has no record or no files; it is not used")
    return Manifest(path, files, body["record"])


def _with_hash(text: str) -> bytes:
    # Paths may be any bytes; json.loads reads what surrogatepass writes.
    digest = sha256_of(text.encode("utf-8", "surrogatepass"))
    # Still JSON: the hash is one more entry at the end.
    whole = f'{text[:-2]},\n "sha256": "{digest}"\n}}\n'
    return whole.encode("utf-8", "surrogatepass")


def check_record(manifest: Manifest, is_resumed: bool = True) -> None:
    """Check that a manifest records a run.

    If not `is_resumed`, only what it takes to rank the checkpoint is checked.

    Raises:
        WeightsError: an entry is missing or of another type, or the checkpoint's name states
            another position in the run.
    """
    record = manifest.record
    problem = _problem(record, _RUN if is_resumed else _KEPT, "record")
    if not problem and is_resumed:
        recorded = Position(record["epoch"], record["steps"], record["is_evaluated"])
        if recorded != manifest.position:
            problem = (
                f"its record says epoch {recorded.epoch}, step {recorded.step}, its name another "
                "position"
            )
        update, ranks = record.get("update"), record["runtime"]["world_size"]
        if not 0 < ranks < _MOST_RANKS or update and min(map(update.get, _RUN["update?"])) < 1:
            problem = f"its record says {ranks} ranks and an update of {update}"
    if problem:
        raise WeightsError(f"checkpoint manifest {manifest.path} is not a run's: {problem}")


def _problem(value: Any, kind: Any, place: str) -> str | None:
    """Return where a JSON value is not of a kind; None if it is.

    A kind is a type; a tuple of types; [kind] for a list of items; or a mapping of keys to kinds,
    where a key that ends in ? is optional.
    """
    if isinstance(kind, Mapping):
        if type(value) is not dict:
            return f"{place} is {_named(value)}, expected a mapping"
        kinds = {key.rstrip("?"): each for key, each in kind.items()}
        missing = [key for key in kinds if key not in value and key in kind]
        if missing:
            return f"{place} has no {missing[0]}"
        items = [(value[key], kinds[key], f"{place}.{key}") for key in kinds if key in value]
    elif isinstance(kind, list):
        if type(value) is not list:
            return f"{place} is {_named(value)}, expected a list"
        items = [(item, kind[0], f"an item of {place}") for item in value]
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not (value is None and None in kinds or type(value) in kinds):
            return f"{place} is {_named(value)}"
        is_small = type(value) not in (int, float) or -_LARGEST_NUMBER < value < _LARGEST_NUMBER
        return None if is_small else f"{place} is {_named(value)}, out of range"
    return next((found for item in items if (found := _problem(*item))), None)


def _named(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
