"""Packed datasets: what goes in comes out, through our reader and MindSpore's own."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import call
from conftest import ROOT, wait_for_end_of_group, write_images
from packed_sets import flip_a_byte, quiet_pack, rows_of_mindspore, rows_of_samples
from PIL import Image

from mindcv.data import create_dataset
from mindcv.data.samples.folder import FolderSamples
from mindcv.data.samples.mindrecord import MindRecordSamples
from mindcv.errors import ConfigError, DataError
from mindcv.tools.pack import shard as shard_module
from mindcv.tools.pack.dataset import pack, verify


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
    assert code == 0 and "out/toys: 4 images of 2 classes in 1 shard," in out
    assert MindRecordSamples(str(tmp_path / "out"), "toys").class_names == ("class_1", "train")
    with pytest.raises(DataError, match="holds the splits toys; not 'train'"):
        create_dataset("mindrecord", str(tmp_path / "out"), "train")


def test_images_beside_the_class_folders_are_passed_over_as_in_training(image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / "source")
    for stray in ("train/stray.jpg", "train/.DS_Store.png", "val/._x.jpg", "val/stray.PNG"):
        shutil.copy(source / "train/class_0/0000.jpg", source / stray)
    packed = quiet_pack(source, tmp_path / "out")
    for split, images in (("train", 48), ("val", 11)):
        assert packed.splits[split].images == images
        samples = MindRecordSamples(str(tmp_path / "out"), split)
        assert rows_of_samples(samples) == rows_of_samples(FolderSamples(source / split))


def test_images_that_are_in_no_split_are_never_left_out_in_silence(tmp_path):
    write_images(tmp_path / "data/training", 2, 2)
    write_images(tmp_path / "data/validation", 2, 2)
    (tmp_path / "data/annotations").mkdir()
    (tmp_path / "data/.thumbnails").symlink_to("training")
    told = "data also holds images in training .*--splits validation .*pack .* with --splits data"
    with pytest.raises(DataError, match=told):
        quiet_pack(tmp_path / "data", tmp_path / "out")
    named = ["training", "validation"]
    assert list(quiet_pack(tmp_path / "data", tmp_path / "out", splits=named).splits) == named
    (tmp_path / "data/training").rename(tmp_path / "data/train")
    (tmp_path / "data/test").mkdir()
    shutil.copy(next((tmp_path / "data/train").rglob("*.jpg")), tmp_path / "data/test")
    with pytest.raises(DataError, match=r"in test \(images without class .*--splits train valid"):
        quiet_pack(tmp_path / "data", tmp_path / "other")


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
    # nice: so that the test looks before the last shard is written, on a busy machine too.
    words = ["nice", sys.executable, "-m", "mindcv", "pack", source, out, "--shards", 12]
    return subprocess.Popen(
        [*map(str, words), "--workers", "2", "--cap", "30"],
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


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT]
)
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
    wait_for_end_of_group(process.pid)  # what still runs would go on writing
    assert not (out / "dataset.json").exists(), "it was too fast to be interrupted"
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert told.endswith("the same command goes on\nstopped by the user\n")
        assert "Traceback" not in told
        assert not [path for path in (out / ".pack").iterdir() if path.is_dir()]
    with pytest.raises(DataError, match="not finished"):
        verify(str(out))
    with pytest.raises(DataError, match="not finished; the same pack command continues"):
        create_dataset("mindrecord", str(out), "train")
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


def test_other_options_and_other_images_are_refused(image_folder, tmp_path, capsys):
    source = shutil.copytree(image_folder, tmp_path / "source")
    out = tmp_path / "out"
    words = ["pack", source, out, "--shards", 3, "--workers", 1]
    assert call(capsys, *words)[0] == 0
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, told, _ = call(capsys, *words)
    assert code == 0 and "packed already: nothing to do" in told
    code, _, error = call(capsys, *words, "--cap", 50)
    assert code == 2 and "'cap': None" in error and "'cap': 50" in error
    changed = next((source / "train/class_3").iterdir())
    os.utime(changed, ns=(1, 1))
    code, _, error = call(capsys, *words)
    assert code == 4 and "the images changed since" in error and str(out) in error
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == stamps


@pytest.mark.parametrize("skipped", [0, 1])
def test_shards_that_are_missing_or_cut_are_packed_anew(image_folder, tmp_path, skipped):
    source = shutil.copytree(image_folder, tmp_path / "source")
    if skipped:
        (source / "train/class_5/9999.jpg").write_text("no image")
    out, options = tmp_path / "out", dict(shards=3, skip_bad=True)
    before = quiet_pack(source, out, **options)
    (out / "train/00000.mindrecord").unlink()
    os.truncate(out / "val/00001.mindrecord.db", 5)
    flip_a_byte(out / "val/00002.mindrecord")  # found on the way
    with pytest.raises(DataError, match="pack again"):
        create_dataset("mindrecord", str(out), "train")
    lines = []
    again = pack(str(source), str(out), workers=1, tell=lines.append, **options)
    assert "train/00000.mindrecord cannot be read" in lines[0]
    assert "val/00001.mindrecord.db is cut" in lines[0] and lines[0].endswith("packing again")
    assert lines[1].startswith(f"{3 - skipped} of 6 shards")
    assert again == before == verify(str(out)) and not (out / ".pack").exists()


def test_a_second_pack_into_the_same_folder_is_refused_and_told_of_the_first(
    image_folder, tmp_path
):
    out = tmp_path / "out"
    (out / ".pack/train-00000.1").mkdir(parents=True)
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from mindcv.checkpoint import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); print('locked', flush=True); input()\n"
    )
    words = [sys.executable, "-c", code, str(out / ".pack"), str(ROOT)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(words, **pipes) as first:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=f"^{out} is in use by process {first.pid} on .*"):
            quiet_pack(image_folder, out)
        assert (out / ".pack/train-00000.1").is_dir()
        first.kill()
    quiet_pack(image_folder, out)
    assert {path.name for path in out.iterdir()} == {"dataset.json", "train", "val"}


def test_a_folder_with_something_else_in_it_is_left_alone(image_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"not empty \(thesis\.tex\)"):
        quiet_pack(image_folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="one contains the other"):
        quiet_pack(image_folder, image_folder / "train/packed")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


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


def test_a_full_disk_ends_the_run_and_passes_nothing_for_whole(noise_folder, tmp_path, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written.*MB are free.*goes on") as caught:
            quiet_pack(noise_folder, tmp_path / "out", shards=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 4
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == [
        ".lock", ".pack", "plan.json",
    ]  # fmt: skip
    quiet_pack(noise_folder, tmp_path / "out", shards=2)
    assert len(verify(str(tmp_path / "out")).splits["train"].shards) == 2
