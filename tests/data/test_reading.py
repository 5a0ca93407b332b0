"""Threads that read ahead, and how often they inspect an image's bytes."""

import gc
import threading
import time
import weakref
from pathlib import Path

import image_files
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import vision
from pictures import random_images
from PIL import Image

from mindcv.data import create_dataset, create_loader, create_transforms, open_samples
from mindcv.data import rows as rows_of_images
from mindcv.data.read_ahead import ReadingThreads
from mindcv.data.rows import Rows

pytestmark = pytest.mark.usefixtures("fixed_seed")


@pytest.fixture
def threads():
    made = []

    def make(read, **arguments) -> ReadingThreads:
        made.append(ReadingThreads(read, str, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 100_000, 400_000])
def test_results_come_in_order_whatever_thread_is_faster(threads, count, size):
    class Image(int):
        nbytes = size

    def read(index: int) -> int:
        time.sleep(0.001 * (index % 3))
        return Image(10 * index)

    reading = threads(read, threads=count)
    order = np.random.default_rng(0).permutation(97).tolist()
    assert list(reading.in_order(order)) == [10 * index for index in order]
    assert list(reading.in_order([])) == []
    assert list(reading.in_order(order[:2])) == [10 * index for index in order[:2]]


def test_an_error_is_raised_in_the_place_of_its_image(threads):
    def read(index: int) -> int:
        if index == 7:
            raise KeyError("seven")
        return index

    seen = []
    with pytest.raises(KeyError, match="seven"):
        for result in threads(read).in_order(range(20)):
            seen.append(result)
    assert seen == list(range(7))


@pytest.mark.parametrize(("size", "together"), [(1, 16), (500_000, 5), (3_000_000, 1)])
def test_as_many_are_read_ahead_as_fit_together(threads, size, together):
    read = []

    def note(index: int) -> np.ndarray:
        read.append(index)
        return np.empty(size, np.uint8)

    results = threads(note, threads=2).in_order(range(99))
    ahead = []
    for number in range(1, 40):
        next(results)
        settle(read)
        ahead.append(len(read) - number)
    # At first an image a thread; then what is left of those at hand, and two threads' more.
    assert ahead[0] == 2 and max(ahead) == 3 * together - 1
    assert sorted(read) == list(range(len(read)))


def settle(read: list) -> None:
    """Wait until no thread is reading."""
    before = -1
    while before != len(read):
        before = len(read)
        time.sleep(0.02)


def test_threads_keep_no_image(threads):
    class Picture:
        pass

    results = threads(lambda index: Picture()).in_order(range(4))
    pictures = [weakref.ref(picture) for picture in results]
    deadline = time.monotonic() + 10
    while any(picture() for picture in pictures) and time.monotonic() < deadline:
        gc.collect()
    assert len(pictures) == 4 and not any(picture() for picture in pictures)


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "val" / "all"
    folder.mkdir(parents=True)
    for number, image in enumerate(random_images(11, 40)):
        Image.fromarray(image).save(folder / f"{number:02d}.jpg")
    for kind, content in (image_files.plain_files() | image_files.odd_files()).items():
        (folder / f"{kind}.jpg").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("workers", [1, 3])
def test_evaluation_decodes_where_it_reads_and_shows_the_same(root, workers, monkeypatch):
    dataset = create_dataset("", str(root), "val", shuffle=False)
    transform = create_transforms("", 32, is_training=False, normalize_on_device=True)
    by_mindspore = [vision.Decode(), *transform[1:]]
    arguments = dict(
        target_transform=[lambda label: np.int32(label + 5)], num_parallel_workers=workers
    )
    expected = batches(create_loader(dataset, 4, transform=by_mindspore, **arguments))
    decoders = set()
    pixels = rows_of_images.pixels

    def noting(data):
        decoders.add(threading.current_thread().name)
        return pixels(data)

    monkeypatch.setattr(rows_of_images, "pixels", noting)
    found = batches(create_loader(dataset, 4, transform=transform, **arguments))
    assert decoders and all(name.startswith("mindcv-read") for name in decoders)
    for (images, labels), (own_images, own_labels) in zip(expected, found, strict=True):
        assert np.array_equal(images, own_images) and np.array_equal(labels, own_labels)
        assert (own_labels == 5).all()
    first = next(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))[0]
    assert first.ndim == 1  # the dataset that was given still holds files


def batches(loader: ds.Dataset) -> list:
    return list(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))


def test_an_images_bytes_are_looked_at_once_until_they_change(root, monkeypatch):
    looked_at = []
    decodable = rows_of_images.decodable

    def noting(data):
        looked_at.append(data.size)
        return decodable(data)

    monkeypatch.setattr(rows_of_images, "decodable", noting)
    samples = open_samples("", str(root), "val")
    rows = Rows(samples, 42, shuffle=False)
    sizes = [samples.read(index).size for index in range(len(samples))]
    read = [image for image, _ in rows]
    assert looked_at == sizes
    # What had to be converted is converted each time, what was plain is not looked at.
    odd = [size for size, image in zip(sizes, read) if image.size != size]
    assert 0 < len(odd) < len(sizes)
    for passes in (rows, rows.variant(epoch=5), rows):
        looked_at.clear()
        again = [image for image, _ in passes]
        assert looked_at == odd
        assert all(np.array_equal(image, same) for image, same in zip(read, again, strict=True))
    looked_at.clear()
    changed = root / "val" / "all" / "03.jpg"
    changed.write_bytes(changed.read_bytes()[:-200] + bytes(200))
    with pytest.raises(rows_of_images.DataError, match="03.jpg"):
        list(rows)
    assert changed.stat().st_size in looked_at
