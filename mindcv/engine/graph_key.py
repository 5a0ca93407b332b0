"""A key for a graph: a digest of everything that MindSpore compiles into it.

MindSpore compiles the attributes of cells, and what their methods read from modules, as constants.
So all of these are described, and the source file of every class and function that takes part.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

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
# What a cell has besides, once it was compiled.
_OF_ITS_USE = frozenset("__parse_method__ current_phase sequence_modified".split())
# Of MindSpore's own layers: texts with addresses in memory, and initial values, which the
# parameters have taken by now.
_TEXTS = frozenset("_cell_init_args weight_init bias_init init_params init_args".split())
_LIBRARIES = {"mindspore", "numpy", "pybind11_builtins", *sys.stdlib_module_names}
_PLAIN = (bool, int, float, str, bytes, complex, type(None), type(...), ms.Type)
_FLAGS = ("requires_grad", "layerwise_parallel", "parallel_optimizer", "comm_fusion")
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
    description = _Description()
    lines = [f"{name}={value!r}" for name, value in sorted(process.items())]
    lines += [f"input {value.shape} {value.dtype}" for value in inputs]
    lines.append(description.of("cell", cell))
    files = description.files | set(Path(__file__).parents[1].rglob("*.py"))
    lines += [f"{path} {_digest(path, path.stat().st_mtime_ns)}" for path in sorted(files)]
    own = {id(parameter) for parameter in cell.get_parameters()}
    others = [one for one in description.parameters.values() if id(one) not in own]
    return sha256_of("\n".join(lines).encode()), others


class _Description:
    """Describes values, each object once; collects parameters, and source files of classes."""

    def __init__(self):
        self.files: set[Path] = set()
        self.parameters: dict[str, Parameter] = {}
        self._known: dict[int, tuple[str, object]] = {}  # keeps the objects, so ids stay theirs
        self._is_constant = False  # MindSpore takes what is described for a constant

    def of(self, path: str, value: object) -> str:
        if isinstance(value, _PLAIN) or hasattr(type(value), "__members__"):  # of an enumeration
            return repr(value)
        if isinstance(value, Parameter) and self._is_constant:
            raise NoKey(f"{path} is a parameter, whose value becomes a constant: no cell holds it")
        if id(value) in self._known:
            return f"is {self._known[id(value)][0]}"
        self._known[id(value)] = path, value
        if isinstance(value, Parameter):
            return self._parameter(path, value)
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            array = np.ascontiguousarray(value.asnumpy() if isinstance(value, Tensor) else value)
            return f"{type(value).__name__} {array.shape} {value.dtype} {sha256_of(array)}"
        if isinstance(value, (tuple, list, set, frozenset)):
            return self._sequence(path, value)
        if isinstance(value, Mapping):
            return self._named(path, {repr(key): one for key, one in value.items()})
        if isinstance(value, FunctionType):
            return self._function(path, value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (ModuleType, BuiltinFunctionType)):
            return value.__name__
        before = self._is_constant
        self._is_constant = before or _makes_constants(value)
        text = f"{self.of(path, type(value))} {self._named(path, self._attributes(path, value))}"
        self._is_constant = before
        return text

    def _attributes(self, path: str, value: object) -> Mapping[str, object]:
        if isinstance(value, MethodType):
            return {"self": value.__self__, "function": value.__func__}
        if isinstance(value, (staticmethod, classmethod)):
            return {"function": value.__func__}
        if isinstance(value, property):
            return {"get": value.fget}
        if isinstance(value, functools.partial):
            return {"function": value.func, "args": value.args, "keywords": value.keywords}
        own = getattr(value, "__dict__", None)
        if isinstance(value, ops.Primitive):
            # Compiling a convolution adds what follows from its other attributes.
            return {k: one for k, one in value.get_attr_dict().items() if k != "pad_list"}
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
            own["_func_graph_flags"] = flags
            return own | value.parameters_dict(recurse=False) | value.name_cells()
        if isinstance(own, dict):
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
            # The closure of a gradient, and of `jit`, holds the time at which it was made.
            held = {name: one for name, one in held.items() if not _is_time(one)}
        else:
            self._add_file(module)
            held |= _read_by(function)
        return f"{function.__module__}.{function.__qualname__} {self._named(path, held)}"

    def _class(self, kind: type) -> str:
        """Name a class, with the methods and attributes that a graph may use of it."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        if _is_library(kind.__module__):
            return name
        own = {}
        used = _used_by_construct(kind) if issubclass(kind, nn.Cell) else None
        for place, base in enumerate(kind.__mro__):
            if not _is_library(base.__module__):
                self._add_file(base.__module__)
                for key, one in vars(base).items():
                    if not key.startswith("__") if used is None else key in used:
                        own[f"{place}.{key}"] = one
        return f"{name} {self._named(name, own)}"

    def _add_file(self, module: str) -> None:
        path = getattr(sys.modules.get(module), "__file__", None)
        if path is None:
            raise NoKey(f"the source of {module} is not in a file")
        self.files.add(Path(path))


def _used_by_construct(kind: type) -> set[str]:
    """Return the names of what `construct` uses of a class, directly or indirectly."""
    used, rest = set(), {"construct", "bprop"}
    while rest:
        used |= rest
        found = [vars(base).get(name) for base in kind.__mro__ for name in rest]
        names = [_names_in(one) for one in map(_function_of, found) if one]
        rest = set().union(*names) - used
    return used


def _function_of(value: object) -> FunctionType | None:
    value = getattr(value, "__wrapped__", getattr(value, "__func__", value))
    value = value.fget if isinstance(value, property) else value
    return value if isinstance(value, FunctionType) else None


def _names_in(function: FunctionType) -> set[str]:
    """Return the names of globals and attributes in a function and those inside it."""
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        codes += [one for one in code.co_consts if isinstance(one, CodeType)]
        names |= set(code.co_names)
    return names


def _read_by(function: FunctionType) -> dict[str, object]:
    """Return what a function reads from its module, and from modules that are imported there."""
    found, names = {}, _names_in(function)
    for name in names & set(function.__globals__):
        value = function.__globals__[name]
        if isinstance(value, ModuleType) and not _is_library(value.__name__):
            found |= {f"{name}.{one}": vars(value)[one] for one in names & set(vars(value))}
        else:
            found[name] = value
    return found


def _makes_constants(value: object) -> bool:
    """Return whether MindSpore compiles parameters of an object as the values they have."""
    kind = type(value)
    is_known = isinstance(value, nn.Cell) or hasattr(value, "__ms_class__")
    return not (is_known or _is_library(kind.__module__))


def _is_library(module: str) -> bool:
    """Return whether the version of a module, which is in the key, stands for its sources."""
    return module.partition(".")[0] in _LIBRARIES


def _is_time(value: object) -> bool:
    return type(value) is int and value > 10**18


@functools.cache
def _of_every_cell() -> frozenset[str]:
    return frozenset(vars(nn.Cell()))


@functools.cache
def _digest(path: Path, changed: int) -> str:
    return sha256_of_file(path)
