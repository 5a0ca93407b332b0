"""Small datasets and the calls of `create_dataset` for make_mindcv_datasets.py and its test."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, ENDINGS = ("ant", "bee", "cow"), ("jpg", "png", "JPEG")

# name: (dataset, split, other arguments)
CALLS = {
    "folder": ("", "train", {}),
    "imagenet in capitals": ("ImageNet", "val", {}),
    "the root as split": ("", "", {}),
    "three classes renumbered": ("", "train", dict(class_indexing={"cow": 0, "ant": 1, "bee": 2})),
    "a subset of the classes": ("", "train", dict(class_indexing={"bee": 0, "cow": 1})),
    "one extension": ("", "train", dict(extensions=[".jpg"])),
    "two extensions": ("", "train", dict(extensions=[".png", ".JPEG"])),
    "extension of another case": ("", "train", dict(extensions=[".JPG"])),
    "decoded": ("", "train", dict(decode=True)),
    "four samples": ("", "train", dict(num_samples=4)),
    "more samples than images": ("", "train", dict(num_samples=40)),
    "one repeat": ("", "train", dict(num_aug_repeats=1)),
    "mnist": ("MNIST", "train", {}),
    "mnist test": ("mnist", "test", {}),
    "cifar10": ("CIFAR10", "test", dict(num_samples=5)),
    "cifar100": ("cifar100", "test", dict(num_samples=5)),
}
# Arguments of RepeatAugSampler.
SAMPLERS = [
    dict(dataset_size=size, num_shards=shards, rank_id=rank, **more)
    for size in (5, 20)
    for shards, rank in ((None, None), (2, 0), (2, 1), (3, 2))
    for more in (
        dict(selected_round=0),
        dict(selected_round=4, num_repeats=2),
        dict(shuffle=False, selected_round=1),
        {},
    )
]


def root_of(name: str, split: str, root: Path) -> str:
    """Return the folder to pass for a call."""
    kind = name.lower()
    if kind in ("", "imagenet"):
        return str(root / "images" / ("train" if split == "" else ""))
    return str(root / kind)


def write_datasets(root: Path) -> None:
    """Write an image folder, seven digits, and the test split of both CIFARs."""
    for split in ("train", "val"):
        for number, name in enumerate(CLASSES):
            folder = root / "images" / split / name
            folder.mkdir(parents=True)
            for place, ending in enumerate(ENDINGS):
                image = np.full((20 + place, 30, 3), 40 * number + 10 * place, np.uint8)
                Image.fromarray(image).save(folder / f"{place}.{ending}")
    rng = np.random.default_rng(0)
    (root / "mnist").mkdir()
    for part, count in (("train", 7), ("t10k", 5)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        for what, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (root / f"mnist/{part}-{what}-ubyte").write_bytes(head + values.tobytes())
    for name, inner, file, kinds in (
        ("cifar10", "cifar-10-batches-bin", "test_batch.bin", (10,)),
        ("cifar100", "cifar-100-binary", "test.bin", (20, 100)),
    ):
        rows = rng.integers(0, 256, (10000, len(kinds) + 3072), np.uint8)
        rows[:, : len(kinds)] %= np.array(kinds, np.uint8)
        (root / name / inner).mkdir(parents=True)
        (root / name / inner / file).write_bytes(rows.tobytes())


def facts(dataset) -> dict:
    """Return columns, classes and rows of a dataset: shapes, labels and means of the pixels."""
    rows = list(dataset.create_dict_iterator(num_epochs=1, output_numpy=True))
    columns = dataset.get_col_names()
    found = {"columns": columns, "size": dataset.get_dataset_size(), "rows": len(rows)}
    for column in columns[1:]:
        found[column] = [int(row[column]) for row in rows]
    images = [row["image"] for row in rows]
    if images[0].ndim == 3:
        found["shape"] = list(images[0].shape)
        found["means"] = [round(float(image.mean()), 4) for image in images]
    found["num_classes"] = dataset.num_classes()
    return found


def batches(loader) -> list:
    """Return shape, mean and deviation of each batch, and the type of its labels."""
    rows = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
    return [
        [list(x.shape), round(float(x.mean()), 4), round(float(x.std()), 4), str(y.dtype)]
        for x, y in rows
    ]
