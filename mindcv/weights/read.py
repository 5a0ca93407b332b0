"""Read a weight file into numpy arrays; the content decides the format, not the file name."""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

from ..checkpoint import STATE, read_manifest
from ..errors import WeightsError
from . import ckpt, npz, safetensors, torch_file
from .guards import Tensors, WeightStream, is_web_page, open_zip
from .metadata import ENTRY, Metadata


@dataclass(frozen=True)
class Format:
    name: str
    starts: Callable[[bytes, Sequence[str]], bool]  # by first bytes and entries of a zip archive
    # With metadata as `metadata.ENTRY`; raises one of DAMAGE, or a more precise WeightsError.
    read: Callable[[WeightStream], Tensors]
    # Only for formats that this library writes; raises a ValueError for unsupported types.
    write: Callable[[BinaryIO, Mapping[str, np.ndarray]], None] | None = None
    suffix: str = ""


FORMATS = (
    Format(ckpt.NAME, ckpt.starts, ckpt.read, ckpt.write, suffix=".ckpt"),
    Format(
        "safetensors",
        safetensors.starts,
        safetensors.read,
        safetensors.write,
        suffix=".safetensors",
    ),
    Format("torch zip", torch_file.starts_zip, torch_file.read_zip),
    Format("npz", npz.starts, npz.read, npz.write, suffix=".npz"),
    Format("torch legacy", torch_file.starts_legacy, torch_file.read_legacy),
)
READABLE = "MindSpore .ckpt, .safetensors, .npz, and .pth .pt .pyth .bin .torch of torch.save"

# First bytes of files that are often mistaken for weights.
_OTHERS = (
    (
        rb".{257}ustar",
        "a tar archive, as torch before 0.1.10 wrote; save it anew with a later torch",
    ),
    (rb"\x80[\x00-\x05]", "a Python pickle that torch.save did not write; it is not run"),
    (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
    (rb"\x1f\x8b", "compressed by gzip; unpack it first"),
    (rb"BZh", "compressed by bzip2; unpack it first"),
    (rb"\xfd7zXZ", "compressed by xz; unpack it first"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\x93NUMPY", "one numpy array; expected several, in a .npz"),
)
# Errors that zipfile, numpy, json and our own readers raise on damaged content.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    TokenError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    OverflowError,
    RuntimeError,
)


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        format: name of the file format.
        tensors: arrays with the file's names, in its order; floating point as float32.
        metadata: only from files that this library wrote.
        notes: changes made while reading.
    """

    path: str
    format: str
    tensors: dict[str, np.ndarray]
    metadata: Metadata | None = None
    notes: tuple[str, ...] = ()


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Read a weight file without running anything in it.

    A checkpoint of a run is verified against the manifest beside it, and a MindSpore checkpoint
    against the checksum at its end; a note says if it has neither, as with older versions of this
    library and MindSpore. Float16, bfloat16 and float64 are cast to float32, with a note; only
    float64 can lose digits.

    Raises:
        WeightsError: the file does not exist, has no known format, is damaged, holds anything but
            tensors, or differs from its manifest.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):  # opening a pipe would block
        kind = "is a directory" if os.path.isdir(path) else "does not exist"
        raise WeightsError(f"weight file {path!r} {kind}; expected one of {READABLE}")
    is_sealed = _check_seal(Path(path))
    try:
        with WeightStream(path) as file:
            form = _recognise(file)
            file.seek(0)
            found = _read(form, file)
            is_verified = is_sealed or form.name != ckpt.NAME or ckpt.has_checksum(file)
    except (OSError, ImportError) as error:
        raise WeightsError(f"weight file {path!r} cannot be read: {error}") from None
    entry = found.pop(ENTRY, None)
    metadata = None if entry is None else Metadata.from_array(entry[1], path)
    if not found:
        raise WeightsError(f"weight file {path!r} ({form.name}) holds no tensors")
    tensors, casts = {}, {}
    for name, (dtype, array) in found.items():
        tensors[name] = _as_float32(dtype, array)
        if tensors[name].dtype != array.dtype:
            casts[dtype] = casts.get(dtype, 0) + 1
    notes = [f"{count} tensors cast from {dtype} to float32" for dtype, count in casts.items()]
    if not is_verified:
        notes.append("not verified, as the file has no checksum")
    return WeightFile(path, form.name, tensors, metadata=metadata, notes=tuple(notes))


def _check_seal(path: Path) -> bool:
    """Verify a file against the manifest beside it; return whether there is one."""
    seal = path.with_name(f"{path.name.removesuffix('.ckpt').removesuffix(STATE)}.json")
    try:
        manifest = read_manifest(seal)
    except WeightsError:
        return False  # missing, damaged, or not ours
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


def _recognise(file: WeightStream) -> Format:
    head, entries = file.read(512), ()
    if not head:
        raise WeightsError(f"weight file {file.name!r} is empty; fetch or write it again")
    if head.startswith(b"PK\x03\x04"):
        with open_zip(file) as archive:
            entries = archive.namelist()
    for form in FORMATS:
        if form.starts(head, entries):
            return form
    if entries:
        what = f"a zip archive of no weights: {', '.join(entries[:3])}"
    elif is_web_page(head):
        what = "a web page (HTML), as servers send in place of a file; fetch it again"
    else:
        known = [what for start, what in _OTHERS if re.match(start, head, re.DOTALL)]
        what = known[0] if known else f"of no known format (it starts with {head[:8]!r})"
    raise WeightsError(f"weight file {file.name!r} is {what}; expected one of {READABLE}")


def _read(form: Format, file: WeightStream) -> Tensors:
    try:
        return form.read(file)
    except WeightsError:
        raise
    except MemoryError:
        raise WeightsError(f"weight file {file.name!r} needs more memory than is free") from None
    except DAMAGE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"weight file {file.name!r} is cut off or damaged, or no {form.name}: {reason}; fetch "
            "or write it again"
        ) from None


def _as_float32(dtype: str, array: np.ndarray) -> np.ndarray:
    if dtype == "bfloat16":  # its bits are the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype in ("float16", "float64"):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array
