"""Datasets, transforms and loaders: everything between image files and batches."""

# ruff: noqa: F401

from typing import TYPE_CHECKING

from ..mindcv_paths import at_first_use

if TYPE_CHECKING:  # for editors; `at_first_use` imports the same
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

__getattr__, __all__ = at_first_use(
    __name__,
    {
        "batches": "EpochBatches",
        "contact_sheet": "write_contact_sheet",
        "dataset_download": (
            "Cifar100Download Cifar10Download MnistDownload get_dataset_download_root"
        ),
        "datasets": "open_samples register_dataset training_classes",
        "loader": "create_evaluation_loader create_loader first_batch",
        "preprocessing": (
            "DEFAULT_CROP_PCT IMAGENET_DEFAULT_MEAN IMAGENET_DEFAULT_STD "
            "Preprocessing channel_statistics"
        ),
        "presets": (
            "augment_and_mix_transform auto_augment_transform "
            "rand_augment_transform trivial_augment_wide_transform"
        ),
        "rows": "create_dataset",
        "samples.protocol": "write_class_map",
        "samples.subset": "write_split",
        "transforms": "Normalize create_normalize create_transforms",
    },
)
