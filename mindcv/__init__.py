"""RegNet image classifiers for MindSpore.

`from mindcv import create_model` is all that a program of your own needs.
"""

# ruff: noqa: F401
import importlib
from typing import TYPE_CHECKING

from . import mindcv_paths, utils

if TYPE_CHECKING:  # the names that `__getattr__` finds
    from . import checkpoint, data, engine, hub, loss, models, optim, ranks, scheduler, weights
    from .classifier import Classifier
    from .data import (
        Cifar10Download,
        Cifar100Download,
        MnistDownload,
        create_dataset,
        create_loader,
        create_transforms,
        get_dataset_download_root,
        register_dataset,
    )
    from .engine import register_tracker
    from .loss import create_loss
    from .models import (
        create_model,
        get_pretrained_cfg,
        get_pretrained_cfg_value,
        has_pretrained_cfg_key,
        is_model,
        is_model_in_modules,
        is_model_pretrained,
        list_models,
        list_modules,
        model_entrypoint,
        register_model,
    )
    from .optim import create_optimizer
    from .scheduler import create_scheduler

__version__ = "1.1.0"

# MindSpore takes seconds to import, so the parts that need it are imported at first use (PEP 562).
_NAMES = {
    "classifier": ("Classifier",),
    "models": (
        "create_model",
        "get_pretrained_cfg",
        "get_pretrained_cfg_value",
        "has_pretrained_cfg_key",
        "is_model",
        "is_model_in_modules",
        "is_model_pretrained",
        "list_models",
        "list_modules",
        "model_entrypoint",
        "register_model",
    ),
    "data": (
        "Cifar10Download",
        "Cifar100Download",
        "MnistDownload",
        "create_dataset",
        "create_loader",
        "create_transforms",
        "get_dataset_download_root",
        "register_dataset",
    ),
    "engine": ("register_tracker",),
    "loss": ("create_loss",),
    "optim": ("create_optimizer",),
    "scheduler": ("create_scheduler",),
}
_ROOM_OF = {name: room for room, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_ROOM_OF]

# As in MindCV, a script may take these from here, and `import *` does not.
_ROOM_OF |= dict.fromkeys(utils.__all__, "utils")

mindcv_paths.install()


def __getattr__(name: str):
    room = "models" if name.startswith("regnet_") else _ROOM_OF.get(name)
    if not room:
        return mindcv_paths.submodule(__name__, name)
    from .process import environment

    return getattr(importlib.import_module(f".{room}", __name__), name)


def __dir__():
    return sorted(__all__)
