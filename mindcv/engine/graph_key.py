"""A key for a graph: a digest of everything that MindSpore compiles into it.

MindSpore compiles the attributes of cells, and what their methods read from modules, as constants.
So all of these are described, and the code and source file of every class and function that takes
part. What cannot be described to the last bit has no key: its graph is compiled at each start.
"""

import enum
import functools
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..process.files import sha256_of, sha256_of_file

# What MindSpore keeps in every cell says how the cell was used; these say what it computes.
_COMPUTES = frozenset(
    "training requires_grad mixed_precision_type _amp_level _jit_config_dict has_bprop cell_type "
    "_buffers _shard_fn _in_strategy _out_strategy _has_config_recompute _dynamic_shape_inputs "
    "_cell_backward_hook _cell_backward_pre_hook _lazy_forward_hook _lazy_forward_pre_hook".split()
)
# Where it keeps attributes of some types, depending on the version.
_STORES = ("_params", "_cells", "_primitives", "_tensor_list")
# What a cell has besides, once it was compiled.
_OF_ITS_USE = frozenset("__parse_method__ current_phase sequence_modified".split())
# Of MindSpore's own layers: texts with addresses in memory, and initial values, which the
# parameters have taken by now.
_TEXTS = frozenset("_cell_init_args weight_init bias_init init_params init_args".split())
_LIBRARIES = {"mindspore", "numpy", "pybind11_builtins", *sys.stdlib_module_names}
_STDLIB = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
# What of Python's library knows nothing but its arguments.
_PURE = frozenset(
    "abc builtins cmath collections copy dataclasses enum fractions functools itertools logging "
    "math mindspore numbers numpy operator pybind11_builtins types typing warnings".split()
)
# Who calls these reads more than the names in his code: MindSpore may run them while it compiles.
_UNNAMED = frozenset(
    "__import__ delattr environ eval exec fromfile genfromtxt getattr getenv globals input load "
    "loadtxt locals memmap open rand randint randn random setattr vars".split()
)
_PLAIN = frozenset([bool, int, float, str, bytes, complex, type(None), type(...)])
_MAPPINGS = (dict, OrderedDict, MappingProxyType)
_FLAGS = ("requires_grad", "layerwise_parallel", "parallel_optimizer", "comm_fusion")
_OF_PRIMITIVES = frozenset("attrs pad_list _update_parameter".split()) | {"attribute pad_list"}
# Special methods that run before a graph is compiled, or after it.
_NOT_COMPILED = frozenset(
    "__init__ __new__ __init_subclass__ __del__ __repr__ __str__ __doc__ __module__ __dict__ "
    "__weakref__ __annotations__ __qualname__".split()
)
# What a function that is wrapped so computes with.
_PARTS = {
    MethodType: "__self__ __func__",
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    functools.partial: "func args keywords",
    type(functools.cache(len)): "__wrapped__",
}
_LONG = 100  # numbers; a run has a rate for each step


class NoKey(Exception):
    """Nobody knows what a value compiles to, or which of two parameters a graph would get."""


def graph_key(
    cell: nn.Cell, inputs: Sequence[Tensor], process: Mapping[str, object]
) -> tuple[str, list[Parameter]]:
    """Return the key of the graph that `cell(*inputs)` compiles, and parameters it does not own.

    The key has 64 hexadecimal digits. MindSpore hands to a loaded graph only the parameters that
    the cell owns; any other one is left with what the memory happens to hold, without a word (seen
    in 2.10: the loss scale of `mindspore.amp`, which is no cell).

    Args:
        inputs: their shapes and types count.
        process: what else shapes graphs, by name: device, rank, versions …

    Raises:
        NoKey: see there.
    """
    used = _used_by_construct(cell)
    while True:
        description = _Description(used)
        text = description.of("cell", cell)
        if description.names == used:
            break
        used = description.names
    lines = [f"{name}={value!r}" for name, value in sorted(process.items())]
    lines += [f"input {value.shape} {value.dtype}" for value in inputs]
    lines.append(text)
    files = description.files | set(Path(__file__).parents[1].rglob("*.py"))
    lines += [f"{path} {_digest(path, path.stat().st_mtime_ns)}" for path in sorted(files)]
    own = {id(parameter) for parameter in cell.get_parameters()}
    others = [one for one in description.parameters.values() if id(one) not in own]
    return sha256_of("\n".join(lines).encode()), others


class _Description:
    """Describes values, each object once; collects parameters, and source files of classes."""

    def __init__(self, used: Set[str]):
        self.files: set[Path] = set()
        self.parameters: dict[str, Parameter] = {}
        self._used = used
        self.names = set(used)  # that functions use; `used` should have them
        # Numbers by id and _is_constant; it keeps the objects, so ids stay theirs.
        self._known: dict[tuple[int, bool], tuple[int, object]] = {}
        self._is_constant = False  # MindSpore takes what is described for a constant

    def of(self, path: str, value: object) -> str:
        kind = type(value)
        is_of_c = hasattr(kind, "__members__") and _is_library(kind.__module__)  # an enumeration
        if kind in _PLAIN or is_of_c or isinstance(value, ms.Type):
            return repr(value)
        if isinstance(value, Parameter) and self._is_constant:
            raise NoKey(f"{path} is a parameter, whose value becomes a constant: no cell holds it")
        known = id(value), self._is_constant
        if known in self._known:
            return f"is #{self._known[known][0]}"
        self._known[known] = len(self._known), value
        if isinstance(value, enum.Enum):
            return f"{self.of(path, kind)} {value!r} {self.of(path, value.value)}"
        if kind in _MAPPINGS:
            return f"{kind.__name__} {self._sequence(path, [*value.items()])}"
        for kinds, describe in (
            (Parameter, self._parameter),
            ((Tensor, np.generic), _array),
            ((tuple, list, set, frozenset), self._sequence),
            (FunctionType, self._function),
            (type, self._class),
            (BuiltinFunctionType, self._builtin),
            (ModuleType, self._module),
        ):
            if isinstance(value, kinds):
                return describe(path, value)
        if kind is np.ndarray:  # others may hold more than their elements
            return _array(path, value)
        before = self._is_constant
        self._is_constant = before or _makes_constants(value)
        text = f"{self.of(path, type(value))} {self._named(path, self._attributes(path, value))}"
        self._is_constant = before
        return text

    def _attributes(self, path: str, value: object) -> Mapping[str, object]:
        for kind, parts in _PARTS.items():
            if isinstance(value, kind):
                return {name: getattr(value, name) for name in parts.split()}
        own = getattr(value, "__dict__", None)
        if isinstance(value, ops.Primitive):
            # Newer ones keep their arguments in Python only. Compiling a convolution adds
            # `pad_list`, which follows from the others.
            parts = {**own, **{f"attribute {k}": v for k, v in value.get_attr_dict().items()}}
            return {k: v for k, v in parts.items() if k not in _OF_PRIMITIVES}
        if isinstance(value, nn.Cell):
            ignored = _of_every_cell() | _OF_ITS_USE
            if _is_library(type(value).__module__):
                ignored |= _TEXTS
            if isinstance(value, nn.Optimizer):
                ignored |= {"group_lr"}  # `learning_rate` is what it uses of it
            # MindSpore makes an empty entry of some of them at the first use of the cell.
            computes = {name: own[name] or None for name in _COMPUTES if name in own}
            flags = {**own.get("_func_graph_flags", {}), "training": value.training}
            own = {name: one for name, one in own.items() if name not in ignored} | computes
            own["_func_graph_flags"] = dict(sorted(flags.items()))
            # Under the names of the attributes, and in their order.
            return own | {name: dict(vars(value).get(name, {})) for name in _STORES}
        if isinstance(own, dict) and not _keeps_more(type(value)):
            return own
        raise NoKey(f"{path} is a {type(value).__module__}.{type(value).__qualname__}")

    def _parameter(self, path: str, value: Parameter) -> str:
        if self.parameters.setdefault(value.name, value) is not value:
            raise NoKey(f"{path} is another parameter with the name {value.name!r}")
        flags = [getattr(value, flag, None) for flag in _FLAGS]
        return f"parameter {value.name} {value.shape} {value.dtype} {flags}"

    def _named(self, path: str, values: Mapping[str, object]) -> str:
        parts = [(f"{path}.{name}", values[name]) for name in sorted(values)]
        return "\n".join(f"{part} {self.of(part, value)}" for part, value in parts)

    def _sequence(self, path: str, values: tuple | list | set | frozenset) -> str:
        kind = type(values).__name__
        if type(values).__module__ != "builtins" and not _is_library(type(values).__module__):
            raise NoKey(f"{path} is a {type(values).__module__}.{kind}")
        if len(values) > _LONG and {type(one) for one in values} <= {float, int}:
            return f"{kind} {sha256_of(repr(values).encode())}"
        parts = [self.of(f"{path}[{place}]", one) for place, one in enumerate(values)]
        return f"{kind}({', '.join(sorted(parts) if 'set' in kind else parts)})"

    def _function(self, path: str, function: FunctionType) -> str:
        names, cells = function.__code__.co_freevars, function.__closure__ or ()
        held = {name: cell.cell_contents for name, cell in zip(names, cells)}
        held["defaults"] = [function.__defaults__, function.__kwdefaults__]
        module = function.__globals__["__name__"]  # a decorator leaves its own here
        if _is_library(module):
            _require_pure(path, module)
            # The closure of a gradient, and of `jit`, holds the time at which it was made.
            held = {k: one for k, one in held.items() if type(one) is not int or one < 10**18}
        else:
            self._add_file(module)
            self.names |= _names_in(function.__code__)
            held |= _read_by(path, function)
            held |= {"code": _code_of(function.__code__), "attributes": vars(function)}
        return f"{function.__module__}.{function.__qualname__} {self._named(path, held)}"

    def _builtin(self, path: str, function: BuiltinFunctionType) -> str:
        owner, module = function.__self__, function.__module__ or "builtins"
        if _is_library(module):
            _require_pure(path, module)
        else:
            self._add_file(module)
        is_bound = not (owner is None or isinstance(owner, ModuleType))
        return f"{module}.{function.__qualname__}{self.of(path, owner) if is_bound else ''}"

    def _module(self, path: str, module: ModuleType) -> str:
        if not _is_library(module.__name__):  # see `_read_by`, which knows what is read of it
            raise NoKey(f"{path} is a module, of which a graph may read anything")
        _require_pure(path, module.__name__)
        return module.__name__

    def _class(self, _: str, kind: type) -> str:
        """Name a class, with the methods and attributes that a graph may use of it."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        own = {}
        for place, base in enumerate(kind.__mro__):
            is_library = _is_library(base.__module__)
            if not is_library:
                self._add_file(base.__module__)
            for key, one in vars(base).items():
                if is_library:
                    is_used = _is_patched(one)
                elif issubclass(kind, nn.Cell):
                    is_used = key in self._used and key not in _NOT_COMPILED
                else:
                    is_used = not key.startswith("__") or _function_of(one) is not None
                if is_used:
                    own[f"{place}.{key}"] = one
        return f"{name} {self._named(name, own)}" if own else name

    def _add_file(self, module: str) -> None:
        path = getattr(sys.modules.get(module), "__file__", None)
        if path is None:
            raise NoKey(f"the source of {module} is not in a file")
        self.files.add(Path(path))


def _used_by_construct(cell: nn.Cell) -> set[str]:
    """Return the names that a graph may use of the classes of its cells.

    These are what `construct` and the methods that Python calls by itself use, directly or
    indirectly, and whichever cell a name belongs to.
    """
    bases = {base for _, one in cell.cells_and_names() for base in type(one).__mro__}
    own = [base for base in bases if not _is_library(base.__module__)]
    special = {name for base in own for name in vars(base) if name.startswith("__")}
    used, rest = set(), {"construct", "bprop"} | (special - _NOT_COMPILED)
    while rest:
        used |= rest
        found = [vars(base).get(name) for base in bases for name in rest]
        names = [_names_in(one.__code__) for one in map(_function_of, found) if one]
        rest = set().union(*names) - used
    return used


def _function_of(value: object) -> FunctionType | None:
    value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
    value = value.fget if isinstance(value, property) else value
    return value if isinstance(value, FunctionType) else None


def _is_patched(value: object) -> bool:
    """Return whether something in a library is a function or class from elsewhere."""
    if function := _function_of(value):
        return not _is_library(function.__globals__.get("__name__", ""))
    return isinstance(value, type) and not _is_library(value.__module__)


def _codes_in(code: CodeType) -> list[CodeType]:
    """Return a code and those inside it."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return [code, *(one for part in inner for one in _codes_in(part))]


def _names_in(code: CodeType) -> set[str]:
    """Return the names of globals and attributes, and texts that may be such names."""
    codes = _codes_in(code)
    texts = {text for one in codes for text in one.co_consts if isinstance(text, str)}
    return texts.union(*(one.co_names for one in codes))


def _code_of(code: CodeType) -> str:
    """Return what a function does: its file may have changed since it was imported."""
    parts = []
    for one in _codes_in(code):
        plain = [
            str(sorted(map(repr, part)) if isinstance(part, frozenset) else part)
            for part in one.co_consts
            if not isinstance(part, CodeType)
        ]
        names = one.co_names, one.co_varnames, one.co_freevars
        parts.append(f"{one.co_name} {one.co_flags} {names} {plain} {one.co_code.hex()}")
    return sha256_of("\n".join(parts).encode())


def _read_by(path: str, function: FunctionType) -> dict[str, object]:
    """Return what a function reads from its module, and from modules inside of it."""
    names = _names_in(function.__code__)
    code_names = set().union(*(one.co_names for one in _codes_in(function.__code__)))
    is_ours = function.__globals__["__name__"].startswith(f"{__package__.partition('.')[0]}.")
    if not is_ours and (unnamed := code_names & _UNNAMED):
        raise NoKey(f"{path} uses {min(unnamed)}")
    found, seen, scope = {}, set(), function.__globals__
    rest = [(name, scope[name]) for name in sorted(names & set(scope), reverse=True)]
    while rest:
        name, value = rest.pop()
        found[name] = value
        if not isinstance(value, ModuleType):
            continue
        inside = [(f"{name}.{one}", vars(value)[one]) for one in names & set(vars(value))]
        if _is_library(value.__name__):  # its version tells the rest
            inside = [p for p in inside if isinstance(p[1], ModuleType) or _is_patched(p[1])]
        else:
            found[name] = value.__name__
            if "__getattr__" in vars(value):
                raise NoKey(f"{path} reads from {value.__name__}, which answers by __getattr__")
        if id(value) not in seen:
            rest += sorted(inside, key=lambda pair: pair[0])
        seen |= {id(value)}
    return found


def _require_pure(path: str, module: str) -> None:
    if module.partition(".")[0].lstrip("_") not in _PURE:
        raise NoKey(f"{path} is of {module}, which may answer something else at the next start")


def _array(path: str, value: Tensor | np.ndarray | np.generic) -> str:
    array = np.asarray(value.asnumpy() if isinstance(value, Tensor) else value)
    if array.dtype.hasobject:
        raise NoKey(f"{path} is an array of objects")
    digest = sha256_of(np.ascontiguousarray(array))
    return f"{type(value).__name__} {array.shape} {value.dtype} {digest}"


def _keeps_more(kind: type) -> bool:
    """Return whether objects keep something outside of their `__dict__`, in C or in slots."""
    if any(base.__module__.startswith("mindspore") for base in kind.__mro__):
        return kind.__name__.endswith("Tensor")  # sparse ones; others tell it in Python too
    offsets = kind.__dictoffset__, kind.__weakrefoffset__
    room = object.__basicsize__ + sum(8 for offset in offsets if offset > 0)
    has_slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    return has_slots or kind.__basicsize__ > room


def _makes_constants(value: object) -> bool:
    """Return whether MindSpore compiles parameters of an object as the values they have."""
    kind = type(value)
    is_known = isinstance(value, nn.Cell) or hasattr(value, "__ms_class__")
    return not (is_known or _is_library(kind.__module__))


def _is_library(module: str) -> bool:
    """Return whether the version of a module, which is in the key, stands for its sources."""
    top = module.partition(".")[0]
    if top not in _LIBRARIES:
        return False
    file = getattr(sys.modules.get(top), "__file__", None)
    if top not in sys.stdlib_module_names or file is None:
        return True
    # A user's file may have such a name, test.py or profile.py.
    return file.startswith(_STDLIB) and "/site-packages/" not in file


@functools.cache
def _of_every_cell() -> frozenset[str]:
    return frozenset(vars(nn.Cell()))


@functools.cache
def _digest(path: Path, changed: int) -> str:
    return sha256_of_file(path)
