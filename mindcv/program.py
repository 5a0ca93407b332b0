"""How a command starts and ends: environment check, user modules, exit codes, readable errors."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from .config import Config, Rules, parse_arguments, training_contradictions
from .errors import ConfigError, Interrupted, MindCVError


def run(
    main: Callable[[Config], None],
    program: str,
    description: str,
    rules: Rules = training_contradictions,
    defaults: Callable[[Config], tuple[Mapping[str, Any], str]] | None = None,
) -> None:
    """Run a command on the config of its command line and end with the right exit code.

    0: done; 2: user or config error; 3: non-finite loss; 4: data; 5: checkpoint or weights; 130
    and 143: interrupted. With the option `debug` an error shows its traceback.

    Args:
        main: the command; takes the checked config.
        program, description, rules, defaults: see `parse_arguments`.
    """
    config = None
    with guarded(show_traceback=lambda: config is not None and config.debug):
        config = parse_arguments(program, description, rules, defaults=defaults)
        main(config)


@contextmanager
def guarded(show_traceback: Callable[[], bool]):
    """Check the environment, and turn an error of the body into its message and exit code.

    Args:
        show_traceback: tells, at the time of an error, whether its traceback is wanted too.
    """
    # MindSpore's warnings are for its developers; its errors stay visible.
    os.environ.setdefault("GLOG_v", "3")
    try:
        check_environment()
        yield
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except MindCVError as error:
        if show_traceback():
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped by the user", file=sys.stderr)
        sys.exit(130)


def check_environment() -> None:
    """Refuse numpy 2, with which MindSpore up to 2.10 dies later and without a reason.

    Raises:
        ConfigError: numpy 2 is installed, as pip may do when another package asks for it.
    """
    version = metadata.version("numpy")
    if int(version.split(".")[0]) >= 2:
        raise ConfigError(f'numpy {version} breaks MindSpore; run: pip install "numpy>=1.26,<2"')


def import_user_module(name: str) -> None:
    """Import a module, or the .py file at a path, that registers models of the user's own.

    Raises:
        ConfigError: there is no such module or file.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"import_module: no file {name}; expected a module or a .py file")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # MindSpore's compiler looks sources up by module
        spec.loader.exec_module(module)
        return
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
