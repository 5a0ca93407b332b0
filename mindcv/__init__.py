"""RegNet image classifiers for MindSpore.

`from mindcv import create_model` is all that a program of your own needs.
"""

# ruff: noqa: F401
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

_find, _names = mindcv_paths.at_first_use(__name__)
__all__ = ["__version__", *_names]

mindcv_paths.install()


def __getattr__(name: str):
    is_model, is_of_utils = name.startswith("regnet_"), name in utils.__all__
    if is_model or is_of_utils or name in _names:
        from .process import environment
    if is_model:
        return getattr(_find("models"), name)
    # As in MindCV, a script may take the names of utils from here, and `import *` does not.
    return getattr(utils, name) if is_of_utils else _find(name)


def __dir__():
    return sorted(__all__)
