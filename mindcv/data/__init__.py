"""From files to batches: datasets, transforms, loader."""

from .class_map import compare_class_map, write_class_map
from .contact_sheet import first_batch, write_contact_sheet
from .datasets import create_dataset, open_samples, training_classes
from .epoch_batches import EpochBatches
from .loader import create_evaluation_loader, create_loader
from .transforms import (
    Normalize,
    channel_statistics,
    create_normalize,
    create_transforms,
    evaluation_interpolation,
)
from .user_samples import register_dataset

__all__ = [
    "EpochBatches",
    "Normalize",
    "channel_statistics",
    "compare_class_map",
    "create_dataset",
    "create_evaluation_loader",
    "create_loader",
    "create_normalize",
    "create_transforms",
    "evaluation_interpolation",
    "first_batch",
    "open_samples",
    "register_dataset",
    "training_classes",
    "write_class_map",
    "write_contact_sheet",
]
