"""Datasets, transforms and loaders: everything between image files and batches."""

# ruff: noqa: F401

import importlib
from typing import TYPE_CHECKING

from ..mindcv_paths import submodule

if TYPE_CHECKING:  # for editors; `_LAZY` imports the same
    from .batches import EpochBatches
    from .contact_sheet import write_contact_sheet
    from .dataset_download import (
        Cifar10Download,
        Cifar100Download,
        MnistDownload,
        get_dataset_download_root,
    )
    from .datasets import open_samples, register_dataset, training_classes
    from .loader import create_evaluation_loader, create_loader, first_batch
    from .preprocessing import (
        DEFAULT_CROP_PCT,
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD,
        Preprocessing,
        channel_statistics,
    )
    from .presets import (
        augment_and_mix_transform,
        auto_augment_transform,
        rand_augment_transform,
        trivial_augment_wide_transform,
    )
    from .rows import create_dataset
    from .samples.protocol import write_class_map
    from .samples.subset import write_split
    from .transforms import Normalize, create_normalize, create_transforms

# MindSpore takes seconds to import, and code that only looks at files does not need it: names are
# imported at first use (PEP 562).
_LAZY = {
    "Cifar100Download": ".dataset_download",
    "Cifar10Download": ".dataset_download",
    "DEFAULT_CROP_PCT": ".preprocessing",
    "EpochBatches": ".batches",
    "IMAGENET_DEFAULT_MEAN": ".preprocessing",
    "IMAGENET_DEFAULT_STD": ".preprocessing",
    "MnistDownload": ".dataset_download",
    "Normalize": ".transforms",
    "Preprocessing": ".preprocessing",
    "augment_and_mix_transform": ".presets",
    "auto_augment_transform": ".presets",
    "channel_statistics": ".preprocessing",
    "create_dataset": ".rows",
    "create_evaluation_loader": ".loader",
    "create_loader": ".loader",
    "create_normalize": ".transforms",
    "create_transforms": ".transforms",
    "first_batch": ".loader",
    "get_dataset_download_root": ".dataset_download",
    "open_samples": ".datasets",
    "rand_augment_transform": ".presets",
    "register_dataset": ".datasets",
    "training_classes": ".datasets",
    "trivial_augment_wide_transform": ".presets",
    "write_class_map": ".samples.protocol",
    "write_contact_sheet": ".contact_sheet",
    "write_split": ".samples.subset",
}

__all__ = [*_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        return submodule(__name__, name)
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
