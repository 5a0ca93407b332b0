"""Batches from a dataset and its transforms."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor
from mindspore import dtype as mstype
from mindspore.dataset import transforms

from ..errors import DataError
from ..process.cpu import usable_workers
from .augment.batch_operations import AugmentBatch, BatchMap, Mixing, as_indices
from .augment.pixel_operations import OfPass, PixelSeeded
from .bad_images import BadImages
from .batches import EpochBatches, Loader
from .failure import pipeline_failures_as_data_errors
from .preprocessing import Preprocessing
from .rows import PASS, ImageDataset, Rows
from .samples import Samples
from .transforms import Transforms, create_transforms, evaluation_transforms

_logger = logging.getLogger(__name__)


def create_loader(
    dataset: ds.Dataset,
    batch_size: int,
    drop_remainder: bool = False,
    is_training: bool = False,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    cutmix_prob: float = 1.0,
    num_classes: int = 1000,
    transform: Sequence | Callable | None = None,
    target_transform: list | None = None,
    num_parallel_workers: int | None = None,
    python_multiprocessing: bool = False,
    separate: bool = False,
    num_shards: int = 1,
    shard_id: int = 0,
    switch_prob: float = 0.5,
    mixup_off_epoch: int = 0,
    aug_splits: int = 3,
) -> ds.Dataset:
    """Return a dataset of batches (image, label), or (image, label, draws).

    Images are float32 (N, C, H, W) or, with `normalize_on_device` transforms, uint8 (N, H, W, C).
    Labels are int32 (N,), or float32 (N, num_classes) in mixed training batches. Draws are float32
    (N, 15), for the cell that `create_normalize` makes from `augment_on_device` transforms.

    Python operations and mixing draw from MindSpore's current seed and the number of the pass over
    the dataset, whether one iterator makes all passes or each pass has its own. MindSpore's
    operations draw from its seed, anew in each iterator of a training loader.

    Args:
        dataset: rows with the columns image and label (or fine_label).
        is_training: mix batches if mixup or cutmix is given; split them if separate. Evaluation
            batches are never mixed.
        mixup, cutmix, switch_prob: see `Mixing`.
        cutmix_prob: probability of mixing a batch at all, by mixup or by cutmix. MindCV's default
            is 0, which never mixes.
        num_classes: length of soft labels; the loss smooths them, not the loader.
        transform: operations on the image; None: those of evaluation on ImageNet, 224 pixels, with
            a warning.
        target_transform: operations on the label; None: cast to int32.
        num_parallel_workers: threads of the transforms, at most the number of cores.
        python_multiprocessing: run Python operations in processes instead of threads.
        separate: augmentation splits for the JSD loss. A training batch holds N clean images, then
            aug_splits - 1 augmented copies of all N; the labels repeat likewise. `transform` must
            come from `create_transforms(…, separate=True)`.
        num_shards, shard_id: the processes that train together, and this one; they seed the draws.
            Batch i of a shard draws for mixing, erasing and the device what batch
            `i * num_shards + shard_id` of a single process does.
        mixup_off_epoch: epochs after which mixing ends; labels stay soft. 0: never.

    Raises:
        ConfigError: no threads.
        DataError: no such shard.
        ValueError: separate without three lists of operations, with fewer than 2 splits, or with
            mixing; mixing with `augment_on_device` transforms, whose images are not finished.
    """
    if transform is None:
        _logger.warning(
            "create_loader got no transform and uses that of ImageNet's evaluation, 224 pixels a "
            "side; pass the result of create_transforms"
        )
        transform = create_transforms()
    if not 0 <= shard_id < num_shards:
        raise DataError(f"num_shards {num_shards} and shard_id {shard_id} do not go together")
    plan = Transforms.of(transform)
    workers = usable_workers(num_parallel_workers)
    mixing = None
    if is_training and (mixup > 0.0 or cutmix > 0.0):
        mixing = Mixing(
            mixup,
            cutmix,
            prob=cutmix_prob,
            num_classes=num_classes,
            switch_prob=switch_prob,
            off_epoch=mixup_off_epoch,
        )
    if mixing and plan.on_device:
        raise ValueError("mixup and cutmix mix finished images: augment_on_device leaves none")
    splits = aug_splits if is_training and separate else 0
    if splits and (mixing or splits < 2 or not plan.separate):
        raise ValueError(
            "separate needs the three lists of create_transforms(…, separate=True), aug_splits of "
            f"at least 2 and neither mixup nor cutmix; got {type(transform).__name__}, "
            f"{aug_splits}, {mixup}, {cutmix}"
        )
    is_own = isinstance(dataset, ImageDataset)
    # Decoding in the thread that reads the file saves one hand-over between threads.
    reads_pixels = bool(plan.decode) and is_own and dataset.samples.encoded
    clean = [plan.decode, *plan.clean] if plan.decode and not reads_pixels else plan.clean
    on_image = [*clean, *plan.varied, *plan.final]
    draws = bool(mixing or splits or plan.erasing or plan.on_device)
    draws = draws or any(isinstance(operation, PixelSeeded) for operation in on_image)
    if not is_own and "fine_label" in dataset.get_col_names():  # of MindSpore's Cifar100Dataset
        dataset = dataset.rename("fine_label", "label")
    has_other_labels = is_own and "label" not in dataset.source.columns
    if has_other_labels or is_own and (reads_pixels or draws):
        dataset = dataset.variant(decode=reads_pixels, has_passes=draws)
    elif draws:
        numbers = _PassNumbers()
        dataset = dataset.map(
            [numbers], "label", ["label", PASS], num_parallel_workers=1, callbacks=[numbers]
        )
    if target_transform or not is_own:
        on_label = target_transform or [transforms.TypeCast(mstype.int32)]
        dataset = dataset.map(on_label, "label", num_parallel_workers=1)
    map_image = partial(_map_image, workers=workers, in_processes=python_multiprocessing)
    how = dict(drop_remainder=drop_remainder, num_parallel_workers=workers)
    columns = ["image", "label"]
    if splits:
        copies = [f"image_{split}" for split in range(splits)]
        final = [*plan.final, plan.erasing] if plan.erasing else plan.final
        dataset = map_image(dataset, clean).map(
            lambda image: (image,) * splits, ["image"], copies, num_parallel_workers=workers
        )
        for split, column in enumerate(copies):
            operations = [*plan.varied, *final] if split else final
            dataset = map_image(dataset, operations, column, split=split)
        dataset = dataset.batch(batch_size, **how).map(
            _join_splits, [*copies, "label"], columns, num_parallel_workers=workers
        )
    else:
        shards = dict(num_shards=num_shards, shard_id=shard_id)
        on_batch = BatchMap(plan.erasing, mixing, plan.on_device, **shards)
        dataset = map_image(dataset, on_image).batch(batch_size, **how, **on_batch.arguments)
        columns += ["draws"] if plan.on_device else []
    if (target_transform or not is_own) and not mixing:
        flat = partial(as_indices, num_classes=num_classes)
        dataset = dataset.map(flat, "label", num_parallel_workers=1)
    return Loader(dataset, columns, shard_id)


def _map_image(
    dataset: ds.Dataset,
    operations: Sequence,
    column: str = "image",
    *,
    split: int = 0,
    workers: int,
    in_processes: bool,
) -> ds.Dataset:
    for by_pass, group in groupby(operations, lambda entry: isinstance(entry, PixelSeeded)):
        dataset = dataset.map(
            [OfPass(entry, split) if by_pass else entry for entry in group],
            [column, PASS] if by_pass else [column],
            num_parallel_workers=workers,
            python_multiprocessing=in_processes,
        )
    return dataset


def _join_splits(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    *images, labels = columns
    return np.concatenate(images), np.concatenate([labels] * len(images))


def first_batch(
    batches: Iterator, transform: Sequence | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of the first batch, and end the pass.

    Args:
        transform: the result of `create_transforms`; its device operations are applied too.

    Raises:
        DataError: there is no batch, or an image cannot be read.
    """
    with contextlib.closing(batches), pipeline_failures_as_data_errors():
        for images, labels, *draws in batches:
            if draws:
                planes = Tensor(images.transpose(0, 3, 1, 2))
                planes = AugmentBatch(transform.on_device)(planes, Tensor(draws[0])).asnumpy()
                images = np.rint(planes.transpose(0, 2, 3, 1)).astype(np.uint8)
            return images, labels
    raise DataError("there is no batch to show: the training images do not fill one")


def create_evaluation_loader(
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    num_parallel_workers: int | None = None,
    num_shards: int = 1,
    shard_id: int = 0,
    allow_bad_images: bool = False,
    five_crops: bool = False,
) -> ds.Dataset | None:
    """Return this process's share of the evaluation images in batches, uint8 (N, H, W, C).

    All shares together hold every image exactly once; the last batch may be partial. Every epoch is
    the same. Returns None if this process has no image because there are more processes than
    images.

    Args:
        allow_bad_images: log an unusable image and give it the label -1, instead of failing.
        five_crops: images are (N, 5, H, W, C), see `evaluation_transforms`.

    Raises:
        ConfigError: no threads, or images without room for five crops.
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
    transform = evaluation_transforms(
        preprocessing, is_decoded=not samples.encoded, five_crops=five_crops
    )

    def loader_of_epoch(dataset: ImageDataset) -> ds.Dataset:
        return create_loader(
            dataset, batch_size, transform=transform, num_parallel_workers=num_parallel_workers
        )

    return EpochBatches(ImageDataset(rows), loader_of_epoch, batch_size, shard_id).as_dataset()


class _PassNumbers(ds.DSCallback):
    """Number the passes over a dataset that does not do so itself.

    Rows are numbered like copies of one image, so that equal images get different draws. MindSpore
    calls it before the first row of a pass, not when it only queries sizes and types.
    """

    def __init__(self):
        super().__init__()
        self._epoch, self._row = -1, -1

    def ds_epoch_begin(self, ds_run_context) -> None:
        self._epoch, self._row = self._epoch + 1, -1

    def __call__(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._row += 1
        return label, np.array((max(0, self._epoch), self._row))
