"""Datasets: what is read, by which process, in which order, and the messages when it fails."""

import collections
import json
import os
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image

from mindcv.config import Config
from mindcv.data import (
    Preprocessing,
    create_dataset,
    create_evaluation_loader,
    create_loader,
    create_transforms,
    open_samples,
)
from mindcv.data.order import sample_order
from mindcv.engine import Runtime
from mindcv.engine.build import build_evaluation_batches
from mindcv.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
REPEAT = json.loads((ROOT / "tests" / "golden" / "repeat_sampler.json").read_text())


pytestmark = pytest.mark.usefixtures("fixed_seed")


def write_jpegs(folder: Path, classes: dict[str, int]) -> Path:
    """Write this many small JPEGs per class, all of different colours."""
    for number, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colour = (number * 30, index * 12, 128)
            Image.new("RGB", (24, 20), colour).save(folder / name / f"{index:02d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """12 training images of 3 classes; 9 validation images."""
    root = tmp_path_factory.mktemp("folder")
    write_jpegs(root / "train", {"ant": 5, "bee": 4, "cat": 3})
    write_jpegs(root / "val", {"ant": 3, "bee": 3, "cat": 3})
    return root


def contents(root: Path) -> dict[bytes, str]:
    return {path.read_bytes(): f"{path.parent.name}/{path.stem}" for path in root.rglob("*.jpg")}


def names_read(dataset, root: Path) -> list[str]:
    """Return the names of the images that one epoch reads, found by their bytes."""
    known = contents(root)
    rows = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    return [known[row["image"].tobytes()] for row in rows]


def error_of(*arguments, **named) -> str:
    with pytest.raises(DataError) as error:
        create_dataset(*arguments, **named)
    assert error.value.exit_code == 4
    return str(error.value)


# Image folders


@pytest.mark.parametrize("name", ["", "imagenet"])
def test_image_folder_gives_sorted_classes_and_their_images(folder, name):
    dataset = create_dataset(name, str(folder), "train", shuffle=False)
    assert dataset.num_classes() == 3
    assert dataset.get_dataset_size() == 12
    known = contents(folder / "train")
    for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
        image = known[row["image"].tobytes()]
        assert ["ant", "bee", "cat"][int(row["label"])] == image.split("/")[0]


def test_split_selects_the_subfolder(folder):
    assert create_dataset("", str(folder), "val").get_dataset_size() == 9
    assert create_dataset("", str(folder), "train").get_dataset_size() == 12


def test_class_indexing_of_the_training_set_keeps_the_numbers(folder, tmp_path):
    write_jpegs(tmp_path / "val", {"cat": 2})
    indexing = create_dataset("", str(folder), "train").get_class_indexing()
    assert indexing == {"ant": 0, "bee": 1, "cat": 2}
    dataset = create_dataset("", str(tmp_path), "val", class_indexing=indexing)
    labels = [int(row["label"]) for row in dataset.create_dict_iterator(1, output_numpy=True)]
    assert labels == [2, 2]


def test_evaluation_of_fewer_classes_than_trained_keeps_numbers_and_count(folder, tmp_path):
    write_jpegs(tmp_path / "val", {"bee": 2, "cat": 1})
    indexing = {"ant": 0, "bee": 1, "cat": 2}
    config = Config(data_dir=str(tmp_path), image_resize=16, batch_size=4)
    loader, num_classes = build_evaluation_batches(config, Runtime("CPU", 1, "O1", 0, 1), indexing)
    assert num_classes == 3
    (batch,) = loader.create_dict_iterator(1, output_numpy=True)
    assert batch["label"].tolist() == [1, 1, 2]


def test_upper_case_suffixes_count_and_other_files_do_not(tmp_path):
    write_jpegs(tmp_path / "train", {"ant": 2, "bee": 2})
    (tmp_path / "train" / "ant" / "00.jpg").rename(tmp_path / "train" / "ant" / "00.JPG")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "readme.md").write_text("no class")
    (tmp_path / "train" / ".cache").mkdir()
    dataset = create_dataset("", str(tmp_path), "train")
    assert (dataset.num_classes(), dataset.get_dataset_size()) == (2, 4)


def test_missing_root_is_named(tmp_path):
    message = error_of("", str(tmp_path / "nowhere"), "train")
    assert str(tmp_path / "nowhere") in message and "<data_dir>/<split>/<class>" in message


def test_missing_split_names_what_is_there(folder):
    message = error_of("", str(folder), "test")
    assert str(folder / "test") in message and "holds train, val" in message


@pytest.mark.parametrize("name", ["", "csv", "json", "cifar10", "mnist", "mindrecord"])
def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch, name):
    real = os.stat

    def refuse(path, *arguments, **named):  # root may enter any
        if str(path).startswith(f"{tmp_path}/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", refuse)
    message = error_of(name, str(tmp_path), "train")
    assert message.startswith(f"{tmp_path}/") and "cannot be read: Permission denied" in message


def test_file_in_place_of_a_split_is_refused(folder, tmp_path):
    (tmp_path / "train").write_text("a file")
    assert str(tmp_path / "train") in error_of("", str(tmp_path), "train")


def test_split_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "stray.jpg")
    assert "no class folders" in error_of("", str(tmp_path), "train")


def test_empty_classes_are_named(tmp_path):
    write_jpegs(tmp_path / "train", {"ant": 2, "bee": 0, "cat": 0})
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    message = error_of("", str(tmp_path), "train")
    assert "bee" in message and "cat" in message and "2 of 3" in message


def test_class_unknown_to_the_training_set_is_named(tmp_path):
    write_jpegs(tmp_path / "val", {"ant": 1, "dog": 1})
    with pytest.raises(DataError, match="classes that are not in the training set: dog"):
        open_samples("", str(tmp_path), "val", class_indexing={"ant": 0, "bee": 1})


def test_unknown_dataset_is_a_config_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(ConfigError) as error:
        create_dataset("imagnet", str(tmp_path))
    for word in ("'imagnet'", "imagenet", "cifar10", "cifar100", "mnist_demo"):
        assert word in str(error.value)
    assert error.value.exit_code == 2


def test_what_is_there_needs_no_download_and_what_is_not_cannot_always_get_one(folder, tmp_path):
    assert len(create_dataset("", str(folder), download=True).samples) == 12
    message = error_of("ImageNet", str(tmp_path), download=True)
    assert "no image folder" in message and "imagenet cannot be downloaded" in message


def test_more_workers_than_cores_are_lowered(folder):
    many = 16 * (os.cpu_count() or 1)
    dataset = create_dataset("", str(folder), "val", num_parallel_workers=many)
    transform = create_transforms("", 16, normalize_on_device=True)
    loader = create_loader(dataset, 4, transform=transform, num_parallel_workers=many)
    assert sum(len(row["label"]) for row in loader.create_dict_iterator(1, output_numpy=True)) == 9


@pytest.mark.parametrize("option", ["num_parallel_workers", "num_samples"])
@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.parametrize("shuffle", [True, False])
def test_no_threads_and_no_images_are_refused(folder, option, count, shuffle):
    with pytest.raises(ConfigError, match=f"{option} {count}: expected 1 or more; None"):
        create_dataset("", str(folder), "val", shuffle, **{option: count})
    if option == "num_parallel_workers":
        with pytest.raises(ConfigError, match=f"{option} {count}"):
            create_loader(create_dataset("", str(folder), "val"), 4, num_parallel_workers=count)


# Shards and order


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize("count", range(1, 10))
def test_unshuffled_shards_hold_every_image_exactly_once(tmp_path, count, shards):
    images = write_jpegs(tmp_path / "val", {"ant": count}).parent
    read = []
    for shard in range(shards):
        exactly = dict(num_shards=shards, shard_id=shard)
        sharding = dict(shuffle=False, **exactly)
        if shard >= count:
            message = error_of("", str(images), "val", **sharding)
            assert f"{count} images" in message and f"{shards} processes" in message
            samples = open_samples("", str(images), "val")
            assert samples.num_classes == 1
            assert not create_evaluation_loader(samples, Preprocessing(16), 4, **exactly)
            continue
        dataset = create_dataset("", str(images), "val", **sharding)
        mine = names_read(dataset, images)
        assert len(mine) == dataset.get_dataset_size()
        assert mine == sorted(mine)
        read += mine
    assert sorted(read) == sorted(contents(images).values())


def test_evaluation_loaders_of_all_processes_hold_every_image_exactly_once(folder):
    colours = []
    for shard in range(4):
        samples, exactly = open_samples("", str(folder), "val"), dict(num_shards=4, shard_id=shard)
        loader = create_evaluation_loader(samples, Preprocessing(16), 2, **exactly)
        for batch in loader.create_dict_iterator(1, output_numpy=True):
            assert batch["image"].dtype == np.uint8
            colours += [tuple(image.mean((0, 1)).round(-1)) for image in batch["image"]]
    assert len(colours) == 9 and len(set(colours)) == 9


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shuffled_shards_have_equal_sizes_and_cover_every_image(folder, shards):
    parts = []
    for shard in range(shards):
        dataset = create_dataset("", str(folder), "train", num_shards=shards, shard_id=shard)
        parts.append(names_read(dataset, folder / "train"))
        assert len(parts[-1]) == dataset.get_dataset_size() == -(-12 // shards)
    assert {name for part in parts for name in part} == set(contents(folder / "train").values())


def test_shards_and_shard_id_must_go_together(folder):
    for sharding in (
        dict(num_shards=2),
        dict(shard_id=0),
        dict(num_shards=2, shard_id=2),
        dict(num_shards=2, shard_id=-1),
    ):
        assert "do not go together" in error_of("", str(folder), "train", **sharding)


def epochs_read(folder, workers: int, epochs: int = 3) -> list[list[str]]:
    known = contents(folder / "train")
    dataset = create_dataset("", str(folder), "train", num_parallel_workers=workers)
    rows = dataset.create_dict_iterator(num_epochs=epochs, output_numpy=True)
    return [[known[row["image"].tobytes()] for row in rows] for _ in range(epochs)]


def test_order_depends_on_the_seed_and_not_on_the_workers(folder):
    one = epochs_read(folder, 1)
    assert epochs_read(folder, 2) == one
    ds.config.set_seed(43)
    assert epochs_read(folder, 1) != one


def test_every_epoch_has_another_order_of_the_same_images(folder):
    first, second, third = epochs_read(folder, 1)
    assert first != second != third != first
    assert sorted(first) == sorted(second) == sorted(third)


def test_num_samples_limits_the_images_of_an_epoch(folder):
    every = names_read(create_dataset("", str(folder), "train", False), folder / "train")
    five = create_dataset("", str(folder), "train", False, num_samples=5)
    assert names_read(five, folder / "train") == every[:5]
    assert create_dataset("", str(folder), "train", True, num_samples=5).get_dataset_size() == 5
    sharding = dict(num_samples=6, num_shards=2)
    parts = [create_dataset("", str(folder), "train", shard_id=s, **sharding) for s in (0, 1)]
    assert [part.get_dataset_size() for part in parts] == [3, 3]
    exact = [
        create_dataset("", str(folder), "train", False, shard_id=s, **sharding) for s in (0, 1)
    ]
    read = [name for part in exact for name in names_read(part, folder / "train")]
    assert sorted(read) == sorted(every[:6])


# Repeated augmentation


def repeated(size: int, shards: int, shard: int, repeats: int) -> np.ndarray:
    how = dict(num_shards=shards, shard_id=shard, num_aug_repeats=repeats)
    return sample_order(size, 42, 0, True, **how, selected_round=256)


@pytest.mark.parametrize("size, shards, repeats, length", REPEAT["lengths"])
def test_epoch_of_repeated_augmentation_is_as_long_as_timms(size, shards, repeats, length):
    assert len(repeated(size, shards, 0, repeats)) == length


@pytest.mark.parametrize("case", REPEAT["positions"])
def test_repeated_augmentation_lays_copies_out_as_timm_does(case):
    """Without shuffling, timm's indices are the positions in our random order."""
    size, shards, repeats = map(int, case.split())
    pairs = set()
    for shard, positions in enumerate(REPEAT["positions"][case]):
        mine = repeated(size, shards, shard, repeats).tolist()
        assert len(mine) == len(positions)
        pairs |= set(zip(positions, mine))
    assert len(pairs) == len({p for p, _ in pairs}) == len({index for _, index in pairs})


def test_copies_of_an_image_go_to_different_shards(folder):
    parts = []
    for shard in (0, 1):
        dataset = create_dataset(
            "", str(folder), "train", num_shards=2, shard_id=shard, num_aug_repeats=2
        )
        parts.append(names_read(dataset, folder / "train"))
        assert len(parts[-1]) == dataset.get_dataset_size() == 6
    assert sorted(parts[0]) == sorted(parts[1])
    assert set(collections.Counter(parts[0]).values()) == {1}


def test_repeated_augmentation_draws_other_images_each_epoch(folder):
    known = contents(folder / "train")
    dataset = create_dataset("", str(folder), "train", num_aug_repeats=3)
    rows = dataset.create_dict_iterator(num_epochs=4, output_numpy=True)
    epochs = [[known[row["image"].tobytes()] for row in rows] for _ in range(4)]
    for epoch in epochs:
        assert set(collections.Counter(epoch).values()) == {3} and len(epoch) == 12
    assert len({frozenset(epoch) for epoch in epochs}) > 1
