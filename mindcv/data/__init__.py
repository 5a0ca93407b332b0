"""From files to batches: datasets, transforms, loader."""

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

__all__ = [
    "EpochBatches",
    "Normalize",
    "channel_statistics",
    "create_dataset",
    "create_evaluation_loader",
    "create_loader",
    "create_normalize",
    "create_transforms",
    "evaluation_interpolation",
    "first_batch",
    "open_samples",
    "training_classes",
    "write_contact_sheet",
]
