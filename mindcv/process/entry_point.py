"""What every command needs: readable errors, exit codes, version checks, the user's module."""

import importlib
import importlib.util
import linecache
import os
import platform
import re
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..errors import ConfigError, Interrupted, MindCVError
from ..mindcv_paths import PATHS
from . import terminal
from .files import printable_lines


@contextmanager
def guarded(show_traceback: Callable[[], bool]):
    """Turn an error of the body into its message and exit code.

    `show_traceback` is called only after an error.
    """
    _prepare_streams()
    try:
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("stopped by the user", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        terminal.silence_stdout()
        sys.exit(141)  # as a shell reports SIGPIPE
    except MindCVError as error:
        _print(f"error: {error}", show_traceback())
        sys.exit(error.exit_code)
    except Exception as error:  # a traceback helps no user: it goes to the log
        _print(_unexpected(error), show_traceback() or terminal.stderr_log() is None)
        sys.exit(1)


def _prepare_streams() -> None:
    """Let stdout print file names of any bytes, and reopen streams that `>&-` has closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # a program may have put another stream in its place
        sys.stdout.reconfigure(errors="backslashreplace")  # the default of stderr


def _print(message: str, show_traceback: bool) -> None:
    if log := terminal.stderr_log():
        log.write(f"{traceback.format_exc()}{message}")
    if show_traceback:
        traceback.print_exc()
    print(printable_lines(message), file=sys.stderr)


def _unexpected(error: Exception) -> str:
    log = terminal.stderr_log()
    path = log.keep() if log else None
    trace = f"the whole trace is in {path}; " if path else ""
    return (
        f"error: {in_short(error)}\n  at {''.join(place_of(error))}\n"
        f"  mindcv did not expect this: {trace}--debug shows the trace here"
    )


def in_short(error: BaseException) -> str:
    """Return the type and the first line of the message."""
    lines = [line for line in str(error).splitlines() if line.strip(" -\t")]
    # MindSpore's messages begin with rules and headings, led by dashes.
    first = lines[0] if lines else ""
    reason = next((line for line in lines if line[0] != "-"), first).strip()[:300]
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


# Source lines in an error message of MindSpore's compiler, innermost last.
_IN_GRAPH = re.compile(r"^# \d+ In file (?P<file>.+?):(?P<line>\d+)", re.MULTILINE)


def place_of(error: BaseException) -> tuple[str, str]:
    """Return file:line and code of the innermost frame in this package or the user's own files."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}", ""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(f.filename, f.lineno, f", {f.name}: {f.line}") for f in frames]
    for found in _IN_GRAPH.finditer(str(error)):
        text = linecache.getline(found["file"], int(found["line"])).strip()
        places.append((found["file"], found["line"], f": {text}"))
    installed = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    here = str(Path(__file__).parents[1])
    for file, line, code in reversed(places):
        if file.startswith(here) or not file.startswith((*installed, "<")):
            return f"{file}:{line}", code
    return "no line of mindcv", ""


DISTRIBUTION = "mindcv-regnet"  # as pip lists this library; `mindcv` is MindCV
_PACKAGE = Path(__file__).resolve().parents[1]


def check_environment() -> None:
    """Refuse what pip may have installed but does not work.

    With NumPy 2, MindSpore up to 2.10 crashes later without giving a reason. After 2.10 the same
    calls will mean something else, e.g. the momentum of `nn.BatchNorm2d`. MindCV's package has the
    same name, so pip installs both into one folder, where each overwrites files of the other.

    Raises:
        ConfigError: the message says what to install.
    """
    for name in PATHS:  # modules that MindCV has and this library has not
        path = _PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        if path.exists():
            raise ConfigError(
                f"{path} is MindCV's, so {_PACKAGE} holds two libraries of one name: run pip "
                f"uninstall mindcv {DISTRIBUTION}, delete that folder, and install one of them"
            )
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


def installation() -> str:
    """Return what a bug report needs: the versions, where they are, and what pip lists."""
    versions = [f"Python {platform.python_version()}"]
    for name in ("mindspore", "numpy", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    lines = [f"{DISTRIBUTION} {__version__}, in {_PACKAGE}", ", ".join(versions)]
    for name, running in (("mindcv", None), (DISTRIBUTION, __version__)):
        with suppress(metadata.PackageNotFoundError):
            if (listed := metadata.version(name)) != running:
                lines.append(
                    f"pip lists {name} {listed}, which is not what runs here: run pip uninstall "
                    f"mindcv {DISTRIBUTION} and install this library again"
                )
    return "\n".join(lines)


def program() -> str:
    """Return a command that runs here: the installed one, or Python and the package."""
    started = Path(sys.argv[0])
    if started.name == "mindcv":
        return "mindcv"
    folder = _PACKAGE.parent
    if started.resolve().parent == _PACKAGE:  # it was started so
        return "python -m mindcv"
    found = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    installed = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    is_installed = any(metadata.distributions(name=DISTRIBUTION, path=installed))
    if is_installed or folder in [Path(one).resolve() for one in [*found, *installed]]:
        return "python -m mindcv"
    return f"PYTHONPATH={shlex.quote(str(folder))} python -m mindcv"


def import_user_module(name: str | None) -> None:
    """Import a module or a .py file that registers the user's own models; None: there is none.

    Raises:
        ConfigError: it does not exist, or cannot be imported.
    """
    if not name:
        return
    try:
        _import_file(Path(name)) if name.endswith(".py") else _import_by_name(name)
    except MindCVError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"import_module: {name} cannot be imported: {type(error).__name__}: {error}\n"
            f"  at {''.join(place_of(error))}"
        ) from error


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"import_module: no file {path}; expected a module or a .py file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # MindSpore's compiler looks up sources by module
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
