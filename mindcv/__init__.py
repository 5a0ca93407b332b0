"""mindcv: RegNet image classifiers for MindSpore.

`from mindcv import create_model` is all that a program of your own needs.
"""

import importlib

__version__ = "0.1.0"

# MindSpore takes seconds to import, so the parts that need it are imported at first use (PEP 562).
_LAZY = {
    "create_model": ".models",
    "is_model": ".models",
    "is_model_in_modules": ".models",
    "is_model_pretrained": ".models",
    "list_models": ".models",
    "list_modules": ".models",
    "model_entrypoint": ".models",
    "register_model": ".models",
    "create_dataset": ".data",
    "register_dataset": ".data",
    "create_loader": ".data",
    "create_transforms": ".data",
    "create_loss": ".loss",
    "create_optimizer": ".optim",
    "create_scheduler": ".scheduler",
}

_LAZY_PACKAGES = ("checkpoint", "data", "engine", "hub", "models", "ranks", "weights")

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY and name not in _LAZY_PACKAGES:
        raise AttributeError(f"module 'mindcv' has no attribute {name!r}")
    from .process.entry_point import check_environment

    check_environment()
    if name in _LAZY_PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    return getattr(importlib.import_module(_LAZY[name], __name__), name)


def __dir__():
    return sorted(__all__)
