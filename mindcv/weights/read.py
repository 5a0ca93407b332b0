"""Read a weight file into numpy arrays; its content tells the format, its name nothing."""

import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ..checkpoint import STATE, read_manifest
from ..checkpoint.tensor_files import native
from ..errors import WeightsError
from .checkpoint_file import has_checksum, read_checkpoint
from .limits import LARGEST_DIRECTORY, LARGEST_HEADER, check_count
from .metadata import ENTRY, Metadata
from .torch_file import LEGACY_START, read_legacy, read_zip

CHECKPOINT = "MindSpore checkpoint"
FORMATS = "MindSpore .ckpt, .safetensors, .npz, and .pth .pt .pyth .bin .torch of torch.save"

_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|!--|html|head|body|\?xml)", re.IGNORECASE)
# Starts of files that are often taken for weights.
_OTHERS = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer: the file itself was not fetched (git lfs pull)",
    ),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"BZh", "compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed by xz; unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "one numpy array; expected several, in a .npz"),
)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
)
# Compressed arrays may unfold to this much, and a hundred times the file besides.
_UNFOLDED_FLOOR = 64 * 2**20


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: where it was read from.
        format: its kind, for messages.
        tensors: arrays by name, in the file's order and names; floating point ones are float32.
        metadata: what the file tells of its weights, where this library wrote it.
        notes: what was changed in reading.
    """

    path: str
    format: str
    tensors: dict[str, np.ndarray]
    metadata: Metadata | None = None
    notes: tuple[str, ...] = ()


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Read a weight file; nothing in it is run.

    A file of a run is compared with the manifest beside it first. A MindSpore checkpoint is
    compared with the checksum at its end; a note says where it has neither, as older versions of
    this library and MindSpore write it. Float16, bfloat16 and float64 become float32, which only
    the last can lose digits by; a note says so.

    Raises:
        WeightsError: no such file, of no known format, damaged, or holding anything but tensors; or
            its manifest was sealed with other bytes.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):  # a pipe would be waited for
        kind = "is a directory" if os.path.isdir(path) else "does not exist"
        raise WeightsError(f"weight file {path!r} {kind}; expected one of {FORMATS}")
    is_verified = _check_seal(Path(path)) or _has_checksum(path)
    try:
        form, reader = _recognise(path)
        found, metadata = reader(path)
    except OSError as error:
        raise WeightsError(f"weight file {path!r} cannot be read: {error}") from None
    tensors, casts = {}, {}
    for name, (dtype, array) in found.items():
        tensors[name] = _settle(dtype, array)
        if tensors[name].dtype != array.dtype:
            casts[dtype] = casts.get(dtype, 0) + 1
    if not tensors:
        raise WeightsError(f"weight file {path!r} ({form}) holds no tensors")
    notes = [f"{count} tensors cast from {dtype} to float32" for dtype, count in casts.items()]
    if form == CHECKPOINT and not is_verified:
        notes.append("not verified, as the file has no checksum")
    return WeightFile(path, form, tensors, metadata, tuple(notes))


def _check_seal(path: Path) -> bool:
    """Refuse a file that is not as the manifest beside it says; tell whether there is one."""
    seal = path.with_name(f"{path.name.removesuffix('.ckpt').removesuffix(STATE)}.json")
    try:
        manifest = read_manifest(seal)
    except WeightsError:
        return False  # damaged, somebody else's, or none
    if path.name not in manifest.files:
        return False
    try:
        manifest.check_file(path.name, Path(os.path.realpath(path)))
    except WeightsError as error:
        raise WeightsError(
            f"{error}; take another checkpoint of the run, or remove {seal} if the file was "
            "replaced on purpose"
        ) from None
    return True


def _has_checksum(path: str) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 100))
        return has_checksum(file.read())


def _settle(dtype: str, array: np.ndarray) -> np.ndarray:
    if dtype == "bfloat16":  # its bits are the upper half of a float32's
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype in ("float16", "float64"):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array


def _recognise(path: str):
    """Return the name and the reader of the format that the first bytes tell."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(512)
    if not size:
        raise WeightsError(f"weight file {path!r} is empty; fetch or write it again")
    if start.startswith(b"PK\x03\x04"):
        with _open_zip(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return "torch zip", _read_torch_zip
        if any(name.endswith(".npy") for name in names):
            return "npz", _read_npz
        what = f"a zip archive of no weights: {', '.join(names[:3])}"
    elif start.startswith(LEGACY_START):
        return "torch legacy", _read_torch_legacy
    elif size > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors", _read_safetensors
    elif is_web_page(start):
        what = "a web page (HTML), as servers send in place of a file; fetch it again"
    elif start[257:262] == b"ustar":
        what = "a tar archive, as torch before 0.1.10 wrote; save it anew with a later torch"
    elif start[:1] == b"\x80" and start[1:2] <= b"\x05":
        what = "a Python pickle that torch.save did not write; it is not run"
    elif start[:1] == b"\n":
        return CHECKPOINT, _read_checkpoint
    else:
        known = [what for begin, what in _OTHERS if start.startswith(begin)]
        what = known[0] if known else f"of no known format (it starts with {start[:8]!r})"
    raise WeightsError(f"weight file {path!r} is {what}; expected one of {FORMATS}")


def is_web_page(start: bytes) -> bool:
    """Tell it from the first bytes of a file."""
    return _WEB_PAGE.match(start) is not None


class _BoundedFile(io.FileIO):
    """A zip archive being opened; `zipfile` reads the list of its entries by one call."""

    most: int | None = LARGEST_DIRECTORY

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise ValueError(f"its list of entries has {size} bytes")
        return super().read(size)


@contextmanager
def _open_zip(path: str) -> Iterator[zipfile.ZipFile]:
    with _BoundedFile(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise WeightsError(
                f"weight file {path!r} is a zip archive, cut off or damaged: {error}"
            ) from None
        file.most = None
        check_count(len(archive.infolist()), path)
        with archive:
            yield archive


def _read_torch_zip(path: str) -> tuple[dict[str, tuple], None]:
    with _open_zip(path) as archive, _damage_named(path):
        return read_zip(archive, path, os.path.getsize(path)), None


def _read_torch_legacy(path: str) -> tuple[dict[str, tuple], None]:
    with open(path, "rb") as file:
        return read_legacy(file.read(), path), None


def _read_npz(path: str) -> tuple[dict[str, tuple], Metadata | None]:
    with _open_zip(path) as archive, _damage_named(path):
        entries = archive.infolist()
        unfolded = sum(entry.file_size for entry in entries)
        if unfolded > _UNFOLDED_FLOOR + 100 * os.path.getsize(path):
            raise WeightsError(
                f"weight file {path!r} would unfold to {unfolded} bytes; that is no set of weights"
            )
        arrays = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise WeightsError(f"weight file {path!r} holds {name!r} twice")
            arrays[name] = _read_npy(archive, entry, path)
    metadata = arrays.pop(ENTRY, None)
    found = {name: (array.dtype.name, array) for name, array in arrays.items()}
    return found, None if metadata is None else Metadata.from_array(metadata, path)


def _read_npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> np.ndarray:
    """Read one array; its header is checked before the numbers are."""
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in headers:
            raise ValueError(
                f"{entry.filename} has the unknown version {version} of numpy's format"
            )
        shape, fortran_order, dtype = headers[version](stream)
        if dtype.kind not in "biuf":
            raise WeightsError(
                f"weight file {path!r}: array {entry.filename!r} has elements of type {dtype}; "
                "only numbers are read, so the file is refused and nothing in it was run"
            )
        size = math.prod(shape) * dtype.itemsize
        if size < 0 or size > entry.file_size:
            raise ValueError(f"{entry.filename} announces more than it holds")
        numbers = stream.read()
        if len(numbers) != size:
            raise ValueError(f"{entry.filename} has {len(numbers)} bytes, {size} expected")
    array = np.frombuffer(numbers, dtype).reshape(shape, order="F" if fortran_order else "C")
    return native(array)


@contextmanager
def _damage_named(path: str):
    """Turn what the zip and numpy readers raise on damaged content into a WeightsError."""
    try:
        yield
    except WeightsError:
        raise
    except _DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"weight file {path!r} is cut off or damaged: {reason}") from None


_SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def _read_safetensors(path: str) -> tuple[dict[str, tuple], Metadata | None]:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise WeightsError(
            f"weight file {path!r} is a safetensors file; run: pip install safetensors"
        ) from None
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise WeightsError(
                f"weight file {path!r} has a header of {length} bytes; that is no set of weights"
            )
        file.seek(0)
        content = file.read()
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise WeightsError(f"weight file {path!r} is cut off or damaged: {error}") from None
    with _damage_named(path):
        header = json.loads(content[8 : 8 + length])
        found = dict(_safetensors_arrays(entries, path))
    text = (header.get("__metadata__") or {}).get(ENTRY)
    return found, None if text is None else Metadata.from_json(text, path)


def _safetensors_arrays(entries: list, path: str) -> Iterator[tuple[str, tuple]]:
    check_count(len(entries), path)
    for name, entry in entries:
        dtype = _SAFETENSORS_TYPES.get(entry["dtype"])
        if dtype is None:
            raise WeightsError(
                f"weight file {path!r}: tensor {name!r} is of type {entry['dtype']}; expected one "
                f"of {', '.join(_SAFETENSORS_TYPES)}"
            )
        numbers = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
        array = np.frombuffer(entry["data"], numbers).reshape(entry["shape"])
        yield name, (dtype, native(array))


def _read_checkpoint(path: str) -> tuple[dict[str, tuple], Metadata | None]:
    with open(path, "rb") as file:
        found = read_checkpoint(file.read(), path)
    metadata = found.pop(ENTRY, None)
    return found, None if metadata is None else Metadata.from_array(metadata[1], path)
