"""Image folders: what counts as an image, and the cached index of a large folder."""

import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mindcv.config import Config
from mindcv.data import create_dataset, open_samples
from mindcv.data.rows import Rows
from mindcv.data.samples import ImageError, index_cache
from mindcv.data.samples import folder as folder_module
from mindcv.data.samples.folder import FolderSamples, checked_classes, index_images
from mindcv.engine.classes import count_classes
from mindcv.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(folder: Path) -> list[str]:
    index = index_images(folder)
    return [index.names[number].decode() for number in range(len(index.names))]


# What counts


def test_images_lie_at_any_depth_and_are_sorted_by_class_and_bytes(tmp_path):
    touch(tmp_path, "b/2.jpg", "b/10.jpg", "b/deep/er/1.png", "a-b/x.bmp", "a/z.jpg", "a/Ä.jpg")
    assert names(tmp_path) == [
        "a/z.jpg", "a/Ä.jpg", "a-b/x.bmp", "b/10.jpg", "b/2.jpg", "b/deep/er/1.png",
    ]  # fmt: skip
    samples = FolderSamples(tmp_path)
    assert samples.class_names == ("a", "a-b", "b")
    assert samples.labels.tolist() == [0, 0, 1, 2, 2, 2]


def test_suffixes_count_in_any_case_and_hidden_and_other_files_do_not(tmp_path):
    touch(tmp_path, "a/1.JPG", "a/2.Jpeg", "a/3.webp", "a/4.TIFF", "a/5.gif", "b/1.png")
    touch(tmp_path, "a/.6.jpg", "a/.hidden/7.jpg", ".cache/8.jpg", "9.jpg", "a/notes.txt", "a/jpg")
    assert names(tmp_path) == [
        "a/1.JPG", "a/2.Jpeg", "a/3.webp", "a/4.TIFF", "a/5.gif", "b/1.png",
    ]  # fmt: skip


def test_a_folder_or_pipe_named_like_an_image_is_none(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg/inside.jpg")
    os.mkfifo(tmp_path / "a" / "3.jpg")
    assert names(tmp_path) == ["a/1.jpg"]


def test_links_count_and_loops_end(tmp_path):
    touch(tmp_path, "elsewhere/1.jpg", "set/a/2.jpg")
    os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "linked_class")
    os.symlink(tmp_path / "elsewhere" / "1.jpg", tmp_path / "set" / "a" / "link.jpg")
    os.symlink("nowhere", tmp_path / "set" / "a" / "dangling.jpg")
    os.symlink("..", tmp_path / "set" / "a" / "loop")
    os.symlink(".", tmp_path / "set" / "a" / "self")
    found = names(tmp_path / "set")
    for name in ("a/2.jpg", "a/dangling.jpg", "a/link.jpg", "linked_class/1.jpg"):
        assert found.count(name) == 1


def test_folders_that_link_to_each_other_are_entered_once_each(tmp_path, log_lines, monkeypatch):
    """There are 109,600 paths through nine of them."""
    letters = "abcdefghi"
    for letter in letters:
        touch(tmp_path, f"class/{letter}/{letter}.jpg")
        for other in letters.replace(letter, ""):
            os.symlink(f"../{other}", tmp_path / "class" / letter / f"to_{other}")
    os.symlink("itself", tmp_path / "class" / "itself")
    os.symlink("itself", tmp_path / "itself")
    scandir, read = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: read.append(path) or scandir(path))
    assert names(tmp_path) == [f"class/{letter}/{letter}.jpg" for letter in letters]
    assert len(read) == len(letters) + 2
    assert "72 links below" in log_lines[0] and "class/a/to_b" in log_lines[0]


def test_of_two_links_to_a_folder_the_same_one_is_followed_each_time(tmp_path):
    touch(tmp_path, "elsewhere/1.jpg", "elsewhere/deep/2.jpg", "set/a/own/3.jpg")
    for link in ("z", "y", "own/b"):
        os.symlink(tmp_path / "elsewhere", tmp_path / "set" / "a" / link)
    os.symlink(tmp_path / "elsewhere" / "deep", tmp_path / "set" / "a" / "x")
    assert names(tmp_path / "set") == ["a/own/3.jpg", "a/x/2.jpg", "a/y/1.jpg"]


def test_what_cannot_be_read_is_an_image_error_when_it_is_read(tmp_path):
    touch(tmp_path, "a/empty.jpg")
    os.symlink("nowhere", tmp_path / "a" / "dangling.jpg")
    samples = FolderSamples(tmp_path)
    with pytest.raises(ImageError, match="No such file"):
        samples.read(0)
    with pytest.raises(ImageError, match="empty"):
        samples.read(1)
    if os.getuid():
        (tmp_path / "a" / "empty.jpg").chmod(0)
        with pytest.raises(ImageError, match="Permission denied"):
            samples.read(1)


def test_names_that_are_not_utf8_are_read_and_told_in_plain_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/a/caf\xe9.jpg"
    (tmp_path / "a").mkdir()
    Path(os.fsdecode(path)).write_bytes(b"picture")
    samples = FolderSamples(tmp_path)
    assert samples.read(0).tobytes() == b"picture"
    assert samples.name(0) == f"{tmp_path}/a/caf\\xe9.jpg"


def test_classes_of_the_folder_itself_are_recognised_in_place_of_a_split(tmp_path):
    touch(tmp_path, "pets/cat/1.jpg", "pets/dog/1.jpg")
    with pytest.raises(DataError) as error:
        open_samples("", str(tmp_path / "pets"), "train")
    assert "cat, dog" in str(error.value)
    assert f"--data_dir {tmp_path} --train_split pets" in str(error.value)
    assert len(open_samples("", str(tmp_path), "pets")) == 2
    with pytest.raises(DataError, match="--val_split pets"):
        open_samples("", str(tmp_path / "pets"), "val")


def test_an_unreadable_class_folder_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")

    def refuse(path):
        if os.fsdecode(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"{tmp_path}/b cannot be read: Permission denied"):
        index_images(tmp_path)


def test_one_class_is_a_dataset_and_no_training_set(tmp_path):
    touch(tmp_path, "train/only/1.jpg")
    dataset = create_dataset("", str(tmp_path))
    assert dataset.num_classes() == 1
    assert checked_classes(tmp_path / "train") == ("only",)
    folder = tmp_path / "train"
    for asked in (None, 1):
        config = Config(model="m", data_dir=str(tmp_path), num_classes=asked)
        with pytest.raises(DataError, match=f"{folder} holds one class, 'only'.*{folder}/only, as"):
            count_classes(config, dataset)
    assert count_classes(Config(model="m", num_classes=2), dataset) == 2


def test_the_fingerprint_tells_names_labels_and_classes(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    before = FolderSamples(tmp_path).fingerprint()
    assert FolderSamples(tmp_path).fingerprint() == before
    found = {before, FolderSamples(tmp_path, {"b": 0, "a": 1}).fingerprint()}
    (tmp_path / "a" / "1.jpg").rename(tmp_path / "a" / "2.jpg")
    found.add(FolderSamples(tmp_path).fingerprint())
    (tmp_path / "a").rename(tmp_path / "c")
    found.add(FolderSamples(tmp_path).fingerprint())
    assert len(found) == 4


# Memory


def test_an_image_takes_less_than_200_bytes_with_its_order(tmp_path):
    count = 4_000
    for number in range(20):
        folder = tmp_path / f"n{number:08d}"
        folder.mkdir()
        for image in range(count // 20):
            os.mknod(folder / f"n{number:08d}_{image:08d}.JPEG")
    tracemalloc.start()
    samples = FolderSamples(tmp_path)
    rows = iter(Rows(samples, 42, shuffle=True))
    with pytest.raises(DataError, match="empty"):
        next(rows)  # builds the order, then meets the first of these empty files
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / count < 100 and peak / count < 200


# The cache


@pytest.fixture
def big(tmp_path, monkeypatch) -> Path:
    """A folder large enough for the cache, and unchanged for a while."""
    monkeypatch.setenv("MINDCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_module, "_WORTH_REMEMBERING", 4)
    monkeypatch.setattr(index_cache, "_RACY_NS", 0)
    folder = tmp_path / "set"
    touch(folder, "a/1.jpg", "a/in/2.jpg", "b/1.jpg", "b/2.jpg", "b/\udce9.jpg")
    return folder


def is_scanned(folder: Path, monkeypatch) -> bool:
    """Index the folder, check the result and return whether its entries were read."""
    read = []
    real = folder_module.walk
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "walk", lambda *args: read.append(args) or real(*args))
        index = index_images(folder)
        patch.setattr(folder_module, "read_index", lambda folder: None)
        patch.setattr(folder_module, "write_index", lambda *args: None)
        fresh = index_images(folder)
    assert index.classes == fresh.classes
    assert index.names.blob.tobytes() == fresh.names.blob.tobytes()
    np.testing.assert_array_equal(index.names.ends, fresh.names.ends)
    np.testing.assert_array_equal(index.labels, fresh.labels)
    return len(read) > len(fresh.classes)


def test_a_large_folder_is_scanned_once(big, monkeypatch):
    assert is_scanned(big, monkeypatch)
    assert not is_scanned(big, monkeypatch)
    os.symlink(big, big.parent / "link")
    assert not is_scanned(big.parent / "link", monkeypatch)
    (cached,) = (big.parent / "cache" / "indexes").iterdir()
    with np.load(cached, allow_pickle=False) as parts:
        assert len(parts["labels"]) == 5


def test_a_small_folder_leaves_no_file(big, monkeypatch):
    monkeypatch.setattr(folder_module, "_WORTH_REMEMBERING", 6)
    index_images(big)
    assert not (big.parent / "cache").exists()


CHANGES = {
    "added": lambda set: touch(set, "a/3.jpg"),
    "added deep": lambda set: touch(set, "a/in/3.jpg"),
    "removed": lambda set: (set / "b" / "1.jpg").unlink(),
    "renamed": lambda set: (set / "b" / "1.jpg").rename(set / "b" / "0.jpg"),
    "moved": lambda set: (set / "b" / "1.jpg").rename(set / "a" / "b.jpg"),
    "new class": lambda set: touch(set, "c/1.jpg"),
    "class renamed": lambda set: (set / "b").rename(set / "c"),
    "folder removed": lambda set: ((set / "a/in/2.jpg").unlink(), (set / "a/in").rmdir()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_scanned_again(big, monkeypatch, change):
    index_images(big)
    CHANGES[change](big)
    assert is_scanned(big, monkeypatch)
    assert not is_scanned(big, monkeypatch)


@pytest.mark.parametrize("link", ["c", "a/more", "a/in/more"])
def test_a_disk_that_is_mounted_where_a_link_leads_is_scanned(big, monkeypatch, link):
    os.symlink(big.parent / "disk", big / link)
    assert is_scanned(big, monkeypatch) and not is_scanned(big, monkeypatch)
    touch(big.parent / "disk", "3.jpg")
    assert is_scanned(big, monkeypatch) and not is_scanned(big, monkeypatch)
    (big.parent / "disk").rename(big.parent / "away")
    assert is_scanned(big, monkeypatch)


def test_a_change_is_seen_though_its_time_is_set_back(big, monkeypatch):
    index_images(big)
    before = (big / "b").stat()
    (big / "b" / "1.jpg").rename(big / "b" / "3.jpg")
    os.utime(big / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert is_scanned(big, monkeypatch)


def test_a_folder_just_changed_is_not_remembered(big, monkeypatch):
    """A second change within the same clock tick would leave no trace."""
    monkeypatch.setattr(index_cache, "_RACY_NS", 2 * 10**9)
    assert is_scanned(big, monkeypatch) and is_scanned(big, monkeypatch)
    later = index_cache.time.time_ns() + 3 * 10**9
    monkeypatch.setattr(index_cache.time, "time_ns", lambda: later)
    assert is_scanned(big, monkeypatch) and not is_scanned(big, monkeypatch)


def test_a_damaged_cache_is_scanned_anew(big, monkeypatch):
    index_images(big)
    (cached,) = (big.parent / "cache" / "indexes").iterdir()
    whole = cached.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:10], whole[:-1], bytes(flipped), whole + b"x"):
        cached.write_bytes(damaged)
        assert is_scanned(big, monkeypatch)
        assert cached.read_bytes() == whole


def test_a_cache_of_another_format_is_scanned_anew(big, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(index_cache, "_FORMAT", 0)
        index_images(big)
    assert is_scanned(big, monkeypatch) and not is_scanned(big, monkeypatch)


def test_a_cache_that_cannot_be_written_does_no_harm(big, monkeypatch):
    (big.parent / "cache").write_text("in the way")
    assert is_scanned(big, monkeypatch) and is_scanned(big, monkeypatch)


def test_two_at_once_leave_one_whole_cache(big, monkeypatch):
    threads = [threading.Thread(target=index_images, args=(big,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not is_scanned(big, monkeypatch)
    assert len(list((big.parent / "cache" / "indexes").iterdir())) == 1
