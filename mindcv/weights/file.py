"""Read and write weight files with their metadata; the content decides the format of a file.

A MindSpore checkpoint holds its metadata as one more entry, JSON text in a uint8 tensor, which
every version of MindSpore reads and other programs ignore.
"""

import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from ..checkpoint import STATE, read_manifest
from ..data.preprocessing import Preprocessing
from ..errors import ConfigError, WeightsError, first_line
from ..names import plural
from ..process.files import replacing
from ..process.json_objects import fields_of
from ..task import SINGLE_LABEL, TASKS
from . import array_files, ckpt, torch_file
from .guards import ENTRY, LARGEST_HEADER, Refusal, Tensors, WeightStream, is_web_page, open_zip
from .schemes import FIRST_CONV, NATIVE, SCHEMES, WRITABLE


@dataclass(frozen=True)
class Format:
    name: str
    starts: Callable[[bytes, Sequence[str]], bool]  # by first bytes and entries of a zip archive
    # With metadata as `metadata.ENTRY`; raises one of DAMAGE, or a more precise Refusal.
    read: Callable[[WeightStream], Tensors]
    # Only for formats that this library writes; raises a ValueError for unsupported types.
    write: Callable[[BinaryIO, Mapping[str, np.ndarray]], None] | None = None
    suffix: str = ""


FORMATS = (
    Format(ckpt.NAME, ckpt.starts, ckpt.read, ckpt.write, suffix=".ckpt"),
    Format("safetensors", *array_files.SAFETENSORS, suffix=".safetensors"),
    Format("torch zip", torch_file.starts_zip, torch_file.read_zip),
    Format("npz", *array_files.NPZ, suffix=".npz"),
    Format("torch legacy", torch_file.starts_legacy, torch_file.read_legacy),
)
SUFFIXES = tuple(form.suffix for form in FORMATS if form.write)
ENDINGS = (".ckpt", ".safetensors", ".npz", ".pth", ".pt", ".pyth", ".bin", ".torch")
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
class Metadata:
    """Description of a set of weights.

    Attributes:
        class_names: in the order of the logits; None: unknown.
        preprocessing: for evaluation.
        options: further keyword arguments of the model's builder that shape the network.
        task: of `TASKS`: what the logits decide.
    """

    model: str
    num_classes: int = 1000
    in_channels: int = 3
    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str = SINGLE_LABEL.name

    def with_class_names(self, names: Sequence[str]) -> "Metadata":
        """Return the same with other names of the classes; ConfigError: not one for each class."""
        if len(names) != self.num_classes:
            raise ConfigError(
                f"class_names: {plural(len(names), 'name')} for a model of "
                f"{plural(self.num_classes, 'class')}"
            )
        return replace(self, class_names=tuple(names))

    def to_array(self) -> np.ndarray:
        """Return the metadata as the uint8 vector that a checkpoint stores."""
        # json.dumps escapes to ASCII, since names of class folders may be any bytes.
        return np.frombuffer(json.dumps({"format": 1, **asdict(self)}).encode(), np.uint8)

    @classmethod
    def from_array(cls, array: np.ndarray, path: str) -> "Metadata":
        """Read what `to_array` returns; the WeightsError for invalid metadata names `path`."""
        try:
            if array.dtype != np.uint8 or array.ndim != 1:
                raise ValueError(f"{array.dtype} of {array.ndim} axes, expected a vector of uint8")
            if len(array) > LARGEST_HEADER:
                raise ValueError(f"{len(array)} characters are too many")
            found = json.loads(array.tobytes().decode())
            preprocessing = Preprocessing.from_dict(found.pop("preprocessing"))
            metadata = cls(**fields_of(cls, found), preprocessing=preprocessing)
            names, count = metadata.class_names, metadata.num_classes
            if count < 0 or metadata.in_channels < 1:
                raise ValueError(f"{count} classes, {metadata.in_channels} channels")
            if names is not None and len(names) != count:
                raise ValueError(f"{len(names)} class names for {count} classes")
            if metadata.task not in TASKS:
                raise ValueError(f"task {metadata.task!r:.40} is not {' or '.join(TASKS)}")
            return metadata
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(
                f"weight file {path!r}: its entry {ENTRY} cannot be read: {first_line(error)[:200]}"
            ) from None


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
            try:
                found = form.read(file)
            except DAMAGE as error:
                raise Refusal(
                    f"is cut off or damaged, or no {form.name}: {first_line(error)}; fetch or "
                    "write it again"
                ) from None
            is_verified = is_sealed or form.name != ckpt.NAME or ckpt.has_checksum(file)
    except Refusal as refusal:
        raise WeightsError(f"weight file {path!r} {refusal}") from None
    except MemoryError:
        raise WeightsError(f"weight file {path!r} needs more memory than is free") from None
    except (OSError, ImportError) as error:
        raise WeightsError(f"weight file {path!r} cannot be read: {error}") from None
    entry = found.pop(ENTRY, None)
    metadata = None if entry is None else Metadata.from_array(entry[1], path)
    if not found:
        raise WeightsError(f"weight file {path!r} ({form.name}) holds no tensors")
    tensors = {name: _as_float32(dtype, array) for name, (dtype, array) in found.items()}
    casts = Counter(
        dtype for name, (dtype, one) in found.items() if one.dtype != tensors[name].dtype
    )
    notes = [f"{plural(n, 'tensor')} cast from {dtype} to float32" for dtype, n in casts.items()]
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
        raise Refusal("is empty; fetch or write it again")
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
    raise Refusal(f"is {what}; expected one of {READABLE}")


def _as_float32(dtype: str, array: np.ndarray) -> np.ndarray:
    if dtype == "bfloat16":  # its bits are the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype in ("float16", "float64"):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    return array


def write_weights(
    path: str | os.PathLike,
    weights: Mapping[str, np.ndarray],
    metadata: Metadata | None = None,
    names: str = NATIVE,
) -> int:
    """Write a .safetensors, .npz or .ckpt file, by the suffix of `path`; return the tensor count.

    An existing file is replaced only when the new one is complete.

    Args:
        weights: arrays by native names.
        names: library whose names to write; see `WRITABLE`. For pycls the first convolution is
            flipped to BGR.

    Raises:
        WeightsError: the suffix or `names` is unknown, the library has no name for a tensor, or the
            file cannot be written.
    """
    path = Path(path)
    writers = {form.suffix: form.write for form in FORMATS if form.write}
    if path.suffix not in writers:
        raise WeightsError(f"weight file {str(path)!r} should end in {', '.join(SUFFIXES)}")
    tensors = _named(weights, names)
    count = len(tensors)
    if metadata is not None:
        tensors[ENTRY] = metadata.to_array()
    try:
        with replacing(path) as unfinished, open(unfinished, "wb") as stream:
            writers[path.suffix](stream, tensors)
    except (OSError, ImportError, ValueError, KeyError) as error:
        text = f"weight file {str(path)!r} cannot be written: {first_line(error)}"
        raise WeightsError(text) from None
    return count


def _named(weights: Mapping[str, np.ndarray], names: str) -> dict[str, np.ndarray]:
    if names == NATIVE:
        return {name: np.ascontiguousarray(value) for name, value in weights.items()}
    if names not in WRITABLE:
        raise WeightsError(f"names of {names!r} cannot be written; known: {', '.join(WRITABLE)}")
    scheme = SCHEMES[names]
    has_se = any(".se." in name for name in weights)
    named = {}
    for name, value in weights.items():
        theirs = scheme.from_native(name, has_se)
        if theirs is None:
            raise WeightsError(f"{names} has no name for {name}; write the native names instead")
        if scheme.is_bgr and name == FIRST_CONV and value.shape[1] == 3:
            value = value[:, ::-1]
        named[theirs] = np.ascontiguousarray(value)
        if theirs.endswith("running_var"):
            # torch's BatchNorm counts batches, and loading with strict=True needs the count.
            named[theirs.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return named
