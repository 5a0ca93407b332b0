"""How a command starts and ends: environment check, user modules, exit codes, readable errors."""

import importlib
import importlib.util
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ..config import (
    Config,
    Rules,
    is_launched,
    model_contradictions,
    parse_arguments,
    training_contradictions,
)
from ..errors import ConfigError, Interrupted, MindCVError
from ..ranks import leave_last_words
from . import signals, terminal
from .foreign_text import printable_lines


def run(
    main: Callable[[Config], None],
    program: str,
    description: str,
    rules: Rules = training_contradictions,
    defaults: Callable[[Config], tuple[Mapping[str, Any], str]] | None = None,
) -> None:
    """Run a command on the config of its command line and end with the right exit code.

    0: done; 1: an error that nobody foresaw; 2: user or config error; 3: non-finite loss; 4: data;
    5: checkpoint, weights or run folder; 130 and 143: interrupted. With the option `debug` an error
    shows its traceback.

    Args:
        main: the command; takes the checked config.
        program, description, rules, defaults: see `parse_arguments`.
    """
    signals.take_over()
    config = None

    def all_rules(config, environ):
        yield from rules(config, environ)
        yield from model_contradictions(config, environ)

    with guarded(show_traceback=lambda: config is not None and config.debug):
        config = parse_arguments(program, description, all_rules, defaults=defaults)
        if not config.debug:
            quieten()
        main(config)


def _open_closed_streams() -> None:
    """Let what is printed go nowhere where a stream was closed (`>&-`); it is None then."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def quieten() -> None:
    """Keep the noise of libraries off the terminal of this process.

    What msrun starts has a log file of its own for everything (worker_<rank>.log), where the lines
    of MindSpore and ours stay together, with its warnings: they alone say which process did not
    come, or cannot be reached.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be any bytes
    if "MS_ROLE" in os.environ:
        return
    if is_launched(os.environ) or not terminal.divert_stderr():
        # MindSpore's warnings are for its developers; its errors stay visible.
        os.environ.setdefault("GLOG_v", "3")


@contextmanager
def guarded(show_traceback: Callable[[], bool]):
    """Check the environment, and turn an error of the body into its message and exit code.

    Args:
        show_traceback: tells, at the time of an error, whether its traceback is wanted too.
    """
    _open_closed_streams()
    try:
        check_environment()
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("stopped by the user", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        terminal.silence_stdout()
        sys.exit(141)  # as a shell tells of SIGPIPE
    except MindCVError as error:
        with suppress(OSError):
            leave_last_words(error.exit_code, str(error), getattr(error, "rank", None))
        _tell(f"error: {error}", show_traceback())
        sys.exit(error.exit_code)
    except Exception as error:
        # Whatever it is, it is not told by a page of frames.
        _tell(_describe(error), show_traceback() or terminal.stderr_log() is None)
        sys.exit(1)


def _tell(message: str, show_traceback: bool) -> None:
    log = terminal.stderr_log()
    if log:
        log.write(f"{traceback.format_exc()}{message}")
    if show_traceback:
        traceback.print_exc()
    print(printable_lines(message), file=sys.stderr)


def _describe(error: Exception) -> str:
    """Tell an error that nobody foresaw: what, where, and how to learn more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -\t")]
    reason = f": {lines[0][:300]}" if lines else ""
    log = terminal.stderr_log()
    path = log.keep() if log else None
    place = f"the whole trace is in {path}; " if path else ""
    return (
        f"error: {type(error).__name__}{reason}\n"
        f"  at {_last_own_line(error)}\n"
        f"  mindcv did not expect this: {place}--debug shows the trace here"
    )


# Where MindSpore's compiler was, told in the message of the error: innermost last.
_IN_GRAPH = re.compile(r"^# \d+ In file (?P<file>.+?):(?P<line>\d+)", re.MULTILINE)


def _last_own_line(error: Exception) -> str:
    """Return the innermost line that is of no installed package but this one."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    places = [(f.filename, f"{f.filename}:{f.lineno}, {f.name}: {f.line}") for f in frames]
    for found in _IN_GRAPH.finditer(str(error)):
        text = linecache.getline(found["file"], int(found["line"])).strip()
        places.append((found["file"], f"{found['file']}:{found['line']}: {text}"))
    installed = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    here = str(Path(__file__).parents[1])
    own = [p for f, p in places if f.startswith(here) or not f.startswith((*installed, "<"))]
    return own[-1] if own else "no line of mindcv"


def check_environment() -> None:
    """Refuse versions of numpy and MindSpore that pip may install for another package's sake.

    With numpy 2 MindSpore up to 2.10 dies later and without a reason. After 2.10 the same calls
    are announced to mean something else, e.g. the momentum of `nn.BatchNorm2d`.

    Raises:
        ConfigError: such a version is installed; the message says what to install.
    """
    version = metadata.version("numpy")
    if int(version.split(".")[0]) >= 2:
        raise ConfigError(f'numpy {version} breaks MindSpore; run: pip install "numpy>=1.26,<2"')
    with suppress(metadata.PackageNotFoundError):  # built from source under another name
        version = metadata.version("mindspore")
        if not (2, 3, 1) <= tuple(map(int, re.findall(r"\d+", version)[:3])) < (2, 11):
            raise ConfigError(
                f"this library is written for MindSpore 2.3.1 to 2.10, and {version} is installed; "
                'run: pip install "mindspore>=2.3.1,<2.11"'
            )


def import_user_module(name: str) -> None:
    """Import a module, or the .py file at a path, that registers models of the user's own.

    Raises:
        ConfigError: there is no such module or file, or it cannot be imported.
    """
    try:
        _import_file(Path(name)) if name.endswith(".py") else _import_by_name(name)
    except MindCVError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"import_module: {name} cannot be imported: {type(error).__name__}: {error}\n"
            f"  at {_last_own_line(error)}"
        ) from error


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"import_module: no file {path}; expected a module or a .py file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # MindSpore's compiler looks sources up by module
    spec.loader.exec_module(module)


def _import_by_name(name: str) -> None:
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.split(".")[0]):
            raise
        raise ConfigError(
            f"import_module: no module {name!r}, looked in {os.getcwd()} and the installed "
            "packages; a path ending in .py works too"
        ) from None
