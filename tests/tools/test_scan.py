"""`scan` of single images: verdicts are those of training, and both reports tell them."""

import csv
import hashlib
import json
import os
import subprocess
import sys

import image_files
import numpy as np
import pytest
from conftest import ROOT
from image_files import encoded, jpeg, picture, write_files
from mindspore.dataset import vision
from PIL import Image

from mindcv.data.image_files import FORMATS, decodable
from mindcv.data.samples import ImageError
from mindcv.data.samples.folder import IMAGE_SUFFIXES
from mindcv.tools.scan.images import SUFFIXES

PLAIN, ODD = image_files.plain_files(), image_files.odd_files()
BAD = {kind: content for kind, (content, _) in image_files.bad_files().items()}
BAD["broken pixels"] = image_files.png_with_broken_pixels()


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> dict:
    """A folder of every kind of file, scanned once: exit code, texts, reports."""
    root = tmp_path_factory.mktemp("kinds")
    place = root / "set/train/a"
    for kind, content in (PLAIN | ODD | BAD).items():
        write_files(place, **{kind.replace("/", "-"): content})
    (place / "folder.jpg").mkdir()
    (place / "link to folder.jpg").symlink_to(place / "folder.jpg")
    (place / "dangling.jpg").symlink_to("nowhere")
    (place / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "pipe")
    (place / "link to pipe.jpg").symlink_to(root / "pipe")
    (place / "unreadable.jpg").symlink_to("/proc/self/mem")
    (place / "thin.png").write_bytes(encoded(picture(40, 400), "PNG"))
    with open(place / "huge.jpg", "wb") as file:
        file.truncate(2**40)  # takes no space
    with open(os.path.join(os.fsencode(place), b"not\xffutf-8,\n.JPG"), "wb") as file:
        file.write(jpeg(0))
    reports = root / "scan.csv", root / "scan.json"
    words = [sys.executable, "-m", "mindcv", "scan", "set", "--workers", "2"]
    done = subprocess.run(
        [*words, *(word for path in reports for word in ("--report", str(path)))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    with open(reports[0], encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "root": root,
        "done": done,
        "rows": {os.path.splitext(os.path.basename(row["path"]))[0]: row for row in rows},
        "json": json.loads(reports[1].read_text(encoding="utf-8")),
    }


def test_the_verdicts_are_those_of_training(scanned):
    for kind, content in (PLAIN | ODD | BAD).items():
        row = scanned["rows"][kind.replace("/", "-")]
        content = np.frombuffer(content, np.uint8)
        try:
            usable = decodable(content)
        except ImageError as error:
            assert row["verdict"] == "bad", kind
            # Of a bomb Pillow tells the pixels, a scan width and height.
            assert row["reason"] == str(error) or kind == "gif bomb", kind
            assert row["reason"].split(":")[0] == str(error).split(":")[0], kind
            continue
        if kind == "broken pixels":  # only decoding shows it
            assert row["verdict"] == "bad" and row["reason"].startswith("damaged image"), kind
            continue
        assert row["verdict"] == ("ok" if usable is content else "converted"), kind
        shown = vision.Decode()(usable)
        assert shown.shape[:2] == (int(row["height"]), int(row["width"])), kind
        with Image.open(scanned["root"] / row["path"]) as image:
            assert (row["mode"], row["format"]) == (image.mode, image.format), kind


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dangling", "a link that leads nowhere, to 'nowhere'"),
        ("loop", "symbolic links"),
        ("link to folder", "no file, but a folder"),
        ("link to pipe", "no file, but a pipe"),
        ("unreadable", ""),
        ("huge", "too large: a file of 1099511627776 bytes"),
        ("decompression bomb", "60000 x 60000"),
    ],
)
def test_what_cannot_be_read_is_bad_and_says_why(scanned, name, told):
    row = scanned["rows"][name]
    assert row["verdict"] == "bad" and told in row["reason"]
    assert f"{name}.jpg: " in scanned["done"].stdout or len(scanned["json"]["bad"]) > 20


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CMYK", "JPEG of mode CMYK"),
        ("palette+alpha", "PNG of mode P"),
        ("16-bit", "PNG of mode I;16"),
        ("1-bit", "PNG of mode 1"),
        ("animated gif", "GIF of mode P, its first frame"),
        ("32-bit bmp", "BMP of an unusual structure"),
    ],
)
def test_what_training_converts_says_from_what(scanned, name, told):
    assert (scanned["rows"][name]["verdict"], scanned["rows"][name]["reason"]) == (
        "converted",
        told,
    )


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("jpeg", ""),
        ("png", "PNG named .jpg"),
        ("EXIF-rotated", "EXIF orientation 6"),
        ("grey jpeg", "grey"),
        ("CMYK", "CMYK"),
        ("1x1 jpeg", "smaller than 32 pixels"),
        ("thin", "longer than 5 times its width or height"),
        ("webp", "WEBP named .jpg"),
    ],
)
def test_what_is_odd_is_noted(scanned, name, notes):
    assert scanned["rows"][name]["notes"] == notes
    for note in filter(None, notes.split("; ")):
        assert scanned["rows"][name]["path"] in scanned["json"]["odd"][note]
        assert f"  {note} (" in scanned["done"].stdout


def test_both_reports_tell_the_same_of_each_file(scanned):
    listed = {row["path"]: row for row in scanned["json"]["files"]}
    assert len(listed) == len(scanned["rows"])
    for row in scanned["rows"].values():
        entry = listed[row["path"]]
        assert row == {k: str(v) for k, v in entry.items()} | {"notes": "; ".join(entry["notes"])}
        if row["sha256"]:
            content = (scanned["root"] / row["path"]).read_bytes()
            assert row["sha256"] == hashlib.sha256(content).hexdigest()
            assert row["bytes"] == str(len(content))
        else:
            assert row["verdict"] == "bad"
    problems = scanned["json"]["problems"]
    assert problems == {"bad": sum(row["verdict"] == "bad" for row in listed.values())}


def test_a_name_that_is_no_utf8_keeps_its_bytes(scanned):
    path = scanned["rows"]["not\udcffutf-8,\n"]["path"]
    assert os.fsencode(path) == b"set/train/a/not\xffutf-8,\n.JPG"
    assert scanned["rows"]["not\udcffutf-8,\n"]["verdict"] == "ok"
    assert any(row["path"] == path for row in scanned["json"]["files"])


def test_bad_files_end_with_4_and_the_first_20_of_them(scanned):
    done = scanned["done"]
    bad = scanned["json"]["bad"]
    assert done.returncode == 4
    assert done.stderr == f"error: set: {len(bad)} bad files\n"
    assert f"  … and {len(bad) - 20} more" in done.stdout.splitlines()
    assert sum(line.lstrip().split(": ")[0] in bad for line in done.stdout.splitlines()) == 20


def test_each_format_that_training_reads_has_its_suffixes():
    assert set(FORMATS) <= set(SUFFIXES)
    known = Image.registered_extensions()
    for kind, suffixes in SUFFIXES.items():
        assert {known[suffix] for suffix in suffixes} <= {kind, "JPEG"}, kind
    assert {suffix for own in SUFFIXES.values() for suffix in own} == set(IMAGE_SUFFIXES)


def test_a_folder_named_like_an_image_is_left_out_and_told(scanned):
    assert "folder" not in scanned["rows"]
    assert "folders named like an image (1): set/train/a/folder.jpg" in scanned["done"].stdout
