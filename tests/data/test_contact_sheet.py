"""The contact sheet of augmented images, and the training that follows it."""

import re

import numpy as np
import pytest
from conftest import run_command
from pictures import batches_of, png, random_images, rows_of
from PIL import Image, ImageFont, PngImagePlugin

from mindcv import train
from mindcv.config import Config
from mindcv.data import create_loader, create_transforms, first_batch, write_contact_sheet
from mindcv.data.contact_sheet import _caption
from mindcv.engine import Runtime
from mindcv.engine import build as recipe
from mindcv.errors import ConfigError, DataError

RUNTIME = Runtime("CPU", 0, "O1", 0, 1)
NAMES = ("cat", "dog", "a class with a rather long name of many words")


def flat_images(count: int, side: int = 24) -> np.ndarray:
    """Return (count, side, side, 3) uint8; image i has the grey level i."""
    grey = np.arange(count, dtype=np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (count, side, side, 3))


def thumbnails(path, columns: int) -> np.ndarray:
    """Return the grey level at the centre of each cell, row by row."""
    sheet = np.asarray(Image.open(path))
    top = range(10 + 72, sheet.shape[0], 144 + 10 + 30)
    return np.array([[sheet[y, 10 + 72 + 154 * x] for x in range(columns)] for y in top])


@pytest.mark.parametrize(
    "count, shown, shape", [(3, 3, (1, 3)), (20, 20, (3, 8)), (90, 64, (8, 8))]
)
def test_sheet_shows_the_images_row_by_row(tmp_path, count, shown, shape):
    path = tmp_path / "new folder" / "sheet.png"
    assert write_contact_sheet(str(path), flat_images(count), np.zeros(count, int), NAMES) == shown
    assert isinstance(Image.open(path), PngImagePlugin.PngImageFile)
    greys = thumbnails(path, shape[1])
    assert greys.shape[:2] == shape
    np.testing.assert_array_equal(greys.reshape(-1, 3)[:shown, 0], np.arange(shown))
    assert [entry.name for entry in path.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("originals, shown", [(4, 12), (12, 24), (40, 48)])
def test_splits_of_an_image_stand_in_one_column(tmp_path, originals, shown):
    path = tmp_path / "sheet.png"
    images, labels = flat_images(originals * 3), np.zeros(originals * 3, int)
    assert write_contact_sheet(str(path), images, labels, splits=3) == shown
    greys = thumbnails(path, min(8, originals))[..., 0].astype(int)
    np.testing.assert_array_equal(greys[1] - greys[0], originals)
    np.testing.assert_array_equal(greys[2] - greys[0], 2 * originals)


@pytest.mark.parametrize(
    "label, names, text",
    [
        (np.int32(1), NAMES, "dog"),
        (np.int32(1), None, "1"),
        (np.int32(3), NAMES, "3"),
        (np.float32([0, 1, 0]), NAMES, "dog"),
        (np.float32([0.7, 0.3, 0]), NAMES, "cat 0.70 + dog 0.30"),
        (np.float32([0.3, 0.7, 0]), None, "1 0.70 + 0 0.30"),
        (np.int32(2), NAMES, "a class wit... many words"),
        (np.float32([0.3, 0, 0.7]), NAMES, "a class ...ny words 0.70 +\ncat 0.30"),
        (np.int32(0), ("b\u00e9e \udcff",), "bee ?"),  # a folder whose name is no text
    ],
)
def test_captions_name_the_classes_and_their_shares(label, names, text):
    font = ImageFont.load_default(12)
    assert _caption(label, names, font) == text
    assert all(font.getlength(line) <= 144 for line in text.splitlines())


def test_label_is_written_under_its_image(tmp_path):
    sheets = []
    for number, names in enumerate((NAMES, NAMES[1:])):
        path = tmp_path / f"{number}.png"
        write_contact_sheet(str(path), flat_images(2), np.array([0, 1]), names)
        sheets.append(np.asarray(Image.open(path)).astype(int))
    changed = np.abs(sheets[0] - sheets[1]).any(2)
    assert not changed[: 10 + 144].any() and changed[10 + 144 :].sum() > 20
    assert (sheets[0][10 + 144 :].min(2) < 100).sum() > 20


def test_sheet_that_cannot_be_written_is_a_config_error_and_leaves_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "file" / "sheet.png"):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ConfigError, match=f"show_batch {re.escape(str(path))} cannot be"):
            write_contact_sheet(str(path), flat_images(1), np.zeros(1, int))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*"))


def test_loader_without_a_batch_is_a_data_error():
    rows = rows_of([png(image) for image in random_images(3, 24)])
    loader = create_loader(rows, 4, True, transform=create_transforms("", 16))
    batches = (tuple(batch.values()) for batch in batches_of(loader))
    with pytest.raises(DataError, match="no batch to show"):
        first_batch(batches)


@pytest.mark.parametrize("options", [{}, dict(aug_repeats=3), dict(mixup=0.8, cutmix=1.0)], ids=str)
def test_showing_a_batch_disturbs_no_draw_of_the_training(
    fixed_seed, image_folder, tmp_path, options
):
    config = Config(
        data_dir=str(image_folder),
        image_resize=24,
        batch_size=8,
        auto_augment="randaug-m9-mstd0.5-inc1",
        re_prob=0.5,
        vflip=0.5,
        num_parallel_workers=1,
        show_batch=str(tmp_path / "sheet.png"),
        **options,
    )

    def batches(is_shown):
        train_set = recipe.open_train_set(config, RUNTIME)
        run = recipe.build_train_batches(config, RUNTIME, train_set, 6)
        if is_shown:
            train.show_batch(config, train_set, run)
        return batches_of(run.as_dataset(), epochs=2)

    plain, shown = batches(False), batches(True)
    assert len(plain) == len(shown) == 12
    for one, other in zip(plain, shown):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])
    # And what the sheet shows is the first batch of the training.
    write_contact_sheet(
        str(tmp_path / "expected.png"),
        plain[0]["image"],
        plain[0]["label"],
        [f"class_{number}" for number in range(6)],
    )
    assert (tmp_path / "expected.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


@pytest.mark.slow  # test_splits_train_with_plain_cross_entropy writes a sheet by default
def test_show_batch_writes_the_sheet_before_training_with_the_same_losses(short_run, tmp_path):
    arguments = [*short_run, "--auto_augment", "randaug-m9-n2", "--aug_repeats", "2"]
    arguments[arguments.index("--shuffle") + 1] = "True"
    arguments[arguments.index("--epoch_size") + 1] = "2"
    arguments[arguments.index("--val_while_train") + 1] = "False"
    metrics = []
    for run, extra in (("plain", ()), ("shown", ("--show_batch", "batch.png"))):
        arguments[arguments.index("--ckpt_save_dir") + 1] = run
        done = run_command("train.py", *arguments, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        metrics.append((tmp_path / run / "metrics.csv").read_text(encoding="utf-8"))
    assert metrics[0] == metrics[1]
    assert "the first 8 training images are in batch.png" in done.stdout
    assert done.stdout.index("batch.png") < done.stdout.index("first step")
    assert Image.open(tmp_path / "batch.png").size == (8 * 154 + 10, 184 + 10)
