"""Keep compiled graphs between starts, each under a key of everything that shapes it.

MindSpore's own cache compares source files only: with another constant or depth from the command
line it runs a stale graph without a word (seen in 2.7 to 2.10). It reads and writes one folder a
process, where it numbers the graphs in the order of their compilation. So each process has a folder
of its own in the cache. Before a graph is compiled, the files of its key are copied there under the
number that MindSpore expects; what MindSpore writes there instead becomes a new entry.
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from .. import __version__
from ..errors import ConfigError, first_line
from ..process.files import (
    cache_folder,
    is_real_folder,
    read_regular,
    sha256_of,
    sha256_of_file,
    writing,
)
from ..ranks import is_over
from ..ranks.record import is_running, own_pid_space
from .device import Runtime
from .graph_key import NoKey, graph_key

LIMIT = 2**30  # bytes of all entries; those that were not used for the longest time are removed
_INDEX = "index.json"  # of an entry: its key, and the hash of each file by name
_LARGEST = 2**31  # bytes of a file; MindSpore keeps no larger graph
_NAME = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*")  # does not lead out of a folder
_KEY = re.compile("[0-9a-f]{64}")
_STEM = "compile_cache_"  # in names of graph files, before the number; msrun's begin with the role
_ANY = f"{_STEM}N"  # the same in an entry
_LONGEST = 7 * 86_400  # seconds; no process of another machine compiles for so long
# Variables that shape graphs; of the cluster's, which differ between starts, only the rank does.
_VARIABLES = re.compile(
    "(?!MS_(ROLE|SCHED_|WORKER_|NODE_|TOPO_|COMPILER_CACHE_))"
    "(MS_|MINDSPORE_|ASCEND_|HCCL_|LCCL_|GRAPH_OP_RUN)"
)
# Global settings that may shape graphs; the rest of the context says where and how to run them.
_CONTEXT = (
    "mode device_target deterministic jit_level jit_syntax_level debug_level max_call_depth "
    "enable_graph_kernel graph_kernel_flags precision_mode "
    "op_precision_mode jit_compile exec_order topo_order infer_boost memory_optimize_level "
    "memory_offload atomic_clean_policy matmul_allow_hf32 conv_allow_hf32 conv_fprop_algo "
    "conv_dgrad_algo conv_wgrad_algo conv_allow_tf32 matmul_allow_tf32 check_bprop "
    "reserve_class_name_in_scope"
)
_PARALLEL = (
    "device_num global_rank gradients_mean gradient_fp32_sync loss_repeated_mean parallel_mode "
    "search_mode full_batch enable_parallel_optimizer parallel_optimizer_config "
    "all_reduce_fusion_config comm_fusion pipeline_stages grad_accumulation_step "
    "enable_alltoall dataset_strategy parameter_broadcast"
)
# What describing, reading or copying may raise.
_FAILURES = (OSError, ValueError, TypeError, AttributeError, RecursionError, RuntimeError)
_logger = logging.getLogger("mindcv.train")


class CompileCache:
    """The cache of this process; MindSpore has one per process, so make only one.

    Args:
        root: folder of the entries, which processes and machines may share.
        process: returns what shapes graphs beside their cells, see `graph_key`; asked for each
            graph, since the user's module may change it.

    Raises:
        OSError: `root` cannot be written.
    """

    def __init__(self, root: Path, process: Callable[[], Mapping[str, object]]):
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root, self.process = root, process
        _remove_folders_of_killed_processes(root)
        self._own = Path(tempfile.mkdtemp(prefix=f"{_start_of_name()}{os.getpid()}-", dir=root))
        atexit.register(shutil.rmtree, self._own, ignore_errors=True)
        self._folder = self._own / "mindspore"
        self._folder.mkdir()
        self._loads = True  # MindSpore loads no graph after one that it had to compile
        self._number, self._is_usable = 0, True  # of the next graph; whether that is known
        self._seen: weakref.WeakKeyDictionary[nn.Cell, set[tuple]] = weakref.WeakKeyDictionary()

    def compile(
        self, cell: nn.Cell, inputs: Sequence[Tensor], compile_it: Callable[[], None]
    ) -> None:
        """Load the graph of `cell(*inputs)`, or compile it by `compile_it` and keep it."""
        call = (cell.training, *((value.shape, value.dtype) for value in inputs))
        seen = self._seen.setdefault(cell, set())
        if call in seen or not self._is_usable:
            return compile_it()
        seen.add(call)
        name = type(cell).__name__
        try:
            key, others = graph_key(cell, inputs, self.process())
        except (NoKey, *_FAILURES) as error:
            _logger.info("compile cache: the graph of %s is compiled anew: %s", name, error)
            return compile_it()
        for one in others:
            cell.insert_param_to_cell(f"graph.{one.name}", one, False)
        taken = self._take(key) if self._loads else {}
        try:
            with _mindspore_cache(self._folder):
                compile_it()
        except Exception as error:  # MindSpore reads the program and what it imports, in its way
            self._is_usable = False  # is the number used up?
            _logger.info("compile cache: %s is compiled without it: %s", name, first_line(error))
            return compile_it()  # it fails again if it was not the cache
        written = self._graph_files()
        if not written:  # e.g. it is too large
            self._is_usable = False
            _logger.info("compile cache: MindSpore does not keep the graph of %s", name)
        elif written == taken:
            _logger.info("compile cache: the graph of %s comes from %s", name, self.root / key)
        else:  # MindSpore compiled it
            self._loads = False
            self._keep(key)
        for path in written:  # or the next graph of this number would be taken from it
            path.unlink()
        self._number += 1

    def _take(self, key: str) -> dict[Path, tuple]:
        """Copy an entry to where MindSpore reads it; return its graph files, with their states."""
        entry = self.root / key
        try:
            if not is_real_folder(entry):
                return {}
            index = json.loads(read_regular(entry / _INDEX, 2**16))
            if index.pop("key") != key:
                raise ValueError("it belongs to another graph")
            contents = {}
            for name, digest in index.items():
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{name!r} is no name of a file in it")
                contents[name] = read_regular(entry / name, _LARGEST)
                if sha256_of(contents[name]) != digest:
                    raise ValueError(f"{name} has another SHA-256 than when it was written")
            for name, content in contents.items():
                path = self._folder / name.replace(_ANY, _STEM + str(self._number))
                path.parent.mkdir(parents=True, exist_ok=True)
                if _STEM in path.name or not path.exists():
                    path.write_bytes(content)
        except (*_FAILURES, KeyError) as error:
            for path in self._graph_files():  # MindSpore would read a part of a graph
                path.unlink()
            _logger.warning("compile cache: %s cannot be used, compiling anew: %s", entry, error)
            return {}
        with contextlib.suppress(OSError):  # another user's
            os.utime(entry)
        return self._graph_files()

    def _keep(self, key: str) -> None:
        """Publish what MindSpore wrote as an entry, at once and whole."""
        made, old = self._own / "entry", self._own / "old"
        try:
            made.mkdir()
            index = {"key": key}
            for path in self._folder.rglob("*"):
                if path.is_file():
                    name = path.relative_to(self._folder).as_posix()
                    name = name.replace(_STEM + str(self._number), _ANY)
                    (made / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, made / name)
                    index[name] = sha256_of_file(path)
            (made / _INDEX).write_text(json.dumps(index), encoding="utf-8")
            entry = self.root / key
            if os.path.lexists(entry):  # a broken one, or another process was as fast
                os.rename(entry, old)
            os.rename(made, entry)
        except OSError as error:
            _logger.warning("compile cache: nothing was kept in %s: %s", self.root, error)
        finally:
            shutil.rmtree(made, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process removes them too
            self._remove_oldest()

    def _graph_files(self) -> dict[Path, tuple]:
        found = {path: path.stat() for path in self._folder.rglob(f"*{_STEM}*")}
        return {p: (one.st_ino, one.st_size, one.st_mtime_ns) for p, one in found.items()}

    def _remove_oldest(self) -> None:
        entries, total = [], 0
        for path in self.root.iterdir():
            with contextlib.suppress(OSError):  # another process has just removed it
                if _KEY.fullmatch(path.name) and is_real_folder(path):
                    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
                    entries.append((path.stat().st_mtime, size, path))
        for _, size, path in sorted(entries, reverse=True):
            total += size
            if total > LIMIT:
                with contextlib.suppress(OSError):  # so that nobody finds a part of it
                    os.rename(path, self._own / path.name)
                shutil.rmtree(self._own / path.name, ignore_errors=True)


class CachedGraph(nn.Cell):
    """A cell whose graph is kept in the cache of this process, if one is open."""

    def compile(self, *args, **kwargs):
        is_over("first batch")
        compile_it = functools.partial(super().compile, *args, **kwargs)
        if _own is None or kwargs:
            compile_it()
        else:
            _own.compile(self, args, compile_it)
        is_over("compile")


_own: CompileCache | None = None


def open_compile_cache(where: str, runtime: Runtime, import_module: str | None = None) -> None:
    """Open the cache of this process; a process that compiles nothing has none.

    Args:
        where: off; auto for `<cache>/graphs` on a CPU, and off on other devices, where loaded
            graphs have not been tried; or a folder.
        import_module: the user's module.

    Raises:
        ConfigError: the folder cannot be written.
    """
    global _own
    _own = None
    is_auto = where == "auto"
    is_off = where == "off" or (is_auto and runtime.device_target != "CPU")
    if is_off or runtime.mode != ms.GRAPH_MODE:
        return
    if os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1":
        _logger.warning(
            "compile cache: off, since MS_COMPILER_CACHE_ENABLE=1 turns on MindSpore's own, which "
            "may run a stale graph; unset it for this one"
        )
        return
    root = cache_folder() / "graphs" if is_auto else Path(where).absolute()
    process = functools.partial(_shapes_of_the_process, runtime, import_module)
    try:
        with writing(f"compile_cache {root}", ConfigError, "; compile_cache off works without it"):
            _own = CompileCache(root, process)
    except ConfigError as error:
        if not is_auto:
            raise
        _logger.warning("%s", error)


def _shapes_of_the_process(runtime: Runtime, import_module: str | None = None) -> dict[str, object]:
    """Return what shapes graphs beside their cells, by name."""
    home = os.environ.get("ASCEND_TOOLKIT_HOME")
    cann = sorted(Path(home).glob("*/version.info")) if home else []
    return {
        "versions": (__version__, ms.__version__, np.__version__, platform.python_version()),
        "machine": platform.machine(),
        "device": (runtime.device_target, runtime.mode, runtime.jit_level),
        "ranks": (runtime.rank, runtime.world_size),
        "seed": ms.get_seed(),
        "context": _settings(ms.get_context, _CONTEXT),
        "parallel": _settings(ms.get_auto_parallel_context, _PARALLEL),
        "modules": _user_files(import_module),
        "script": os.path.realpath(sys.argv[0]),  # MindSpore looks whether it has changed
        "variables": sorted(item for item in os.environ.items() if _VARIABLES.match(item[0])),
        "CANN": [path.read_text(errors="replace") for path in cann],
    }


def _settings(read: Callable[[str], object], names: str) -> dict[str, str]:
    """Return MindSpore's global settings of these names, as far as this version has them."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names.split():
            with contextlib.suppress(*_FAILURES, KeyError):
                found[name] = repr(read(name))
    return found


def _user_files(import_module: str | None) -> list[tuple[str, str]]:
    """Return the source files of the user's modules, each with its hash.

    These are all that were imported from outside of Python's installed packages, and the one that
    an option names: each may change settings of MindSpore or replace its functions.
    """
    installed = tuple(sysconfig.get_path(one) for one in ("stdlib", "purelib", "platlib"))
    installed += (str(Path(__file__).parents[1]),)  # in each key, whether imported or not
    own = import_module and Path(import_module).stem.partition(".")[0]
    files = set()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        is_own = name.partition(".")[0] == own
        if path and (is_own or not path.startswith(installed)) and Path(path).is_file():
            files.add(os.path.realpath(path))
    return [(path, sha256_of_file(path)) for path in sorted(files)]


@contextlib.contextmanager
def _mindspore_cache(folder: Path) -> Iterator[None]:
    # MindSpore makes a module of each import of the program, to hash its file. For the built-in
    # `sys` that is the interpreter's copy from its start, which sets back stdout, stderr and hooks.
    names_of_sys = dict(vars(sys))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions announce an environment variable instead
        ms.set_context(enable_compile_cache=True, compile_cache_path=str(folder))
        try:
            yield
        finally:
            vars(sys).update(names_of_sys)
            ms.set_context(enable_compile_cache=False)


def _start_of_name() -> str:
    """Return how names of private folders begin, for processes with comparable numbers."""
    return f".process-{sha256_of(own_pid_space().encode())[:8]}-"


def _remove_folders_of_killed_processes(root: Path) -> None:
    for path in root.glob(".process-*"):
        with contextlib.suppress(OSError, ValueError):
            if path.name.startswith(_start_of_name()):
                is_left = not is_running(int(path.name.split("-")[2]))
            else:
                is_left = time.time() - path.stat().st_mtime > _LONGEST
            if is_left and is_real_folder(path):
                shutil.rmtree(path, ignore_errors=True)
