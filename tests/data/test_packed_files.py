"""Packed datasets read like plain files, and as by MindSpore's own reader; damage is reported."""

import csv
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from commands import call
from conftest import run_command
from mindspore.mindrecord import FileWriter
from packed_sets import flip_a_byte, quiet_pack, rows_of_samples
from pictures import batches_of

from mindcv.data import create_dataset, create_loader, create_transforms
from mindcv.data.samples.mindrecord import MindRecordFile, MindRecordSamples
from mindcv.errors import DataError


@pytest.fixture(scope="module")
def packed(image_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "set"
    quiet_pack(image_folder, out, shards=3)
    return out


@pytest.fixture
def copy(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


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


@pytest.mark.slow
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
    found = float(re.search(r"'Top_1_Accuracy': ([\d.]+)", checked.stdout)[1])
    assert 100 * found == pytest.approx(best, abs=1e-4)


def test_the_steps_of_a_recipe_are_counted_in_packed_files(packed, capsys):
    words = ["--dataset", "mindrecord", "--data_dir", packed, "--batch_size", 5, "--epoch_size", 3]
    code, out, _ = call(capsys, "lr", *words, "--warmup_epochs", 1, "--decay_epochs", 2)
    assert code == 0 and "3 epochs of 9 steps, 27 steps" in out


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
        ('{"format": "mindcv packed dataset", "version": 1}', "is damaged: TypeError"),
    ],
)
def test_a_dataset_file_of_another_kind_is_refused(copy, content, message):
    (copy / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message):
        create_dataset("mindrecord", str(copy), "train")


@pytest.mark.parametrize("key", ["class_names", "options", "source"])
def test_a_changed_dataset_file_is_refused_by_its_own_hash(copy, capsys, key):
    path = copy / "dataset.json"
    contents = json.loads(path.read_bytes())
    if key == "class_names":
        contents[key][0] = contents[key][0].replace("c", "k")
    else:
        contents[key] = type(contents[key])()  # empty
    path.write_text(json.dumps(contents), encoding="ascii")
    code, _, error = call(capsys, "pack", "--verify", copy)
    assert code == 4 and f"{path} is damaged" in error
    with pytest.raises(DataError, match="its own hash does not match"):
        create_dataset("mindrecord", str(copy), "train")
    del contents["sha256"]  # as an older version wrote it
    path.write_text(json.dumps(contents), encoding="ascii")
    code, _, error = call(capsys, "pack", "--verify", copy)
    assert code == 4 and ("holds no hash of itself" in error)


@pytest.mark.parametrize("key", ["images", "skipped", "bytes", "index_bytes"])
def test_a_count_below_0_is_damage(copy, key):
    path = copy / "dataset.json"
    contents = json.loads(path.read_bytes())
    del contents["sha256"]
    split = contents["splits"]["val"]
    (split if key in split else split["shards"][0])[key] = -1
    path.write_text(json.dumps(contents), encoding="ascii")
    with pytest.raises(DataError, match="is damaged: TypeError .* fewer than 0 images"):
        create_dataset("mindrecord", str(copy), "val")


def test_a_damaged_name_of_the_label_column_is_told(copy):
    index = copy / "train/00001.mindrecord.db"
    content = index.read_bytes()
    index.write_bytes(content.replace(b"label_0", b"lapel_0"))
    assert index.read_bytes() != content
    with pytest.raises(DataError, match=r"00001\.mindrecord\.db is damaged: it has no column"):
        MindRecordFile(copy / "train/00001.mindrecord")


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
