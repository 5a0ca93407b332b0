"""The names that scripts written for MindCV import, each a few lines over the rest of the library.

A new program of your own needs none of them: `mindcv.engine` and the factories do more.
"""

# ruff: noqa: F401
import importlib
from typing import TYPE_CHECKING

from ..mindcv_paths import submodule

if TYPE_CHECKING:  # the names that `__getattr__` finds
    from ..process.archives import (
        DownLoad,
        detect_file_type,
        get_default_download_root,
        set_default_download_root,
    )
    from .callbacks import CheckpointManager, StateMonitor, ValCallback
    from .start import AllReduceSum, set_logger, set_seed
    from .trainer import (
        AMP_BLACK_LIST,
        AMP_WHITE_LIST,
        GradientAccumulation,
        TrainStep,
        auto_mixed_precision,
        create_trainer,
        get_metrics,
        require_customized_train_step,
    )

# Most of them need MindSpore, which takes seconds to import.
_NAMES = {
    "callbacks": ("CheckpointManager", "StateMonitor", "ValCallback"),
    "download": (
        "DownLoad",
        "detect_file_type",
        "get_default_download_root",
        "set_default_download_root",
    ),
    "start": ("AllReduceSum", "set_logger", "set_seed"),
    "trainer": (
        "AMP_BLACK_LIST",
        "AMP_WHITE_LIST",
        "GradientAccumulation",
        "TrainStep",
        "auto_mixed_precision",
        "create_trainer",
        "get_metrics",
        "require_customized_train_step",
    ),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        return submodule(__name__, name)
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
