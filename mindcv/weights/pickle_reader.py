"""Read the pickle of a torch file without running anything in it.

A pickle is a small program that names classes and functions and calls them, and Python's own reader
imports and runs what it names. This reader interprets only the few instructions that `torch.save`
writes. It treats names as words, never imports or calls anything, and refuses a file with a name
outside the tables below. From the standard library it uses only the disassembler `pickletools`,
which also documents the instructions.
"""

import io
import pickletools
from dataclasses import dataclass
from typing import Any

from .guards import Refusal

# Enough for 50,000 tensors of about forty instructions each.
_MOST_INSTRUCTIONS = 2_000_000

# torch's storage classes -> their element types.
_STORAGES = "Double Float Half BFloat16 Long Int Short Char Byte Bool"
_STORAGE_TYPES = dict(
    zip(
        (f"torch.{name}Storage" for name in _STORAGES.split()),
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split(),
    )
)
_DICTIONARIES = set(
    "collections.OrderedDict collections.defaultdict collections.Counter builtins.dict "
    "__builtin__.dict".split()
)
# What training programs save with the weights: options (timm, DeiT and torchvision), metrics as
# numpy scalars, sets, devices and data types. These objects are skipped, so none can be a weight.
_BESIDE = set(
    "argparse.Namespace builtins.set __builtin__.set _codecs.encode numpy.dtype "
    "numpy.core.multiarray.scalar numpy._core.multiarray.scalar torch.device torch.float32 "
    "torch.float16 torch.bfloat16 torch.float64 torch.int64".split()
)
_PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_CALLED = (*_PARAMETER, *_TENSOR, *_TENSOR_CLASSES, _WITH_ATTRIBUTES, "torch.Size")
_KNOWN = {*_STORAGE_TYPES, *_CALLED} | _DICTIONARIES | _BESIDE


@dataclass(frozen=True)
class Storage:
    """A block of numbers stored outside the pickle under a key; `size` counts elements."""

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Skipped:
    """An object that is not a weight; only the name of its class is kept."""

    kind: str


@dataclass(frozen=True)
class _Name:
    """The name of a class or function, which is never imported."""

    text: str


def read_pickle(stream: io.BytesIO) -> Any:
    """Read one pickle and leave the stream behind it.

    The result is a tree of dict (keys as text), list, tuple, str, bytes, numbers, None, `Storage`,
    `StoredTensor` and `Skipped`.

    Raises:
        Refusal: the pickle is damaged, or uses anything beyond tensors and plain containers.
    """
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= _MOST_INSTRUCTIONS:
                raise Refusal(
                    f"has a pickle of over {_MOST_INSTRUCTIONS} instructions; that is no set of "
                    "weights"
                )
            machine.step(code.name, argument)
        return machine.stack[-1]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Refusal(f"is damaged or cut off in its pickle: {error}") from None


class _Machine:
    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each open mark
        self.memo: dict[int, Any] = {}
        self.copied = 0  # entries of dictionaries that were copied from others

    def step(self, code: str, argument: Any) -> None:
        if code in _VALUES:
            self.stack.append(argument)
        elif code in _CONSTANTS:
            self.stack.append(_CONSTANTS[code])
        elif code in _EMPTY:
            self.stack.append(_EMPTY[code]())
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(code[-1])
            if len(self.stack) < count:
                raise ValueError("a tuple of more items than there are")
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif code in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif code in _ACTIONS:
            getattr(self, f"_{code.lower()}")(argument)
        elif code not in ("PROTO", "FRAME", "STOP"):
            self.refuse(f"uses the instruction {code}")

    def refuse(self, what: str) -> None:
        raise Refusal(
            f"has a pickle that {what}; only tensors and plain containers are read, so the file is "
            "refused and nothing in it was run"
        )

    def _mark(self, _):
        self.marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, _):
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _append(self, _):
        self._extend([self.stack.pop()])

    def _appends(self, _):
        self._extend(self._since_mark())

    # A set is read as a list, since sets never hold weights.
    _additems = _appends

    def _extend(self, items: list):
        if type(self.stack[-1]) is not list:
            self.refuse(f"appends to {_kind(self.stack[-1])}")
        self.stack[-1].extend(items)

    def _setitem(self, _):
        value = self.stack.pop()
        self._update([self.stack.pop(), value])

    def _setitems(self, _):
        self._update(self._since_mark())

    def _update(self, items: list):
        if type(self.stack[-1]) is not dict:
            self.refuse(f"sets items of {_kind(self.stack[-1])}")
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][self._key(key)] = value

    def _key(self, key: Any) -> str:
        """Return a dictionary key as text: optimizer state has numbers as keys."""
        if type(key) not in (str, int, float, bool, type(None)):
            self.refuse(f"has {_kind(key)} as a key")
        return str(key)

    def _global(self, argument: str):
        # The disassembler separates module and name by a space.
        self._push_name(argument.replace(" ", ".", 1))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            self.refuse("computes a name")
        self._push_name(f"{module}.{name}")

    def _push_name(self, text: str):
        if text not in _KNOWN:
            self.refuse(f"names {text[:120]!r}")
        self.stack.append(_Name(text))

    def _binpersid(self, _):
        identity = self.stack.pop()
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            self.refuse("refers to something outside it that is no storage")
        _, kind, key, _, size, *view = identity
        if type(kind) is not _Name or kind.text not in _STORAGE_TYPES:
            self.refuse(f"has a storage of {_kind(kind)}")
        if view not in ([], [None]):
            self.refuse("has views of storages, as torch before 0.4 wrote them")
        if type(key) is not str or not _is_count(size):
            raise ValueError("a storage without key or size")
        self.stack.append(Storage(_STORAGE_TYPES[kind.text], key, size))

    def _reduce(self, _):
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._call(function, arguments))

    def _newobj(self, _):
        arguments, kind = self.stack.pop(), self.stack.pop()
        if type(kind) is not _Name or kind.text not in _DICTIONARIES | _BESIDE:
            self.refuse(f"builds an object of {_kind(kind)}")
        self.stack.append(self._call(kind, arguments))

    def _build(self, _):
        # Drop the attributes of a state dict (`_metadata`) or of a skipped object.
        self.stack.pop()
        if type(self.stack[-1]) not in (dict, StoredTensor, Skipped):
            self.refuse(f"sets the state of {_kind(self.stack[-1])}")

    def _call(self, function: Any, arguments: Any) -> Any:
        """Return the result of a call to a known function, without calling it."""
        if type(function) is not _Name:
            self.refuse(f"calls {_kind(function)}")
        if type(arguments) is not tuple:
            raise ValueError(f"arguments of {function.text} are no tuple")
        name = function.text
        if name in _BESIDE:
            return Skipped(name)
        if name in _DICTIONARIES:
            return self._dictionary(name, arguments)
        if name in _TENSOR:
            return _tensor(*arguments[:4])
        if name in _PARAMETER and type(arguments[0]) is StoredTensor:
            return arguments[0]
        if name == _WITH_ATTRIBUTES:
            return self._tensor_with_attributes(*arguments[:3])
        if name == "torch.Size" and len(arguments) == 1:
            return _counts(arguments[0])
        self.refuse(f"calls {name!r}")

    def _tensor_with_attributes(self, function: Any, kind: Any, arguments: Any) -> Any:
        if type(kind) is not _Name or kind.text not in _TENSOR_CLASSES:
            self.refuse(f"builds a tensor of {_kind(kind)}")
        if type(function) is not _Name or function.text not in _TENSOR + _PARAMETER:
            self.refuse(f"builds a tensor by {_kind(function)}")
        return self._call(function, arguments)  # the attributes are dropped

    def _dictionary(self, name: str, arguments: tuple) -> dict:
        items = arguments[0] if arguments and name != "collections.defaultdict" else []
        # One instruction copies a whole dictionary, so a small pickle could fill the memory.
        self.copied += len(items) if type(items) in (dict, list) else 0
        if self.copied > _MOST_INSTRUCTIONS:
            self.refuse("copies its dictionaries over and over")
        if type(items) is dict:
            return dict(items)
        if type(items) is not list or any(type(p) not in (list, tuple) for p in items):
            self.refuse(f"makes a dictionary from {_kind(items)}")
        return {self._key(key): value for key, value in items}


_VALUES = set(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_ACTIONS = set(
    "MARK TUPLE APPEND APPENDS ADDITEMS SETITEM SETITEMS GLOBAL STACK_GLOBAL BINPERSID REDUCE "
    "NEWOBJ BUILD".split()
)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
    if type(storage) is not Storage or not _is_count(offset):
        raise ValueError("a tensor without a storage")
    shape, strides = _counts(shape), _counts(strides)
    if len(shape) != len(strides):
        raise ValueError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    return StoredTensor(storage, offset, shape, strides)


def _counts(values: Any) -> tuple[int, ...]:
    if type(values) not in (tuple, list) or len(values) > 8 or not all(map(_is_count, values)):
        raise ValueError("a shape or strides that are no numbers")
    return tuple(values)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _kind(value: Any) -> str:
    # No repr of other values: nested containers may be too deep for it.
    return repr(value.text) if type(value) is _Name else f"a {type(value).__name__}"
