"""Training lists bad images and continues, evaluation reports them; all read the same pixels."""

import csv
import os
from pathlib import Path

import image_files
import mindspore.dataset as ds
import numpy as np
import pytest
from conftest import write_images
from mindspore.dataset import vision

from mindcv.classifier import read_image
from mindcv.data import (
    EpochBatches,
    Preprocessing,
    create_dataset,
    create_evaluation_loader,
    create_loader,
    create_transforms,
    open_samples,
)
from mindcv.data import rows as rows_module
from mindcv.data.bad_images import BadImages
from mindcv.data.failure import pipeline_failures_as_data_errors
from mindcv.data.image_files import decode
from mindcv.engine import EvaluationStep, evaluate, start_runtime
from mindcv.errors import DataError

UNUSABLE = {
    "a0-byte.jpg": "empty",
    "atext.jpg": "not an image (text file)",
    "aheader.jpg": "damaged image",
    "abody.jpg": "damaged image: image file is truncated",
    "acrc.png": "wrong checksum",
    "abomb.jpg": "too large: its header says 60000 x 60000",
    "adangling.jpg": "No such file",
    "aunreadable.jpg": "Too many levels of symbolic links",  # root may read all that is a file
}
USABLE = {
    "bcmyk.jpg": "CMYK",
    "b16.png": "16-bit",
    "bpalette.png": "palette+alpha",
    "b1.png": "1-bit",
    "banimated.gif": "animated gif",
    "brotated.jpg": "EXIF-rotated",
    "bone.jpg": "1x1 jpeg",
}
NO_UTF8 = b"c\xff\xe9.jpg"


def write_all_kinds(folder: Path) -> None:
    """Write one file of each kind into a class folder."""
    bad = image_files.bad_files()
    odd = image_files.odd_files() | image_files.plain_files()
    for name, kind in zip(
        UNUSABLE,
        ["0-byte", "text", "truncated header", "truncated body", "bad CRC", "decompression bomb"],
    ):
        (folder / name).write_bytes(bad[kind][0])
    (folder / "adangling.jpg").symlink_to("nowhere.jpg")
    (folder / "aunreadable.jpg").symlink_to("aunreadable.jpg")
    for name, kind in USABLE.items():
        (folder / name).write_bytes(odd[kind])
    Path(os.fsdecode(os.path.join(os.fsencode(folder), NO_UTF8))).write_bytes(odd["jpeg"])
    (folder / "x.jpg").mkdir()


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    """Folders of good training and validation images, with one bad image of each kind."""
    root = tmp_path_factory.mktemp("odd")
    for split in ("train", "val"):
        write_images(root / split, 12, 2)
        write_all_kinds(root / split / "class_0")
    return root


def names_in(dataset) -> list[str]:
    samples = dataset.source.samples
    return [Path(samples.name(index)).name for index in range(len(samples))]


def pixels(loader) -> list[np.ndarray]:
    rows = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
    return [image for batch in rows for image in batch[0]]


def test_each_kind_is_decoded_or_replaced_by_the_next_good_image(odd_folder, tmp_path):
    file = tmp_path / "bad_images.csv"
    dataset = create_dataset(
        "", str(odd_folder), "train", False, max_bad_fraction=0.5, bad_images_file=file
    )
    names = names_in(dataset)
    assert set(names) >= {*UNUSABLE, *USABLE, r"c\xff\xe9.jpg"} and "x.jpg" not in names
    resize = vision.Resize((8, 8))
    found = pixels(create_loader(dataset, 4, transform=[vision.Decode(), resize]))
    read = dataset.source.indices.tolist()
    assert len(found) == len(names) == 28
    for place in range(len(names)):
        following = next(k for k in range(place, len(names)) if names[k] not in UNUSABLE)
        assert read[place] == following
        image = decode(dataset.source.samples.read(following))
        assert np.array_equal(found[place], resize(np.asarray(image)))
    with open(file, encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [Path(row["path"]).name for row in rows] == [n for n in names if n in UNUSABLE]
    assert [int(row["index"]) for row in rows] == [names.index(Path(r["path"]).name) for r in rows]
    assert [row["count"] for row in rows] == [str(count) for count in range(1, 9)]
    for row in rows:
        assert UNUSABLE[Path(row["path"]).name] in row["error"]


def test_training_crops_each_kind(odd_folder):
    dataset = create_dataset("", str(odd_folder), "train", True, max_bad_fraction=0.5)
    loader = create_loader(dataset, 28, is_training=True, transform=None)
    (image, label), *others = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
    assert len(image) == len(label) == 28 and not others


def test_training_evaluation_and_prediction_see_the_same_pixels(odd_folder):
    samples = open_samples("", str(odd_folder), "val")
    loader = create_evaluation_loader(samples, Preprocessing(24), 5, allow_bad_images=True)
    operations = create_transforms(image_resize=24, normalize_on_device=True)
    dataset = create_dataset("", str(odd_folder), "val", False)
    images, labels = map(
        np.concatenate, zip(*loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
    )
    names, samples = names_in(dataset), dataset.source.samples
    assert [name for name, label in zip(names, labels) if label < 0] == sorted(UNUSABLE)
    for place, label in enumerate(labels):
        path = os.fsdecode(samples.path(place))
        if label < 0:
            with pytest.raises(DataError):
                read_image(path, operations)
            assert not images[place].any()
        else:
            assert label == samples.labels[place]
            assert np.array_equal(read_image(path, operations), images[place])
            crop = vision.Resize(27)(np.asarray(decode(samples.read(place))))
            assert np.array_equal(images[place], vision.CenterCrop(24)(crop))


def test_train_finishes_over_all_kinds_and_lists_the_bad(warm, odd_folder, tiny_models, tmp_path):
    words = {
        "import_module": tiny_models,
        "model": "tiny",
        "data_dir": odd_folder,
        "image_resize": 32,
        "batch_size": 7,
        "epoch_size": 2,
        "warmup_epochs": 0,
        "val_while_train": True,
        "allow_bad_images": True,
        "ckpt_save_dir": tmp_path / "run",
    }
    arguments = [str(word) for key, value in words.items() for word in (f"--{key}", value)]
    done = warm.run(["train.py", *arguments, "--max_bad_fraction", 0.5], tmp_path)
    assert done.code == 0, done.err
    with open(tmp_path / "run/bad_images.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert sorted(Path(row["path"]).name for row in rows) == sorted(UNUSABLE)
    assert done.out.count("8 of 28 images are bad and left out") == 2
    assert not list(tmp_path.glob("*abnormal*")) and not list(tmp_path.glob("*unsupported*"))
    log = (tmp_path / "run/train.log").read_text(encoding="utf-8")
    assert "6 images are bad; those from here on are listed in" in log

    # Too many, by the default: the run stops with the list.
    arguments[-1] = str(tmp_path / "other")
    done = warm.run(["train.py", *arguments], tmp_path)
    assert done.code == 4
    assert "images is bad (3.57%, 1.00% are allowed)" in done.err
    assert "bad_images.csv lists those" in done.err and "max_bad_fraction" in done.err
    assert (tmp_path / "other/bad_images.csv").exists()

    # In an evaluation each one is an error, unless allowed as above.
    options = [*arguments[:2], "--data_dir", odd_folder, "--batch_size", 7]
    options += ["--ckpt_path", next((tmp_path / "run").glob("tiny-2*.ckpt"))]
    done = warm.run(["validate.py", *options], tmp_path)
    assert done.code == 4
    assert "a0-byte.jpg (" in done.err and "allow_bad_images" in done.err


def test_left_out_images_do_not_count(tmp_path):
    write_images(tmp_path / "good", 10, 2)
    write_images(tmp_path / "bad", 10, 2)
    for name in ("aaa.jpg", "zzz.jpg"):
        (tmp_path / "bad/class_1" / name).write_bytes(b"nothing")

    class Mean(EvaluationStep):
        def __init__(self):
            super().__init__(lambda image: image.mean((1, 2))[:, :2].astype("float32") / 50, 2)

    runtime, results = start_runtime(1), []
    for split in ("good", "bad"):
        samples = open_samples("", str(tmp_path), split)
        loader = create_evaluation_loader(samples, Preprocessing(24), 4, allow_bad_images=True)
        results.append(evaluate(Mean(), loader, 4, runtime))
    assert results[0].images == results[1].images == 10
    assert results[0].top1 == results[1].top1
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-6)


@pytest.fixture
def broken_folder(tmp_path):
    """24 images; two are bad despite correct checksums, which only decoding shows."""
    write_images(tmp_path / "train", 24, 2)
    for name in ("class_0/0008.jpg", "class_1/0017.jpg"):
        (tmp_path / "train" / name).write_bytes(image_files.png_with_broken_pixels())
    return tmp_path


def epoch_batches(folder: Path, known=(), **options) -> tuple[EpochBatches, BadImages]:
    dataset = create_dataset(
        "",
        str(folder),
        "train",
        True,
        num_parallel_workers=2,
        **{"max_bad_fraction": 0.5} | options,
    )
    for index in known:
        dataset.source.bad.add(index, "known", "before")

    def loader(rows):
        transform = create_transforms(
            image_resize=16, is_training=True, color_jitter=0.4, normalize_on_device=True
        )
        return create_loader(rows, 4, transform=transform, num_parallel_workers=2)

    return EpochBatches(dataset, loader, 4), dataset.source.bad


def epochs_of(batches: EpochBatches, *_) -> list[tuple[np.ndarray, ...]]:
    return [batch for epoch in range(2) for batch in batches.epoch(epoch)]


def test_an_image_that_only_decoding_shows_to_be_bad_is_replaced_as_if_it_was_known(
    broken_folder, fixed_seed
):
    batches, bad = epoch_batches(broken_folder)
    found = epochs_of(batches, bad)
    assert sorted(Path(name).name for name in bad.names.values()) == ["0008.jpg", "0017.jpg"]
    assert all("damaged image" in reason for reason in bad.reasons.values())
    known = epochs_of(*epoch_batches(broken_folder, known=sorted(bad.reasons)))
    again = epochs_of(*epoch_batches(broken_folder))
    assert len(found) == 12
    for one, other, third in zip(found, known, again, strict=True):
        for part, expected, repeated in zip(one, other, third):
            assert np.array_equal(part, expected) and np.array_equal(part, repeated)
    # Also where an epoch begins in its middle, and the steps before are only replayed.
    late = list(epoch_batches(broken_folder)[0].epoch(0, 4))
    for one, other in zip(late, found[4:6], strict=True):
        assert np.array_equal(one[0], other[0])


def test_evaluation_finds_those_too(broken_folder):
    samples = open_samples("", str(broken_folder), "train")
    loader = create_evaluation_loader(samples, Preprocessing(24), 4, allow_bad_images=True)
    for _ in range(2):
        batches = loader.create_tuple_iterator(num_epochs=1, output_numpy=True)
        labels = np.concatenate([label for _, label in batches])
        assert np.flatnonzero(labels < 0).tolist() == [4, 20] and len(labels) == 24
    loader = create_evaluation_loader(samples, Preprocessing(24), 4)
    named = "0008.jpg .*damaged image.* allow_bad_images"
    with pytest.raises(DataError, match=named), pipeline_failures_as_data_errors(loader):
        list(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))


def test_too_many_of_those_stop_the_run(broken_folder):
    with pytest.raises(DataError, match="of 24 images (is|are) bad .*damaged image"):
        epochs_of(*epoch_batches(broken_folder, max_bad_fraction=0.01))


def test_a_copy_that_mindspore_leaves_is_removed(broken_folder, monkeypatch):
    (broken_folder / "train/class_0/0008.jpg").write_bytes(
        image_files.bad_files()["truncated body"][0]
    )
    monkeypatch.setattr(rows_module, "decodable", lambda content: content)  # a check that misses it
    monkeypatch.chdir(broken_folder)
    batches, bad = epoch_batches(broken_folder)
    assert len(epochs_of(batches, bad)) == 12 and len(bad.reasons) == 2
    assert os.listdir() == ["train"]
    # A file of that name that was there before stays.
    Path("abnormal_image.jpg").write_bytes(b"mine")
    epochs_of(*epoch_batches(broken_folder))
    assert Path("abnormal_image.jpg").exists()


def test_another_failure_of_the_pipeline_is_told_as_it_is(image_folder):
    def fail(image):
        raise ZeroDivisionError("my own mistake")

    dataset = create_dataset("", str(image_folder), "train", max_bad_fraction=1.0)
    batches = EpochBatches(dataset, lambda rows: rows.map(fail, "image").batch(4), 4)
    with pytest.raises(RuntimeError, match="my own mistake"):
        list(batches.epoch(0))
    assert not dataset.source.bad.reasons


def test_one_bad_image_of_twenty_is_too_many(tmp_path):
    write_images(tmp_path / "train", 19, 1)
    (tmp_path / "train/class_0/bad.png").write_bytes(b"")
    loader = create_loader(create_dataset("", str(tmp_path), max_bad_fraction=0.01), 5)
    with pytest.raises(RuntimeError, match=r"1 of 20 images is bad \(5.00%, 1.00% are allowed\)"):
        pixels(loader)


def test_where_no_image_can_be_read_the_first_tells_why(tmp_path):
    image_files.write_files(tmp_path / "train/a", one=b"", two=b"")
    rows = create_dataset("", str(tmp_path), shuffle=False, max_bad_fraction=1.0).source
    with pytest.raises(DataError, match="none of the 2 images .*a/one.jpg: empty file; .*scan"):
        next(iter(rows))


def test_a_dataset_on_its_own_stops_at_the_first_bad_image(odd_folder):
    dataset = create_dataset("", str(odd_folder), "train", False)
    with pytest.raises(RuntimeError, match="a0-byte.jpg"):
        list(dataset.create_tuple_iterator(num_epochs=1))
    assert isinstance(dataset, ds.Dataset)
