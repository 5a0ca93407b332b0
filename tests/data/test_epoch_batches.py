"""The batches of a run: one epoch at a time, from any step, reported image by image."""

import csv
import json
import os
import random
import resource
import shutil
import threading
import time
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest
from pictures import random_images
from PIL import Image

from mindcv.data import (
    EpochBatches,
    create_dataset,
    create_loader,
    create_transforms,
    open_samples,
    write_class_map,
)
from mindcv.data.bad_images import BadImages
from mindcv.data.failure import pipeline_failures_as_data_errors
from mindcv.data.rows import Rows
from mindcv.engine import SampleLog
from mindcv.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("fixed_seed")

COUNT, SIZE = 26, 4  # images and batch: 6 whole steps


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("set")
    for number, image in enumerate(random_images(COUNT, 24)):
        folder = root / "train" / f"class_{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return root


PLAIN = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0)


def run_of(
    root, workers=2, shards=None, shard=None, loader=None, repeats=0, drop=True, **transform
) -> EpochBatches:
    ds.config.set_seed(42)
    rows = create_dataset("", str(root), num_shards=shards, shard_id=shard, num_aug_repeats=repeats)

    def make(rows):
        operations = create_transforms("", 24, True, normalize_on_device=True, **transform)
        arguments = dict(transform=operations, num_parallel_workers=workers, num_classes=3)
        arguments |= dict(num_shards=shards or 1, shard_id=shard or 0, **(loader or {}))
        return create_loader(rows, SIZE, drop, True, **arguments)

    return EpochBatches(rows, make, SIZE, shard or 0)


def passes(run: EpochBatches, epochs: int) -> list[list[tuple]]:
    rows = run.as_dataset().create_tuple_iterator(num_epochs=epochs, output_numpy=True)
    return [[tuple(part.copy() for part in row) for row in rows] for _ in range(epochs)]


def told_by(run: EpochBatches) -> list[tuple]:
    """Return a list that receives (epoch, step, indices) of every batch from now on."""
    told = []
    run.listeners.append(lambda *batch: told.append(batch))
    return told


def assert_equal(found: list[tuple], expected: list[tuple]) -> None:
    for one, other in zip(found, expected, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


AUGMENTED = {
    "jitter, flips, erasing": dict(color_jitter=0.4, vflip=0.5, re_prob=0.5, re_value="random"),
    "on the device": dict(
        augment_on_device=True, color_jitter=0.4, vflip=0.5, re_prob=0.5, repeats=3
    ),
    "policy, mixing": dict(
        auto_augment="autoaug-mstd0.5",
        lighting=0.1,
        loader=dict(mixup=0.8, cutmix=1.0, cutmix_prob=0.7, mixup_off_epoch=2),
    ),
    "splits": dict(
        auto_augment="augmix-m9", separate=True, loader=dict(separate=True, aug_splits=2)
    ),
    "random interpolation, randaugment, repeats": dict(
        interpolation="random", auto_augment="randaug-m9-mstd0.5-inc1", re_prob=0.5, repeats=3
    ),
}


@pytest.mark.parametrize("how", AUGMENTED)
def test_an_epoch_begun_at_any_step_goes_on_bit_for_bit(root, how):
    whole = passes(run_of(root, **AUGMENTED[how]), 3)
    assert [len(epoch) for epoch in whole] == [6, 6, 6]
    for epoch, step in ((0, 2), (1, 5), (2, 0)):
        run = run_of(root, **AUGMENTED[how])
        run.start(epoch, step)
        found = passes(run, 3 - epoch)
        assert_equal(sum(found, []), whole[epoch][step:] + sum(whole[epoch + 1 :], []))
    # They would be equal too if nothing were drawn.
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(whole[0], whole[1]))


def test_the_order_does_not_depend_on_the_workers_and_each_image_comes_once(root):
    runs = [run_of(root, workers, drop=False, **PLAIN) for workers in (1, 2)]
    told = [told_by(run) for run in runs]
    one, two = (passes(run, 2) for run in runs)
    for epoch in (0, 1):
        assert_equal(one[epoch], two[epoch])
    places = [[epoch, step] for epoch in (0, 1) for step in range(7)]
    for those in told:
        assert [place for *place, _ in those] == places
    read = [[indices.tolist() for _, _, indices in those] for those in told]
    assert read[0] == read[1]
    assert sorted(sum(read[0][:7], [])) == sorted(sum(read[0][7:], [])) == list(range(COUNT))
    assert read[0][:7] != read[0][7:]


def test_the_images_of_a_batch_are_those_that_are_told(root):
    run = run_of(root, drop=False, **PLAIN)
    told = told_by(run)
    samples = open_samples("", str(root))
    for (images, labels), (_, _, indices) in zip(passes(run, 1)[0], told, strict=True):
        images = images if images.shape[-1] == 3 else images.transpose(0, 2, 3, 1)
        assert labels.tolist() == samples.labels[indices].tolist()
        for image, index in zip(images, indices):
            np.testing.assert_array_equal(image, np.asarray(Image.open(samples.name(index))))


def test_shards_read_different_images_and_draw_differently(root):
    runs = [run_of(root, shards=2, shard=shard, drop=False, **PLAIN) for shard in (0, 1)]
    told = [told_by(run) for run in runs]
    for run in runs:
        passes(run, 1)
    mine, other = (np.concatenate([indices for _, _, indices in those]) for those in told)
    assert sorted([*mine, *other]) == list(range(COUNT))
    drawn = [run_of(root, shards=1, shard=0, color_jitter=0.4).epoch(0) for _ in (0, 1)]
    assert_equal(list(drawn[0]), list(drawn[1]))


def test_other_pipelines_and_generators_are_not_disturbed_nor_disturb(root):
    def options():
        return AUGMENTED["jitter, flips, erasing"]

    expected = passes(run_of(root, **options()), 2)
    run = run_of(root, **options())
    dataset = run.as_dataset()
    random.seed(5), np.random.seed(6)
    state = random.getstate(), np.random.get_state()[1].tolist()
    rows = dataset.create_tuple_iterator(num_epochs=2, output_numpy=True)
    found = []
    for _ in range(2):
        for row in rows:
            found.append(tuple(part.copy() for part in row))
            next(run.epoch(0))
            assert dataset.output_shapes()[1] == [SIZE]
            assert ds.config.get_seed() == 42
    assert_equal(found, sum(expected, []))
    assert state == (random.getstate(), np.random.get_state()[1].tolist())


def test_mindspore_learns_sizes_without_using_up_an_epoch(root):
    run = run_of(root, **PLAIN)
    dataset = run.as_dataset()
    assert dataset.get_dataset_size() == run.steps == 6
    assert [list(shape)[0] for shape in dataset.output_shapes()] == [SIZE, SIZE]
    assert dataset.output_types() == [np.uint8, np.int32]
    told = told_by(run)
    passes(run, 1)
    assert {epoch for epoch, _, _ in told} == {0}


def test_the_end_of_an_epoch_can_be_left_out(root):
    run = run_of(root, **PLAIN)
    whole = passes(run, 1)[0]
    run = run_of(root, **PLAIN)
    run.limit(4)
    assert run.as_dataset().get_dataset_size() == 4
    first, second = passes(run, 2)
    assert_equal(first, whole[:4])
    assert len(second) == 4


def count_threads() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("Threads:")[2].split()[0])


def assert_threads_end(before: int) -> None:
    give_up = time.monotonic() + 20
    while count_threads() > before and time.monotonic() < give_up:
        time.sleep(0.05)
    assert count_threads() <= before


def test_closing_ends_all_threads_in_the_middle_of_an_epoch(root):
    passes(run_of(root, **PLAIN), 1)  # some threads of MindSpore stay for ever
    before = count_threads()
    run = run_of(root, **PLAIN)
    rows = run.as_dataset().create_tuple_iterator(num_epochs=1000, output_numpy=True)
    next(rows)
    assert count_threads() > before
    run.close()
    assert_threads_end(before)


# Rows


@pytest.fixture
def holed(tmp_path) -> Path:
    """Five images; 2, 3 and the last one have no file."""
    for number, image in enumerate(random_images(5, 24)):
        folder = tmp_path / "train" / f"class_{number // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        if number in (2, 3, 4):
            (folder / f"{number}.png").symlink_to("nowhere")
        else:
            Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("workers", [1, 8])
def test_what_cannot_be_read_is_replaced_by_the_next_that_can(holed, workers):
    samples = open_samples("", str(holed))
    bad = BadImages(len(samples), 1.0)
    rows = Rows(samples, 42, num_parallel_workers=workers, bad=bad, shuffle=False)
    found = [(image.tobytes(), int(label)) for image, label in rows]
    good = [Path(samples.name(index)).read_bytes() for index in (0, 1)]
    assert found == [(good[0], 0), (good[1], 0), *[(good[0], 0)] * 3]
    assert rows.indices.tolist() == [0, 1, 0, 0, 0]
    assert bad.reasons == dict.fromkeys((2, 3, 4), "No such file or directory")


def test_images_are_read_ahead_in_order_and_reading_ends_with_the_pass(root):
    samples = open_samples("", str(root))
    plain, ahead = (Rows(samples, 42, num_parallel_workers=n, shuffle=True) for n in (1, 8))
    for _ in range(2):
        for (image, label), (same, again) in zip(plain, ahead, strict=True):
            assert image.tobytes() == same.tobytes() and label == again
    rows = iter(ahead)
    next(rows)
    assert readers()
    rows.close()
    deadline = time.monotonic() + 20
    while readers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not readers()


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mindcv-read")]


def test_an_image_that_cannot_be_read_is_named_where_the_batches_are_used(holed):
    run = run_of(holed, drop=False, **PLAIN)
    dataset = run.as_dataset()
    named = r"/class_\d/\d.png"
    with pytest.raises(DataError, match=named), pipeline_failures_as_data_errors(dataset):
        list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    with pytest.raises(DataError, match=named):
        list(run.epoch(0))
    loader = create_loader(create_dataset("", str(holed), shuffle=False), 2)
    with pytest.raises(DataError) as error, pipeline_failures_as_data_errors(loader):
        list(loader.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert f"{holed}/train/class_0/2.png" in str(error.value)


def test_passes_of_a_plain_dataset_go_on_with_the_next_epoch(root):
    def labels(rows) -> list[int]:
        return [int(row[1]) for row in rows]

    together = create_dataset("", str(root)).create_tuple_iterator(num_epochs=3, output_numpy=True)
    expected = [labels(together) for _ in range(3)]
    again = create_dataset("", str(root))
    found = [labels(again.create_tuple_iterator(num_epochs=1, output_numpy=True)) for _ in "123"]
    assert found == expected and expected[0] != expected[1]


# What is written down


@pytest.mark.parametrize("rank", [0, 1])
def test_the_log_tells_which_images_went_into_each_step(root, tmp_path, rank):
    samples = open_samples("", str(root))
    run = run_of(root, drop=False, **PLAIN)
    log = SampleLog(str(tmp_path / "log" / "samples.csv"), run, samples, rank)
    log.begin(0)
    batches = sum(passes(run, 2), [])
    for step in (1, 2, 14):  # a data sink takes many steps at once
        log.write(step)
    file = tmp_path / "log" / ("samples.rank1.csv" if rank else "samples.csv")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["step"]) for row in rows] == list(range(1, 15))
    assert [int(row["epoch"]) for row in rows] == [1] * 7 + [2] * 7
    assert {int(row["rank"]) for row in rows} == {rank}
    for row, (_, labels) in zip(rows, batches, strict=True):
        indices = list(map(int, row["indices"].split()))
        assert samples.labels[indices].tolist() == labels.tolist()
    names = tmp_path / "log" / "samples.csv.names"
    assert names.exists() == (rank == 0)
    if rank == 0:
        with names.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        for index, row in enumerate(rows):
            told = (int(row["index"]), int(row["label"]), row["path"])
            assert told == (index, samples.labels[index], samples.name(index))
        assert len(rows) == COUNT


def test_steps_that_were_not_taken_are_not_logged_and_an_older_log_is_kept(root, tmp_path):
    (tmp_path / "samples.csv").write_text("older")
    run = run_of(root, **PLAIN)
    log = SampleLog(str(tmp_path / "samples.csv"), run, open_samples("", str(root)), 0)
    log.begin(0)
    passes(run, 1)
    log.write(2)
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 3
    assert (tmp_path / "samples-1.csv").read_text() == "older"


def test_the_log_of_a_resumed_run_goes_on_behind_its_checkpoint(root, tmp_path):
    def log_of(steps_done, *steps):
        run = run_of(root, **PLAIN)
        log = SampleLog(str(tmp_path / "samples.csv"), run, open_samples("", str(root)), 0)
        log.begin(steps_done)
        run.start(0, steps_done)
        passes(run, 1)
        for step in steps:
            log.write(step)
        return (tmp_path / "samples.csv").read_bytes()

    whole = log_of(0, 1, 2, 3, 4, 5)
    with (tmp_path / "samples.csv").open("ab") as file:
        file.write(b"1,6,0,3 1")  # killed while writing
    assert log_of(2, 3, 4, 5) == whole
    assert [path.name for path in tmp_path.glob("samples*.csv")] == ["samples.csv"]


def test_names_of_the_log_are_neither_formulas_nor_commands_of_a_terminal(root, tmp_path):
    place = tmp_path / "images/train/class_0"
    place.mkdir(parents=True)
    for name in ("=HYPERLINK(1).png", "a\x1b[2J\n.png", os.fsdecode(b"\xff.png"), "plain.png"):
        shutil.copy(next(root.rglob("*.png")), place / name)
    samples = open_samples("", str(tmp_path / "images"))
    SampleLog(str(tmp_path / "log.csv"), run_of(root, **PLAIN), samples, 0)
    with (tmp_path / "log.csv.names").open(encoding="utf-8", newline="") as file:
        told = [row["path"] for row in csv.DictReader(file)]
    assert len(told) == len(samples) == 4
    assert not any("\x1b" in path or "\n" in path or path.startswith("=") for path in told)
    assert any(path.endswith(r"a\x1b[2J\n.png") for path in told)


def test_a_log_that_cannot_be_written_is_a_config_error(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="log_samples .* cannot be written"):
        SampleLog(str(tmp_path / "file" / "log.csv"), run_of(root, **PLAIN), None, 0)
    full, samples, limits = (
        tmp_path / "log.csv",
        open_samples("", str(root)),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(ConfigError, match=f"cannot be written: {full}: File too large"):
            SampleLog(str(full), run_of(root, **PLAIN), samples, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_class_map_holds_classes_images_and_a_fingerprint_of_their_names(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()

    def written() -> dict:
        write_class_map(tmp_path / "classes.json", open_samples("", str(tmp_path)))
        return json.loads((tmp_path / "classes.json").read_text())

    first = written()
    assert first["classes"] == {"cat": 0, "dog": 1}
    assert (first["num_classes"], first["images"]) == (2, 3)
    assert written() == first
    (tmp_path / "train/cat/1.jpg").rename(tmp_path / "train/cat/3.jpg")
    second = written()
    assert second.pop("fingerprint") != first.pop("fingerprint") and second == first
