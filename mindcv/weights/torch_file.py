"""Read files of `torch.save` without torch: zip archives (since 1.6) and the older format.

A pickle, read by `pickle_reader`, describes the tensors; the raw numbers of the storages are
separate. Every size is checked against the file before anything is allocated.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .guards import Refusal, Tensors, WeightStream, check_count, native, open_zip, stored_type
from .pickle_reader import Storage, StoredTensor, read_pickle

# First pickle of the older format: the number 0x1950A86A20F9469CFC6C.
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_LARGEST_PICKLE = 256 * 2**20  # bytes; a RegNet with its optimizer takes one million
_MOST_ENTRIES = 1_000_000
_DEEPEST = 20  # nested containers
_LONGEST_NAME = 1000


def starts_zip(head: bytes, entries: Sequence[str]) -> bool:
    return any(name.endswith("/data.pkl") for name in entries)


def starts_legacy(head: bytes, entries: Sequence[str]) -> bool:
    return head.startswith(LEGACY_START)


def read_zip(file: WeightStream) -> Tensors:
    """Read a zip archive of `torch.save`; keys of nested dictionaries are joined with dots."""
    with open_zip(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        root = _root(entries, file.size)

        def content(name: str, size: int | None = None) -> bytes:
            entry = entries.get(root + name)
            if entry is None:
                raise Refusal(f"is cut off or damaged: no entry {name}")
            if size is not None and entry.file_size != size:
                raise Refusal(f"has an entry {name} of {entry.file_size} bytes, {size} expected")
            return archive.read(entry)

        order = content("byteorder") if f"{root}byteorder" in entries else b"little"
        tree = read_pickle(io.BytesIO(content("data.pkl")))

        def buffer(storage: Storage) -> bytes:
            return content(f"data/{storage.key}", _byte_size(storage))

        return _tensors(tree, buffer, ">" if order == b"big" else "<", file)


def _root(entries: dict[str, zipfile.ZipInfo], file_size: int) -> str:
    """Return the folder of all entries, after checking that torch.save wrote the archive."""
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise Refusal(f"is a zip archive with {len(roots)} data.pkl")
    root = roots[0]
    if f"{root}constants.pkl" in entries or any(n.startswith(f"{root}code/") for n in entries):
        raise Refusal("is a TorchScript program, not weights; save its state_dict()")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise Refusal("is compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries.values()) > file_size:
        raise Refusal("has entries larger than the file")
    if entries[f"{root}data.pkl"].file_size > _LARGEST_PICKLE:
        raise Refusal("has a pickle too large for a set of weights")
    return root


def read_legacy(file: WeightStream) -> Tensors:
    """Read the format of torch before 1.6.

    It consists of five pickles (magic number, version, machine, object, storage keys), then the
    element count (8 bytes) and the numbers of each storage.
    """
    content = file.read()
    stream = io.BytesIO(content)
    read_pickle(stream)
    version, machine = read_pickle(stream), read_pickle(stream)
    if version != 1001 or type(machine) is not dict:
        raise Refusal(f"has the unknown version {version!r} of torch")
    order = "<" if machine.get("little_endian", True) else ">"
    tree, keys = read_pickle(stream), read_pickle(stream)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise Refusal("is damaged: no list of its storages")
    types: dict[str, Storage] = {t.storage.key: t.storage for _, t in _walk(tree)}
    buffers, at = {}, stream.tell()
    for key in keys:
        if key not in types:
            # Its element size is unknown, so the next storage cannot be found.
            raise Refusal(f"has a storage that nothing refers to: {key[:40]!r}")
        storage = types[key]
        if at + 8 > len(content):
            raise Refusal(f"is cut off before storage {key!r}")
        (count,) = struct.unpack_from("<q", content, at)
        end = at + 8 + _byte_size(storage)
        if count != storage.size or end > len(content):
            raise Refusal(
                f"is cut off or damaged in storage {key!r}: {storage.size} "
                f"elements expected, {count} announced, {len(content) - at - 8} bytes there"
            )
        buffers[key], at = memoryview(content)[at + 8 : end], end
    if at != len(content):
        raise Refusal(f"has {len(content) - at} bytes after the last storage")

    def buffer(storage: Storage) -> memoryview:
        if storage.key not in buffers or storage != types[storage.key]:
            raise Refusal(f"is cut off or damaged: no storage {storage.key!r}")
        return buffers[storage.key]

    return _tensors(tree, buffer, order, file)


def _tensors(
    tree: Any, content: Callable[[Storage], bytes], order: str, file: WeightStream
) -> Tensors:
    limit = 16 * file.size
    buffers: dict[Storage, np.ndarray] = {}
    found, total = {}, 0
    for name, tensor in _walk(tree):
        storage = tensor.storage
        if name in found:
            raise Refusal(f"holds {name!r} twice")
        check_count(len(found))
        if storage not in buffers:
            buffers[storage] = np.frombuffer(content(storage), stored_type(storage.dtype, order))
        found[name] = (storage.dtype, _view(tensor, buffers[storage], name))
        # Tensors may share a storage, but a small file must not fill the memory.
        total += found[name][1].nbytes
        if total > limit:
            raise Refusal("has tensors far larger than the file")
    return found


def _view(tensor: StoredTensor, flat: np.ndarray, name: str) -> np.ndarray:
    count = math.prod(tensor.shape)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if count == 0 and max(tensor.shape) < 2**20 and len(tensor.shape) <= 2:
        return np.empty(tensor.shape, flat.dtype)
    # A stride of 0 repeats elements, which would blow up a small file; saved weights never have it.
    if count == 0 or count > flat.size or last >= flat.size:
        raise Refusal(
            f"has a tensor {name!r} of shape {tensor.shape} that reaches beyond its "
            f"storage of {flat.size} elements"
        )
    strides = [stride * flat.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, strides, writeable=False
    )
    return native(view)


def _walk(tree: Any):
    """Yield the names and tensors of nested dictionaries and lists, in file order."""
    if type(tree) is not dict:
        raise Refusal(f"holds a {type(tree).__name__}; expected a dictionary of tensors")
    levels, seen = [_children("", tree)], 0
    while levels:
        name, value = next(levels[-1], (None, None))
        if name is None:
            levels.pop()
            continue
        # Nested lists that hold the same list twice would take for ever, and a long key would be
        # copied into the name of each tensor below it.
        seen += 1
        if seen > _MOST_ENTRIES or len(levels) > _DEEPEST or len(name) > _LONGEST_NAME:
            raise Refusal("holds containers too many or too deep for a set of weights")
        if type(value) is StoredTensor:
            yield name, value
        elif type(value) in (dict, list, tuple):
            levels.append(_children(name, value))


def _children(name: str, container: Any) -> Iterator[tuple[str, Any]]:
    items = container.items() if type(container) is dict else enumerate(container)
    return ((f"{name}.{key}" if name else str(key), value) for key, value in items)


def _byte_size(storage: Storage) -> int:
    return storage.size * stored_type(storage.dtype).itemsize
