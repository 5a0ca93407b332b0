"""Make mindcv_names.json: the public names of MindCV, for conformance/test_every_name.py.

Run with MindSpore: `PYTHONPATH=MINDCV python make_mindcv_names.py MINDCV`, where MINDCV is a
checkout of its repository.
"""

import importlib
import inspect
import json
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import mindcv

# Of `models`, what every network uses, and RegNet; all others are networks of other families.
SHARED = ("features", "helpers", "layers", "model_factory", "registry", "regnet", "utils")


def reference(folder: Path) -> list[str]:
    """Return the names that the pages of the reference describe."""
    pages = sorted(folder.glob("*.md"))
    return [name for page in pages for name in re.findall(r"::: (mindcv\.\S+)", page.read_text())]


def names_of(module: ModuleType) -> list[str]:
    """Return what a package declares in `__all__`, and what a module defines, networks excepted.

    A package without `__all__` has what it shows of its modules.
    """
    is_package = hasattr(module, "__path__")
    found = {name for name in getattr(module, "__all__", ()) if _is_kept(getattr(module, name))}
    if is_package and found:
        return sorted(found)
    for name, value in vars(module).items():
        is_constant = name.isupper() and isinstance(value, (int, float, tuple, list, dict, str))
        home = getattr(value, "__module__", None) or ""
        is_own = home.startswith(module.__name__) if is_package else home == module.__name__
        if not name.startswith("_") and _is_kept(value) and (is_constant or is_own):
            found.add(name)
    return sorted(found)


def _is_kept(value) -> bool:
    return not inspect.ismodule(value) and not _is_other_family(
        str(getattr(value, "__module__", ""))
    )


def _is_other_family(module: str) -> bool:
    parts = module.split(".")
    return parts[:2] == ["mindcv", "models"] and len(parts) > 2 and parts[2] not in SHARED


def main() -> None:
    names = {"mindcv": names_of(mindcv)}
    for found in pkgutil.walk_packages(mindcv.__path__, "mindcv."):
        if not _is_other_family(found.name):
            names[found.name] = names_of(importlib.import_module(found.name))
    described = reference(Path(sys.argv[1], "docs/en/reference"))
    content = {"version": mindcv.__version__, "reference": described, "names": names}
    path = Path(__file__).with_name("mindcv_names.json")
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
