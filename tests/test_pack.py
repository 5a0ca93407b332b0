"""Packed datasets: what goes in comes out, through our reader and MindSpore's own."""

import csv
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from commands import call
from conftest import ROOT, run_command, write_images
from mindspore.mindrecord import FileWriter
from pictures import batches_of
from PIL import Image

from mindcv.data import create_dataset, create_loader, create_transforms
from mindcv.data.folder_samples import FolderSamples
from mindcv.data.mindrecord_samples import MindRecordSamples
from mindcv.errors import ConfigError, DataError
from mindcv.packing import pack, verify
from mindcv.packing import shard as shard_module


def quiet_pack(source, out, **options):
    return pack(str(source), str(out), workers=1, tell=lambda line: None, **options)


@pytest.fixture(scope="module")
def packed(image_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "set"
    quiet_pack(image_folder, out, shards=3)
    return out


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory) -> Path:
    """60 JPEGs that do not compress: 1.5 MB, many pages of the size that a test sets."""
    root, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(5)
    for index in range(60):
        place = root / "train" / f"class_{index % 4}"
        place.mkdir(parents=True, exist_ok=True)
        side = int(rng.integers(20, 190))
        image = rng.integers(0, 256, (side, side + 7, 3), np.uint8)
        Image.fromarray(image).save(place / f"{index}.jpg", quality=95)
    return root


def rows_of_mindspore(paths) -> list[tuple[bytes, int]]:
    files = [str(path) for path in paths]
    rows = ds.MindDataset(files, ["image", "label"], shuffle=False)
    rows = rows.create_dict_iterator(num_epochs=1, output_numpy=True)
    return [(row["image"].tobytes(), int(row["label"])) for row in rows]


def rows_of_samples(samples) -> list[tuple[bytes, int]]:
    return [(samples.read(i).tobytes(), int(samples.labels[i])) for i in range(len(samples))]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_every_image_comes_back_with_its_bytes_label_and_name(image_folder, tmp_path, shards):
    told = quiet_pack(image_folder, tmp_path / "out", shards=shards)
    for split, images in (("train", 48), ("val", 11)):
        plain = FolderSamples(image_folder / split)
        samples = MindRecordSamples(str(tmp_path / "out"), split)
        assert len(list((tmp_path / "out" / split).glob("*.mindrecord"))) == shards
        assert len(samples) == images == told.splits[split].images
        assert rows_of_samples(samples) == rows_of_samples(plain)
        assert samples.class_names == plain.class_names and samples.num_classes == 6
        assert samples.fingerprint() == plain.fingerprint()
        for index in range(images):
            assert plain.name(index) == str(image_folder / samples.name(index))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset.json", "train", "val"}


@pytest.mark.parametrize("shards", [1, 3])
def test_mindspores_own_reader_gives_the_same_rows(noise_folder, tmp_path, monkeypatch, shards):
    monkeypatch.setattr(shard_module, "_PAGE_BYTES", 1 << 15)
    quiet_pack(noise_folder, tmp_path / "first place", shards=shards)
    (tmp_path / "first place").rename(tmp_path / "out")
    samples = MindRecordSamples(str(tmp_path / "out"), "train")
    files = sorted((tmp_path / "out/train").glob("*.mindrecord"))
    assert len(files) == shards
    header = files[0].read_bytes()[8:100_000]
    assert header.count(b'"BLOB_DATA"') > 3  # rows lie in several pages
    theirs = [row for file in files for row in rows_of_mindspore([file])]
    assert (
        theirs == rows_of_samples(samples) == rows_of_samples(FolderSamples(noise_folder / "train"))
    )
    assert sorted(rows_of_mindspore(files)) == sorted(theirs)  # all files at once


def test_threads_that_read_at_random_get_what_one_reader_gets(packed):
    samples = MindRecordSamples(str(packed), "train")
    expected = rows_of_samples(samples)
    order = np.random.default_rng(0).integers(0, len(samples), 3000)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(samples.read, order))
    assert all(data.tobytes() == expected[i][0] for i, data in zip(order, read))


@pytest.mark.parametrize("training", [True, False])
def test_pixels_are_those_of_the_plain_files(image_folder, packed, fixed_seed, training):
    def batches(name, root):
        dataset = create_dataset(name, str(root), "train" if training else "val", training)
        transform = create_transforms(
            name, 64, is_training=training, color_jitter=0.4 if training else None
        )
        loader = create_loader(dataset, 8, is_training=training, transform=transform)
        return batches_of(loader)

    plain, ours = batches("imagenet", image_folder), batches("mindrecord", packed)
    assert len(plain) == len(ours) == (6 if training else 2)
    for expected, found in zip(plain, ours):
        np.testing.assert_array_equal(found["image"], expected["image"])
        np.testing.assert_array_equal(found["label"], expected["label"])


def test_shards_of_the_processes_cover_a_split_once(packed):
    parts = [
        create_dataset("mindrecord", str(packed), "val", False, num_shards=4, shard_id=shard)
        for shard in range(4)
    ]
    rows = [row[0].tobytes() for part in parts for row in iterate(part)]
    samples = MindRecordSamples(str(packed), "val")
    assert sorted(rows) == sorted(samples.read(index).tobytes() for index in range(11))


def iterate(dataset):
    return dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)


def test_training_and_validation_give_the_numbers_of_the_plain_folder(
    short_run, packed, image_folder, tmp_path
):
    short_run[short_run.index("--epoch_size") + 1] = "2"
    short_run[short_run.index("--shuffle") + 1] = "True"
    tables = []
    for dataset, root in (("imagenet", image_folder), ("mindrecord", packed)):
        other = {str(image_folder): str(root), str(tmp_path / "run"): str(tmp_path / dataset)}
        words = [other.get(word, word) for word in short_run] + ["--dataset", dataset]
        done = run_command("train.py", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with open(tmp_path / dataset / "metrics.csv", newline="") as file:
            tables.append(list(csv.DictReader(file)))
    for expected, found in zip(*tables, strict=True):
        assert {"train_loss", "val_loss", "val_top1"} < set(expected)
        assert found == expected
    weights = tmp_path / "imagenet/tiny_best.ckpt"
    words = ["--dataset", "mindrecord", "--data_dir", packed, "--ckpt_path", weights]
    words += ["--import_module", short_run[1], "--batch_size", 8, "--image_resize", 32]
    checked = run_command("validate.py", *words, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    best = max(float(row["val_top1"]) for row in tables[0])
    assert float(re.search(r"'Top_1_Accuracy': ([\d.]+)", checked.stdout)[1]) == pytest.approx(best)


def test_a_split_that_lacks_a_class_has_the_numbers_of_the_training(tmp_path):
    write_images(tmp_path / "data/train", 8, 4)
    write_images(tmp_path / "data/val", 8, 4)
    shutil.rmtree(tmp_path / "data/val/class_1")
    quiet_pack(tmp_path / "data", tmp_path / "out")
    samples = MindRecordSamples(str(tmp_path / "out"), "val")
    assert sorted(set(samples.labels.tolist())) == [0, 2, 3]
    assert samples.class_names == ("class_0", "class_1", "class_2", "class_3")
    other = {"class_3": 0, "class_2": 1, "class_0": 2, "new": 3}
    samples = MindRecordSamples(str(tmp_path / "out"), "val", other)
    assert samples.labels.tolist() == [2, 2, 1, 1, 0, 0] and samples.num_classes == 4
    with pytest.raises(DataError, match="not in the training set: class_2"):
        MindRecordSamples(str(tmp_path / "out"), "val", {"class_0": 0, "class_3": 1})
    (tmp_path / "data/val/class_9").mkdir()
    shutil.copy(next((tmp_path / "data/train/class_0").iterdir()), tmp_path / "data/val/class_9")
    with pytest.raises(DataError, match="class_9"):
        quiet_pack(tmp_path / "data", tmp_path / "other")


def test_a_folder_of_classes_is_one_split_though_a_class_be_called_train(tmp_path, capsys):
    write_images(tmp_path / "toys", 4, 2)
    (tmp_path / "toys/class_0").rename(tmp_path / "toys/train")
    code, out, _ = call(capsys, "pack", tmp_path / "toys", tmp_path / "out", "--workers", 1)
    assert code == 0 and "out/toys: 4 images of 2 classes in 1 shards" in out
    assert MindRecordSamples(str(tmp_path / "out"), "toys").class_names == ("class_1", "train")
    with pytest.raises(DataError, match="holds the splits toys; not 'train'"):
        create_dataset("mindrecord", str(tmp_path / "out"), "train")


def test_names_may_be_any_bytes(tmp_path):
    folder = os.fsencode(tmp_path / "data/train") + b"/cl\xe9"
    os.makedirs(folder)
    with open(folder + b"/caf\xe9 \xc3\xa4.JPG", "wb") as file:
        Image.new("RGB", (9, 8)).save(file, "JPEG")
    quiet_pack(tmp_path / "data", tmp_path / "out")
    samples = MindRecordSamples(str(tmp_path / "out"), "train")
    assert samples.class_names == (os.fsdecode(b"cl\xe9"),)
    assert samples.name(0) == "train/cl\\xe9/caf\\xe9 ä.JPG"
    assert samples.fingerprint() == FolderSamples(tmp_path / "data/train").fingerprint()


def start_pack(source: Path, out: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "mindcv", "pack", source, out, "--shards", 12, "--workers", 2]
    return subprocess.Popen(
        [*map(str, words), "--cap", "30"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory) -> Path:
    """24 photographs of a megapixel: shards take long enough to be interrupted."""
    root = tmp_path_factory.mktemp("slow")
    write_images(root / "train", 24, 2)
    for path in root.rglob("*.jpg"):
        Image.open(path).resize((1200, 900)).save(path, quality=92)
    return root


@pytest.fixture(scope="module")
def undisturbed(slow_folder, tmp_path_factory):
    return quiet_pack(slow_folder, tmp_path_factory.mktemp("fresh") / "out", cap=30, shards=12)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_where_it_was(slow_folder, undisturbed, tmp_path, how):
    out = tmp_path / "out"
    process = start_pack(slow_folder, out)
    deadline = time.time() + 120
    while len(list((out / ".pack").glob("train-*.json"))) < 2 and time.time() < deadline:
        time.sleep(0.02)
    if how == signal.SIGKILL:
        process.kill()  # the process alone: those that it started must notice
    else:
        os.killpg(process.pid, how)  # a terminal sends ctrl-C to all
    _, told = process.communicate(timeout=60)
    assert not (out / "dataset.json").exists(), "it was too fast to be interrupted"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert told.endswith("the same command goes on\nstopped by the user\n")
        assert "Traceback" not in told
        assert not [path for path in (out / ".pack").iterdir() if path.is_dir()]
    with pytest.raises(DataError, match="not finished"):
        verify(str(out))
    with pytest.raises(DataError, match="not finished; the same pack command goes on"):
        create_dataset("mindrecord", str(out), "train")
    time.sleep(1)  # what still runs would go on writing
    finished = sorted((out / ".pack").glob("train-*.json"))
    shards = [out / json.loads(path.read_bytes())["shard"]["file"] for path in finished]
    assert 2 <= len(shards) < 12
    flip_a_byte(shards[0])
    before = {path: path.stat().st_mtime_ns for path in shards}
    lines = []
    again = pack(str(slow_folder), str(out), cap=30, shards=12, workers=1, tell=lines.append)
    assert f"{len(shards) - 1} of 12 shards" in lines[0]
    kept = [path for path in shards if path.stat().st_mtime_ns == before[path]]
    assert kept == shards[1:]
    # The same files as of a run that nothing disturbed, in one process.
    assert again == undisturbed == verify(str(out))


def flip_a_byte(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) - 100 if place is None else place] ^= 255
    path.write_bytes(content)


def test_other_options_and_other_images_are_refused(image_folder, copy, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    shutil.rmtree(tmp_path / "copy")
    words = ["pack", source, tmp_path / "copy", "--shards", 3, "--workers", 1]
    assert call(capsys, *words)[0] == 0
    stamps = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    code, out, _ = call(capsys, *words)
    assert code == 0 and "packed already: nothing to do" in out
    code, _, error = call(capsys, *words, "--cap", 50)
    assert code == 2 and "'cap': None" in error and "'cap': 50" in error
    changed = next((source / "train/class_3").iterdir())
    os.utime(changed, ns=(1, 1))
    code, _, error = call(capsys, *words)
    assert code == 4 and "the images changed since" in error and str(copy) in error
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == stamps


def test_a_folder_with_something_else_in_it_is_left_alone(image_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"not empty \(thesis\.tex\)"):
        quiet_pack(image_folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="one inside the other"):
        quiet_pack(image_folder, image_folder / "train/packed")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damage", ["missing", "cut", "another's", "no index", "empty"])
def test_shards_that_are_not_whole_are_named_at_once(copy, capsys, damage):
    shard = copy / "train/00001.mindrecord"
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        os.truncate(shard, shard.stat().st_size - 5)
    elif damage == "another's":
        shutil.copy(copy / "val/00001.mindrecord", shard)
    elif damage == "no index":
        shard.with_name("00001.mindrecord.db").unlink()
    else:
        shard.write_bytes(b"")
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"train/00001\.mindrecord") as caught:
        create_dataset("mindrecord", str(copy), "train")
    assert time.perf_counter() - start < 1 and caught.value.exit_code == 4
    assert create_dataset("mindrecord", str(copy), "val").get_dataset_size() == 11
    code, _, error = call(capsys, "pack", "--verify", copy)
    assert code == 4 and "1 of 6 shards" in error and str(shard) in error


def test_a_changed_byte_is_found_by_its_hash(copy, capsys):
    assert call(capsys, "pack", "--verify", copy)[0] == 0
    flip_a_byte(copy / "val/00002.mindrecord")
    flip_a_byte(copy / "train/00000.mindrecord.db")
    code, _, error = call(capsys, "pack", "--verify", copy)
    assert code == 4 and "2 of 6 shards" in error
    assert "val/00002.mindrecord is damaged" in error and "00000.mindrecord.db is damaged" in error


def test_a_damaged_row_ends_the_reading_with_the_name_of_the_file(copy):
    samples = MindRecordSamples(str(copy), "train")
    file = samples._files[1]
    flip_a_byte(file.path, int(file._offsets[3]))
    with pytest.raises(DataError, match=r"train/00001\.mindrecord is damaged or cut at row 3"):
        for index in range(len(samples)):
            samples.read(index)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is damaged"),
        ('{"a": 1}', "was not written by"),
        ('{"format": "mindcv packed dataset", "version": 2}', "version 2, this library reads 1"),
        ('{"format": "mindcv packed dataset", "version": 1}', "is damaged: KeyError"),
    ],
)
def test_a_dataset_file_of_another_kind_is_refused(copy, content, message):
    (copy / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message):
        create_dataset("mindrecord", str(copy), "train")


def picture(path: Path, size, mode="RGB", **options) -> None:
    rng = np.random.default_rng(size[0])
    shape = (size[1], size[0], *{"RGB": (3,), "CMYK": (4,), "L": ()}.get(mode, ()))
    values = rng.integers(0, 256, (5, 6, *shape[2:]), np.uint8)
    image = Image.fromarray(values, mode).resize(size, Image.BILINEAR)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def test_a_cap_makes_larger_images_smaller_and_touches_no_other(tmp_path):
    folder = tmp_path / "data/train/a"
    sizes = {
        "wide.jpg": (300, 100),
        "tall.png": (81, 333),
        "even.jpg": (80, 80),
        "tiny.bmp": (9, 4),
    }
    for name, size in sizes.items():
        picture(folder / name, size)
    picture(folder / "cmyk.jpg", (200, 160), "CMYK")
    Image.fromarray(np.full((170, 160), 40000, np.uint16)).save(folder / "deep.png")
    picture(folder / "small cmyk.jpg", (70, 60), "CMYK")
    quiet_pack(tmp_path / "data", tmp_path / "out", cap=80, quality=75)
    samples = MindRecordSamples(str(tmp_path / "out"), "train")
    read = {Path(samples.name(i)).name: samples.read(i).tobytes() for i in range(len(samples))}
    for name in ("even.jpg", "tiny.bmp", "small cmyk.jpg"):
        assert read[name] == (folder / name).read_bytes()
    expected = {"wide.jpg": (240, 80), "tall.png": (80, 329), "cmyk.jpg": (100, 80)}
    for name, size in expected.items():
        image = Image.open(io.BytesIO(read[name]))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
        table = io.BytesIO()
        Image.new("RGB", (8, 8)).save(table, "JPEG", quality=75)
        assert image.quantization == Image.open(table).quantization
        original = Image.open(folder / name).convert("RGB").resize(size, Image.BICUBIC)
        error = np.abs(np.asarray(image, float) - np.asarray(original, float)).mean()
        assert error < 4, name
    deep = np.asarray(Image.open(io.BytesIO(read["deep.png"])))
    assert deep.shape == (85, 80, 3) and abs(deep.mean() - 40000 / 257) < 2


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
    assert code == 0 and "val: 11 images" in out and "2 bad ones left out" in out
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


def test_a_full_disk_ends_the_run_and_passes_nothing_for_whole(noise_folder, tmp_path, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written.*MB are free.*goes on") as caught:
            quiet_pack(noise_folder, tmp_path / "out", shards=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 4
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == [".pack", "plan.json"]
    quiet_pack(noise_folder, tmp_path / "out", shards=2)
    assert len(verify(str(tmp_path / "out")).splits["train"].shards) == 2


def test_a_place_that_cannot_be_written_is_told(image_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, error = call(capsys, "pack", image_folder, tmp_path / "file/out", "--workers", 1)
    assert code == 4 and "cannot be written: Not a directory" in error
    code, _, error = call(capsys, "pack", tmp_path / "nothing", tmp_path / "out")
    assert code == 4 and "there is no folder" in error
    assert call(capsys, "pack", image_folder)[0] == 2
    assert call(capsys, "pack", image_folder, "--verify", tmp_path)[0] == 2
    assert call(capsys, "pack", image_folder, tmp_path / "out", "--quality", 101)[0] == 2


def write_foreign(path: Path, schema: dict, rows: list[dict], shards: int = 1, index=None) -> None:
    writer = FileWriter(str(path), shards)
    writer.add_schema(schema, "somebody else's")
    if index:
        writer.add_index(index)
    writer.write_raw_data(rows)
    writer.commit()


@pytest.mark.parametrize(
    "column, kind, shards, index",
    [
        ("image", "int32", 1, None),
        ("data", "int64", 3, ["file_name", "label"]),
        ("data", "int32", 2, ["file_name"]),
    ],
)
def test_files_of_others_are_read_as_mindspore_reads_them(tmp_path, column, kind, shards, index):
    rng = np.random.default_rng(3)
    rows = [
        {column: rng.bytes(int(size)), "label": index % 5, "file_name": f"{index}.jpg"}
        for index, size in enumerate(rng.integers(1, 5000, 50))
    ]
    schema = {column: {"type": "bytes"}, "label": {"type": kind}, "file_name": {"type": "string"}}
    write_foreign(tmp_path / "train.mindrecord", schema, rows, shards, index)
    samples = MindRecordSamples(str(tmp_path), "train")
    files = sorted(path for path in tmp_path.iterdir() if path.suffix != ".db")
    assert len(files) == shards
    theirs = [
        (row[column].tobytes(), int(row["label"]))
        for file in files
        for row in ds.MindDataset([str(file)], [column, "label"], shuffle=False)
        .create_dict_iterator(num_epochs=1, output_numpy=True)
    ]  # fmt: skip
    assert rows_of_samples(samples) == theirs and len(theirs) == 50
    assert samples.num_classes == 5 and samples.class_names is None
    assert samples.name(0) == f"{files[0]} row 0"
    assert len(samples.fingerprint()) == 64


@pytest.mark.parametrize(
    "schema, row",
    [
        ({"image": {"type": "bytes"}}, {"image": b"a"}),
        ({"label": {"type": "int32"}, "text": {"type": "bytes"}}, {"label": 1, "text": b"a"}),
        (
            {"image": {"type": "bytes"}, "label": {"type": "string"}},
            {"image": b"a", "label": "cat"},
        ),
        (
            {"image": {"type": "int32", "shape": [-1]}, "label": {"type": "int32"}},
            {"image": np.zeros(3, np.int32), "label": 1},
        ),
    ],
)
def test_files_of_others_without_images_and_labels_are_refused(tmp_path, schema, row):
    write_foreign(tmp_path / "train.mindrecord", schema, [row])
    with pytest.raises(DataError, match=r"train\.mindrecord has the columns .*expected one column"):
        MindRecordSamples(str(tmp_path), "train")


def test_files_that_are_no_mindrecord_are_refused(tmp_path, copy):
    (copy / "dataset.json").unlink()
    place = copy / "train/00000.mindrecord"
    good, index = place.read_bytes(), place.with_name("00000.mindrecord.db")
    for content, message in [
        (b"hello", "is no MindRecord file"),
        (bytes(64) + good[64:], "is no MindRecord file"),
        (good.replace(b'"version":"3.0"', b'"version":"4.0"'), "has MindRecord's format '4.0'"),
        (good[: len(good) // 2], "is cut"),
    ]:
        place.write_bytes(content)
        with pytest.raises(DataError, match=f"00000.mindrecord.*{message}"):
            MindRecordSamples(str(copy), "train")
    place.write_bytes(good)
    assert len(MindRecordSamples(str(copy), "train")) == 48
    shutil.copy(copy / "val/00000.mindrecord.db", index)
    with pytest.raises(DataError, match=r"00000\.mindrecord is damaged"):
        MindRecordSamples(str(copy), "train")
    index.write_bytes(b"no database")
    with pytest.raises(DataError, match="is no index of a MindRecord file"):
        MindRecordSamples(str(copy), "train")
    index.unlink()
    with pytest.raises(DataError, match=r"00000\.mindrecord\.db is missing"):
        MindRecordSamples(str(copy), "train")
    with pytest.raises(DataError, match="holds no MindRecord files of 'test'"):
        MindRecordSamples(str(copy), "test")
