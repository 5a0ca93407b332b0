"""Batches from a dataset and its transforms."""

from functools import partial
from itertools import groupby

import mindspore.dataset as ds
import numpy as np
from mindspore import dtype as mstype
from mindspore.dataset import transforms

from ..process.cores import usable_workers
from .augment.device_augment import DeviceAugment, DrawInBatch
from .augment.erasing import EraseInBatch, RandomErasing
from .augment.mixup import MixBatch
from .augment.pixel_seed import OfPass, PixelSeeded
from .bad_images import BadImages
from .batches import EpochBatches
from .draws import SeededLoader, with_passes
from .image_files import PillowDecode
from .preprocessing import Preprocessing
from .rows import PASS, ImageDataset, Rows
from .samples import Samples
from .transforms import create_transforms, evaluation_transforms


def create_loader(
    dataset: ds.Dataset,
    batch_size: int,
    drop_remainder: bool = False,
    is_training: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    cutmix_prob: float = 1.0,
    num_classes: int = 1000,
    transform: list | tuple[list, list, list] | None = None,
    target_transform: list | None = None,
    num_parallel_workers: int | None = None,
    python_multiprocessing: bool = False,
    separate: bool = False,
    shard_id: int = 0,
    switch_prob: float = 0.5,
    mixup_off_epoch: int = 0,
    aug_splits: int = 3,
) -> ds.Dataset:
    """Return a dataset of batches (image, label), or (image, label, draws).

    Images are float32 (N, C, H, W) or, with `normalize_on_device` transforms, uint8 (N, H, W, C).
    Labels are int32 (N,), or float32 (N, num_classes) when a training batch is mixed.
    Draws are float32 (N, 15), for the cell that `create_normalize` makes of an `augment_on_device`
    transform.

    Python operations and mixing draw by MindSpore's seed as it is now and by the number of the pass
    over the dataset, whether one iterator makes all passes or each pass has its own. MindSpore's
    operations draw by its seed, anew in each iterator of a training loader.

    Args:
        dataset: rows with the columns image and label.
        batch_size: images of a batch.
        drop_remainder: drop the last partial batch.
        is_training: mix batches if mixup or cutmix is given; split them if separate. Evaluation
            batches are never mixed.
        mixup, cutmix, switch_prob: see `MixBatch`.
        cutmix_prob: probability of mixing a batch at all, by mixup or by cutmix. MindCV's default
            is 0, which never mixes.
        num_classes: length of soft labels, which come unsmoothed: smoothing is the loss's.
        transform: operations on the image; None: those of ImageNet at 224 pixels.
        target_transform: operations on the label; None: to int32.
        num_parallel_workers: threads of the transforms, at most the number of cores.
        python_multiprocessing: run Python operations in processes instead of threads.
        separate: augmentation splits for the JSD loss. A training batch holds each image aug_splits
            times: first N clean ones, then N augmented ones, aug_splits - 1 times; the labels
            likewise. `transform` is what `create_transforms` gives with separate.
        shard_id: this process among those that train together; seeds the mixing.
        mixup_off_epoch: epochs after which batches are not mixed, but keep soft labels; 0: never.
        aug_splits: copies of an image with separate.

    Raises:
        ConfigError: no threads.
        ValueError: separate without three lists of operations, with fewer than 2 splits, or with
            mixing; mixing with `augment_on_device` transforms, whose images are not finished.
    """
    if transform is None:
        transform = create_transforms(is_training=is_training)
    workers = usable_workers(num_parallel_workers)
    operations = list(transform) if isinstance(transform, (list, tuple)) else [transform]
    are_lists = bool(operations) and isinstance(operations[0], list)
    primary = operations[0] if are_lists else operations
    if primary and isinstance(primary[0], PillowDecode) and _holds_files(dataset):
        # Decoded by the thread that reads it, a file makes one way fewer from thread to thread.
        dataset = dataset.decoded()
        operations = [primary[1:], *operations[1:]] if are_lists else primary[1:]
    mixes, splits = is_training and (mixup > 0.0 or cutmix > 0.0), is_training and separate
    has_own_labels = isinstance(dataset, ImageDataset)
    draws = mixes or splits or any(map(_draws_by_pass, operations))
    dataset = with_passes(dataset) if draws else dataset
    if target_transform or not has_own_labels:
        on_label = target_transform or [transforms.TypeCast(mstype.int32)]
        dataset = dataset.map(on_label, "label", num_parallel_workers=1)
    if splits:
        if mixes or aug_splits < 2 or not (isinstance(transform, tuple) and len(transform) == 3):
            raise ValueError(
                "separate needs the three lists of create_transforms(…, separate=True), aug_splits "
                f"of at least 2 and neither mixup nor cutmix; got {type(transform).__name__}, "
                f"{aug_splits}, {mixup}, {cutmix}"
            )
        map_image = partial(_map_image, workers=workers, in_processes=python_multiprocessing)
        return _split_batches(
            dataset,
            operations,
            aug_splits,
            batch_size,
            drop_remainder,
            workers,
            map_image,
            shard_id,
        )
    in_batch = {}
    columns = ["image", "label"]
    if operations and isinstance(operations[-1], DeviceAugment):
        if mixes:
            raise ValueError("mixup and cutmix mix finished images: augment_on_device leaves none")
        columns.append("draws")
        in_batch = dict(
            per_batch_map=DrawInBatch(operations.pop(), shard_id),
            input_columns=["label", PASS],
            output_columns=["label", "draws"],
        )
    elif operations and isinstance(operations[-1], RandomErasing):
        erase = EraseInBatch(operations.pop(), shard_id)
        in_batch = dict(
            per_batch_map=erase, input_columns=["image", PASS], output_columns=["image"]
        )
    if mixes:
        mix = MixBatch(
            mixup, cutmix, cutmix_prob, num_classes, shard_id, switch_prob, mixup_off_epoch
        )
        in_batch = dict(
            per_batch_map=_after(erase, mix) if in_batch else mix,
            input_columns=["image", "label", PASS],
            output_columns=["image", "label"],
        )
    dataset = _map_image(dataset, operations, "image", workers, python_multiprocessing)
    dataset = dataset.batch(batch_size, drop_remainder, num_parallel_workers=workers, **in_batch)
    return SeededLoader(dataset, columns, shard_id) if is_training or draws else dataset


def _holds_files(dataset: ds.Dataset) -> bool:
    return isinstance(dataset, ImageDataset) and dataset.samples.encoded


def _draws_by_pass(operation) -> bool:
    return isinstance(operation, (PixelSeeded, DeviceAugment))


def _after(erase: EraseInBatch, mix: MixBatch):
    def both(images: list, labels: list, places: list, batch_info) -> tuple:
        (erased,) = erase(images, places, batch_info)
        return mix(erased, labels, places, batch_info)

    return both


def _map_image(dataset, operations, column, workers, in_processes, split=0) -> ds.Dataset:
    """Map an image; the operations that draw by the pass take its column too."""
    if not isinstance(operations, (list, tuple)):
        operations = [operations]
    for by_pass, group in groupby(operations, _draws_by_pass):
        dataset = dataset.map(
            [OfPass(entry, split) if by_pass else entry for entry in group],
            [column, PASS] if by_pass else [column],
            num_parallel_workers=workers,
            python_multiprocessing=in_processes,
        )
    return dataset


def _split_batches(
    dataset, transform, splits, batch_size, drop_remainder, workers, map_image, shard_id
) -> ds.Dataset:
    primary, secondary, final = transform
    columns = [f"image_{split}" for split in range(splits)]
    dataset = map_image(dataset, primary, "image")
    dataset = dataset.map(
        lambda image: (image,) * splits, ["image"], columns, num_parallel_workers=workers
    )
    for split, column in enumerate(columns):
        dataset = map_image(dataset, [*secondary, *final] if split else final, column, split=split)
    dataset = dataset.batch(batch_size, drop_remainder, num_parallel_workers=workers)
    dataset = dataset.map(
        lambda *columns: (np.concatenate(columns[:-1]), np.tile(columns[-1], splits)),
        [*columns, "label"],
        ["image", "label"],
        num_parallel_workers=workers,
    )
    return SeededLoader(dataset, ["image", "label"], shard_id)


def create_evaluation_loader(
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    num_parallel_workers: int | None = None,
    num_shards: int = 1,
    shard_id: int = 0,
    allow_bad_images: bool = False,
) -> ds.Dataset | None:
    """Return this process's part of the evaluation images in batches, uint8 (N, H, W, C).

    The parts of all processes hold every image exactly once; the last batch may be partial. Each
    epoch of an iterator holds the same.

    Args:
        samples: the images, see `open_samples`.
        num_shards, shard_id: the processes, and this one.
        allow_bad_images: log an image that cannot be used, and give it the label -1; otherwise
            reading it is an error.

    Returns:
        The loader; None where there are fewer images than processes and this one has none.

    Raises:
        ConfigError: no threads.
        ValueError: see `evaluation_transforms`.
    """
    if len(samples) <= shard_id:
        return None
    rows = Rows(
        samples,
        ds.config.get_seed(),
        num_parallel_workers=usable_workers(num_parallel_workers),
        bad=BadImages(
            len(samples),
            float(allow_bad_images),
            remedy="leave them out with allow_bad_images",
            can_scan=hasattr(samples, "folder"),
        ),
        leave_out=True,
        shuffle=False,
        num_shards=num_shards,
        shard_id=shard_id,
    )
    transform = evaluation_transforms(preprocessing, is_decoded=not samples.encoded)

    def loader_of_epoch(dataset: ImageDataset) -> ds.Dataset:
        return create_loader(
            dataset, batch_size, transform=transform, num_parallel_workers=num_parallel_workers
        )

    return EpochBatches(ImageDataset(rows), loader_of_epoch, batch_size, shard_id).as_dataset()
