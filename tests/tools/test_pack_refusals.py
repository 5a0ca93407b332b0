"""What packing refuses: bad images, folders, names and places that cannot be used."""

import csv
import os
import shutil
from pathlib import Path

import pytest
from commands import call
from conftest import write_images
from image_files import encoded, png_of_header, png_with_broken_pixels, write_files
from packed_sets import quiet_pack, rows_of_samples
from PIL import Image

from mindcv.data import create_dataset
from mindcv.data.samples.folder import FolderSamples
from mindcv.data.samples.mindrecord import MindRecordSamples
from mindcv.errors import ConfigError, DataError
from mindcv.tools.pack import dataset as dataset_module
from mindcv.tools.pack import folders as folders_module


def test_bad_images_are_named_and_left_out_on_request(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    (source / "train/class_2/9999.jpg").write_text("no image")
    (source / "val/class_0/0000.png").write_bytes(b"")
    (source / "val/class_0/gone.jpg").symlink_to("nowhere")
    words = ["pack", source, tmp_path / "out", "--shards", 2, "--workers", 1]
    code, _, error = call(capsys, *words)
    assert code == 4 and "3 images cannot be decoded" in error and "--skip_bad" in error
    assert "train/class_2/9999.jpg" in error and not (tmp_path / "out/dataset.json").exists()
    code, out, _ = call(capsys, *words, "--skip_bad")
    assert code == 0 and "val: 11 images" in out and "2 bad images left out" in out
    assert "of 4 shards were finished before" in out
    with open(tmp_path / "out/bad_images.csv", newline="") as file:
        listed = {row["path"]: row["error"] for row in csv.DictReader(file)}
    assert set(listed) == {
        "train/class_2/9999.jpg", "val/class_0/0000.png", "val/class_0/gone.jpg",
    }  # fmt: skip
    assert "No such file" in listed["val/class_0/gone.jpg"]
    plain = FolderSamples(image_folder / "val")
    samples = MindRecordSamples(str(tmp_path / "out"), "val")
    assert rows_of_samples(samples) == rows_of_samples(plain)


@pytest.mark.timeout(60)
def test_a_link_to_a_pipe_is_a_bad_image(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "source")
    os.mkfifo(tmp_path / "pipe")
    (source / "val/class_1/pipe.jpg").symlink_to(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"val/class_1/pipe\.jpg: no file, but a pipe"):
        quiet_pack(source, tmp_path / "out")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_an_image_that_vanishes_while_it_is_packed_is_no_bad_image(
    image_folder, tmp_path, monkeypatch, change
):
    source = shutil.copytree(image_folder, tmp_path / "source")

    def listed(*args):
        found = folders_module.list_source(*args)
        change(source / "train/class_0/0000.jpg")
        return found

    monkeypatch.setattr(dataset_module, "list_source", listed)
    with pytest.raises(DataError, match=r"0000\.jpg changed while it was packed: 0 bytes"):
        quiet_pack(source, tmp_path / "out", skip_bad=True)


def test_what_only_decoding_shows_is_found_while_packing(tmp_path):
    """A packed set holds nothing that ends an evaluation: PNG files with right checksums too."""
    place = tmp_path / "data/train/a"
    good = encoded(Image.new("RGB", (9, 8)), "PNG")
    write_files(place, good=good, broken=png_with_broken_pixels(), none=png_of_header(9, 8))
    with pytest.raises(DataError, match="2 images cannot be decoded: train/a/broken.jpg: damaged"):
        quiet_pack(tmp_path / "data", tmp_path / "out")
    packed = quiet_pack(tmp_path / "data", tmp_path / "out", skip_bad=True)
    assert (packed.splits["train"].images, packed.splits["train"].skipped) == (1, 2)


@pytest.mark.parametrize("splits", [None, ["train"]])
def test_folders_that_may_not_be_entered_are_told(image_folder, tmp_path, monkeypatch, splits):
    closed = tmp_path / "closed"
    closed.mkdir()

    def refusing(real, is_refused):
        def call(path=".", *args, **kwargs):
            if is_refused(path):
                raise PermissionError(13, "Permission denied")
            return real(path, *args, **kwargs)

        return call

    def is_inside(path):
        return not isinstance(path, int) and os.fsdecode(path).startswith(f"{closed}/")

    def is_closed(path):
        return os.fsdecode(path) == str(closed)

    monkeypatch.setattr(os, "stat", refusing(os.stat, is_inside))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, is_closed))
    for source in (closed, closed / "set"):
        with pytest.raises(DataError, match=f"{closed}.* cannot be read: Permission denied"):
            quiet_pack(source, tmp_path / "out", splits=splits)
    with pytest.raises(DataError, match=f"{closed}.* cannot be read: Permission denied"):
        quiet_pack(image_folder, closed / "out", splits=splits)
    with pytest.raises(DataError, match=f"{closed}/train cannot be read: Permission denied"):
        create_dataset("", str(closed), "train")


def test_a_split_is_named_as_a_folder_of_the_source_can_be(image_folder, tmp_path, capsys):
    for name in ("tr/in", "../train", "..", ".", "", ".pack", "train/"):
        words = ["pack", image_folder, tmp_path / "out", "--splits", "val", name]
        code, _, error = call(capsys, *words)
        assert code == 2 and error.startswith(f"error: split {name!r}: expected the name of a")
    bad = tmp_path / os.fsdecode(b"bad\xff")
    write_images(bad, 2, 2)
    with pytest.raises(ConfigError, match="is not UTF-8.*; rename the folder"):
        quiet_pack(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_told(image_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, error = call(capsys, "pack", image_folder, tmp_path / "file/out", "--workers", 1)
    assert code == 4 and "cannot be written: Not a directory" in error
    code, _, error = call(capsys, "pack", tmp_path / "nothing", tmp_path / "out")
    assert code == 4 and "there is no folder" in error
    assert call(capsys, "pack", image_folder)[0] == 2
    assert call(capsys, "pack", image_folder, "--verify", tmp_path)[0] == 2
    assert call(capsys, "pack", image_folder, tmp_path / "out", "--quality", 101)[0] == 2
