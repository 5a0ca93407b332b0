"""The `dataset.json` of a packed dataset: its splits and shards, written once all are complete."""

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ...errors import DataError
from ...process.files import replacing, sha256_of, sha256_of_file
from ...process.json_objects import fields_of

FILE = "dataset.json"
SEAL = "sha256"  # of the rest of the file
_SHARD_BYTES = 512 << 20
_MOST_SHARDS = 256  # of a split, since readers keep all of them open
WORK = ".pack"  # folder of unfinished shards, and of the records of finished ones
FORMAT = "mindcv packed dataset"
VERSION = 1


@dataclass(frozen=True)
class ShardFile:
    """One shard: a MindRecord file, with its index `<file>.db` beside it."""

    file: str  # path below the folder of dataset.json
    images: int
    bytes: int
    sha256: str
    index_bytes: int
    index_sha256: str

    def __post_init__(self):
        place = PurePosixPath(self.file)
        if place.is_absolute() or ".." in place.parts or b"\0" in os.fsencode(self.file):
            raise TypeError(f"the shard {self.file!r} is not in its folder")
        if min(self.images, self.bytes, self.index_bytes) < 0:
            raise TypeError(f"the shard {self.file!r} has fewer than 0 images or bytes")

    def paths(self, root: Path) -> list[tuple[Path, int, str]]:
        path = root / self.file
        index = path.with_name(f"{path.name}.db")
        return [(path, self.bytes, self.sha256), (index, self.index_bytes, self.index_sha256)]

    def problem(self, root: Path, with_hash: bool = False) -> str | None:
        for path, size, digest in self.paths(root):
            try:
                found = path.stat().st_size
                if found != size:
                    return f"{path} is cut or another file: {found} bytes, expected {size}"
                if with_hash and sha256_of_file(path) != digest:
                    return f"{path} is damaged: its sha256 is not the one of dataset.json"
            except OSError as error:
                return f"{path} cannot be read: {error.strerror}"
        return None


@dataclass(frozen=True)
class PackedSplit:
    images: int
    skipped: int  # bad images that were skipped, listed in bad_images.csv
    fingerprint: str  # of the image folder, see `Samples`, if no image was skipped
    shards: tuple[ShardFile, ...]  # in row order

    def __post_init__(self):
        if min(self.images, self.skipped) < 0:
            raise TypeError("a split has fewer than 0 images")


@dataclass(frozen=True)
class PackedSet:
    class_names: tuple[str, ...]  # in label order, the same for all splits
    splits: dict[str, PackedSplit]
    options: dict  # of the pack command
    source: str  # hash of the names, sizes and times of the files it was made of
    made_by: dict[str, str]  # versions of the libraries

    def problems(self, root: Path) -> list[str]:
        """Report the files that are missing or have another size."""
        shards = [shard for split in self.splits.values() for shard in split.shards]
        return [problem for shard in shards if (problem := shard.problem(root))]


def write_packed_set(root: Path, packed: PackedSet) -> None:
    """Write dataset.json with its own hash, atomically.

    Raises:
        OSError: it cannot be written.
    """
    contents = {"format": FORMAT, "version": VERSION, **asdict(packed)}
    write_json(root / FILE, {**contents, SEAL: _seal(contents)})


def write_json(path: Path, contents: dict) -> None:
    """Write a JSON file atomically; names in it may be any bytes."""
    with replacing(path) as unfinished, open(unfinished, "w", encoding="ascii") as file:
        json.dump(contents, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def default_shards(size: float) -> int:
    """Return how many files a split of so many bytes is packed into, unless the user says it."""
    return min(_MOST_SHARDS, math.ceil(size / _SHARD_BYTES))


def read_packed_set(root: str | Path) -> PackedSet | None:
    """Return the content of dataset.json; None if there is none.

    Raises:
        DataError: it is damaged, of a later version, or from another program; or packing was not
            finished.
    """
    path = Path(root, FILE)
    try:
        contents = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if Path(root, WORK).is_dir():
            raise DataError(
                f"packing {root} was not finished; the same pack command continues it"
            ) from None
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise DataError(f"{path} was not written by `python -m mindcv pack`")
    if contents.get("version") != VERSION:
        raise DataError(
            f"{path} has version {contents.get('version')!r}, this library reads {VERSION}: "
            f"install the one that packed it, or remove {root} and pack again"
        )
    seal = contents.pop(SEAL, None)  # older packed sets have none
    if seal is not None and seal != _seal(contents):
        raise DataError(
            f"{path} is damaged: its own hash does not match; copy it anew, or remove {root} and "
            "pack again"
        )
    try:
        return PackedSet(**fields_of(PackedSet, contents))
    except (TypeError, UnicodeEncodeError) as error:
        raise DataError(f"{path} is damaged: {type(error).__name__} {error}") from None


def packed_classes(root: str, split: str) -> tuple[str, ...] | None:
    packed = read_packed_set(root)
    return packed and packed.class_names


def is_sealed(root: Path) -> bool:
    """Return whether dataset.json holds its own hash, which `read_packed_set` checks."""
    return SEAL in json.loads((root / FILE).read_bytes())


def _seal(contents: dict) -> str:
    return sha256_of(json.dumps(contents, sort_keys=True).encode("ascii"))
