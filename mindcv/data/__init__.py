"""Datasets, transforms and loaders: everything between image files and batches."""

# ruff: noqa: F401

from typing import TYPE_CHECKING

from ..mindcv_paths import at_first_use

if TYPE_CHECKING:  # the names that `__getattr__` finds
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

__getattr__, __all__ = at_first_use(__name__)
