"""`scan`: what is wrong with a dataset is found, told, and written down whole or not at all."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import image_files
import numpy as np
import pytest
from commands import call
from conftest import ROOT
from image_files import encoded, picture
from mindspore.dataset import vision
from PIL import Image

from mindcv.data.image_check import FORMATS, decodable
from mindcv.data.image_index import IMAGE_SUFFIXES, index_images
from mindcv.data.samples import ImageError
from mindcv.errors import ConfigError, DataError
from mindcv.scanning import find, list_images, listing, run, scan
from mindcv.scanning.examine import SUFFIXES
from mindcv.scanning.text import report_lines

PLAIN, ODD = image_files.plain_files(), image_files.odd_files()
BAD = {kind: content for kind, (content, _) in image_files.bad_files().items()}
BAD["broken pixels"] = image_files.png_with_broken_pixels()
FAST = ("--workers", "1")


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def jpeg(number: int) -> bytes:
    """Return a JPEG that differs from those of other numbers."""
    return encoded(Image.new("RGB", (40, 40 + number), (number, 0, 0)), "JPEG")


@pytest.fixture
def clean(tmp_path) -> Path:
    """Two classes in train and val, nothing wrong with them."""
    root = tmp_path / "clean"
    for number, place in enumerate(("train/a", "train/b", "val/a", "val/b")):
        write(root / place, x=jpeg(2 * number), y=jpeg(2 * number + 1))
    return root


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> dict:
    """A folder of every kind of file, scanned once: exit code, texts, reports."""
    root = tmp_path_factory.mktemp("kinds")
    place = root / "set/train/a"
    for kind, content in (PLAIN | ODD | BAD).items():
        write(place, **{kind.replace("/", "-"): content})
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
        ("link to folder", "a folder, no file"),
        ("link to pipe", "a device or pipe, no file"),
        ("unreadable", "cannot be read: "),
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


def test_a_sound_dataset_ends_with_0_and_its_figures(capsys, clean):
    code, out, err = call(capsys, "scan", clean, *FAST)
    assert (code, err) == (0, "")
    head, train, val = (line.split("  ") for line in out.splitlines()[:3])
    size = sum(path.stat().st_size for path in clean.glob("train/*/*"))
    assert head[0] == "split"
    assert [cell.strip() for cell in train if cell] == [
        "train", "2", "4", "0", "0", f"{size / 1000:.1f} kB", "40x40", "40x42", "40x43", "a: 2",
        "b: 2",
    ]  # fmt: skip
    assert out.endswith("\nnothing is wrong\n") and out.count("\n") == 5
    assert val[0].strip() == "val"


PROBLEMS = {
    "bad": "1 bad file",
    "empty": "1 empty class or split",
    "extra": "1 class that training lacks",
    "leaks": "1 image in several splits",
    "conflicts": "1 image in several classes",
}


def spoil(root: Path, problem: str) -> None:
    if problem == "bad":
        (root / "val/b/x.jpg").write_bytes(b"")
    elif problem == "empty":
        (root / "train/c").mkdir()
        (root / "val/c").mkdir()
        shutil.copy(root / "val/a/x.jpg", root / "val/c/.hidden.jpg")
        shutil.copy(root / "val/a/x.jpg", root / "val/c/notes.txt")
        write(root / "train/c", x=jpeg(20))
    elif problem == "extra":
        write(root / "val/c", x=jpeg(20))
    elif problem == "leaks":
        shutil.copy(root / "train/a/x.jpg", root / "val/a/other.jpg")
    else:
        shutil.copy(root / "train/a/x.jpg", root / "train/b/other.jpg")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_problem_ends_with_4_unless_it_is_allowed(capsys, clean, problem):
    spoil(clean, problem)
    code, out, err = call(capsys, "scan", clean, *FAST)
    assert (code, err) == (4, f"error: {clean}: {PROBLEMS[problem]}\n")
    code, allowed, err = call(capsys, "scan", clean, *FAST, "--allow", f"extra,{problem}")
    assert (code, err) == (0, "")
    assert allowed == f"{out}\nallowed: {PROBLEMS[problem]}\n"
    told = {
        "bad": f"  {clean}/val/b/x.jpg: empty file",
        "empty": "  1 of val without an image: c",
        "extra": "  1 of val not in train: c",
        "leaks": f"  {clean}/train/a/x.jpg = {clean}/val/a/other.jpg",
        "conflicts": f"  {clean}/train/a/x.jpg = {clean}/train/b/other.jpg",
    }
    assert told[problem] in out.splitlines()


def test_copies_within_a_class_and_missing_classes_are_told_and_are_no_problem(capsys, clean):
    shutil.copy(clean / "train/a/x.jpg", clean / "train/a/z.jpg")
    os.link(clean / "train/a/x.jpg", clean / "train/a/w.jpg")
    shutil.rmtree(clean / "val/b")
    report = clean / "r.csv"
    code, out, _ = call(capsys, "scan", clean, *FAST, "--report", report)
    assert code == 0
    names = [f"{clean}/train/a/{name}.jpg" for name in "wxz"]
    assert f"copies within a class:\n  {' = '.join(names)}\n" in out
    assert "  1 of train not in val: b\n" in out
    with open(report, newline="") as file:
        first = {row["path"]: row["duplicate_of"] for row in csv.DictReader(file)}
    assert {path for path, of in first.items() if of} == set(names[1:])
    assert first[names[1]] == first[names[2]] == names[0]


def test_hashed_pixels_find_copies_in_another_lossless_format(capsys, clean):
    image = picture()
    for place, kind in (("train/a/one.png", "PNG"), ("val/b/two.bmp", "BMP")):
        (clean / place).write_bytes(encoded(image, kind))
    (clean / "val/a/three.jpg").write_bytes(encoded(image, "JPEG", quality=95))
    (clean / "val/a/other.png").write_bytes(encoded(image.rotate(180), "PNG"))
    assert call(capsys, "scan", clean, *FAST)[0] == 0
    report = clean / "r.csv"
    code, out, err = call(capsys, "scan", clean, *FAST, "--pixels", "--report", report)
    assert code == 4 and "1 image in several splits, 1 image in several classes" in err
    assert f"  {clean}/train/a/one.png = {clean}/val/b/two.bmp" in out.splitlines()
    with open(report, newline="") as file:
        rows = {os.path.basename(row["path"]): row for row in csv.DictReader(file)}
    expected = hashlib.sha256(b"%d x %d" % image.size + image.tobytes()).hexdigest()
    assert rows["one.png"]["pixels_sha256"] == rows["two.bmp"]["pixels_sha256"] == expected
    assert rows["one.png"]["sha256"] != rows["two.bmp"]["sha256"]
    assert rows["three.jpg"]["duplicate_of"] == rows["other.png"]["duplicate_of"] == ""


def test_each_file_is_listed_whatever_its_depth_suffix_and_link(clean):
    deep = write(clean / "train/a/in/ner", deep=jpeg(9))
    (deep / "deep.jpg").rename(deep / "UPPER.JPeG")
    for name in (".hidden.jpg", "notes.txt", "none"):
        (deep / name).write_bytes(b"x")
    write(deep / ".cache", no=jpeg(1))
    (deep / "up").symlink_to(clean / "train")
    (clean / "val/outside.png").write_bytes(b"x")
    (clean / "train_old").mkdir()
    (clean / "val/b/self").symlink_to("self")
    (clean / "val/b/linked").symlink_to(deep, target_is_directory=True)
    found = list_images(str(clean))
    assert found.splits == ("train", "val")
    trained = os.fspath(clean / "train"), index_images(clean / "train")
    assert [f.name for f in found.classes_of("train")] == list(trained[1].classes)
    assert [p for p in found.paths() if p.startswith(trained[0])] == [
        os.path.join(trained[0], os.fsdecode(name)) for name in trained[1].names
    ]
    images = [os.path.relpath(path, clean) for path in found.paths()]
    # The link to train is followed once: what lies above it is not read again.
    assert "train/a/in/ner/UPPER.JPeG" in images and "val/b/linked/UPPER.JPeG" in images
    assert "train/a/in/ner/up/b/x.jpg" in images
    assert all(image.count("/up/") <= 2 for image in images)
    assert not any("hidden" in image or "outside" in image for image in images)
    assert found.named["images outside of class folders"] == [str(clean / "val/outside.png")]
    assert found.named["folders that are no split"] == [str(clean / "train_old")]
    assert str(deep / "notes.txt") in found.named["other files"]
    assert str(clean / "val/b/self") in found.named["other files"]
    assert found.left_out["links to a folder that they lie in"]


def test_a_folder_of_classes_is_one_split_even_if_a_class_is_called_test(capsys, tmp_path):
    write(tmp_path / "bench", x=jpeg(1))
    write(tmp_path / "test", x=jpeg(2))
    assert list_images(str(tmp_path)).splits == ("",)
    code, out, _ = call(capsys, "scan", tmp_path, *FAST)
    assert code == 0 and out.splitlines()[1].startswith(str(tmp_path))
    write(tmp_path / "test/inner", x=jpeg(2))
    found = list_images(str(tmp_path))
    assert found.splits == ("test",) and len(found) == 1
    assert len(list_images(str(tmp_path), ["bench", "test"])) == 1


def test_the_first_split_named_is_the_training_set(capsys, clean):
    (clean / "train").rename(clean / "learn")
    write(clean / "learn/c", x=jpeg(30))
    code, out, _ = call(capsys, "scan", clean, *FAST, "--splits", "learn,val")
    assert code == 0 and "  1 of learn not in val: c" in out.splitlines()
    code, out, _ = call(capsys, "scan", clean, *FAST, "--splits", "val,learn")
    assert code == 4 and "  1 of learn not in val: c" in out.splitlines()
    code, out, _ = call(capsys, "scan", clean, *FAST)
    assert code == 0 and f"folders that are no split (1): {clean}/learn" in out


def test_a_folder_that_cannot_be_read_is_a_problem(clean, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith(("train/b", "val")):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", scandir)
    found = list_images(str(clean))
    findings = find(found, scan(found, workers=1))
    assert findings.problems() == {"unreadable": 2, "empty": 2}
    text = "\n".join(report_lines(findings))
    assert f"  {clean}/train/b: Permission denied" in text
    assert f"  {clean}/val: Permission denied" in text


def test_a_file_that_vanishes_is_bad(clean):
    found = list_images(str(clean))
    (clean / "train/a/y.jpg").unlink()
    table = scan(found, workers=1)
    assert [image.verdict for image in table].count("bad") == 1
    assert table[1].reason == "cannot be read: No such file or directory"


FATAL = """
import os, signal
from mindcv.scanning.run import Image

def examine(paths, with_pixels):
    if any(path.endswith("fatal.jpg") for path in paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Image(len(path)) for path in paths]
"""


def test_a_file_that_kills_its_process_is_found_and_the_others_are_not_lost(tmp_path, monkeypatch):
    (tmp_path / "kills_processes.py").write_text(FATAL, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import kills_processes

    monkeypatch.setattr(run, "_examine_chunk", kills_processes.examine)
    place = tmp_path / "set/a"
    write(place, **{f"{number:03d}": b"" for number in range(100)}, **{"040 fatal": b""})
    found = list_images(str(tmp_path / "set"))
    table = scan(found, workers=2)
    assert len(table) == 101
    assert [image.verdict for image in table].count("bad") == 1
    assert table[40].reason == "decoding it ends the whole process"
    assert [i.bytes for i in table] == [0 if "fatal" in p else len(p) for p in found.paths()]


@pytest.mark.parametrize(
    ("prepare", "words", "code", "told"),
    [
        (None, [], 4, "does not exist; expected a folder of <split>/<class>/<image>"),
        (lambda place: place.write_bytes(b"x"), [], 4, "is a file"),
        (Path.mkdir, [], 4, "holds no class folders"),
        (Path.mkdir, ["--splits", "train"], 4, "no split folder"),
        (Path.mkdir, ["--splits", "a,,b"], 2, "expected names such as train,val"),
        (Path.mkdir, ["--splits", "a,b,a"], 2, "'a' is named twice"),
        (Path.mkdir, ["--report", "r.txt"], 2, "ending in .json or .csv"),
        (Path.mkdir, ["--report", "no/r.csv"], 2, "there is no folder 'no'"),
        (Path.mkdir, ["--allow", "everything"], 2, "'everything' is unknown; expected"),
        (Path.mkdir, ["--workers", "0"], 2, "'0' is no whole number of at least 1"),
        (lambda place: (place / "train/a").mkdir(parents=True), [], 4, "1 empty class"),
    ],
)
def test_what_cannot_be_scanned_ends_with_its_code_and_one_line(
    capsys, tmp_path, monkeypatch, prepare, words, code, told
):
    monkeypatch.chdir(tmp_path)
    if prepare:
        prepare(tmp_path / "set")
    found, _, err = call(capsys, "scan", "set", *words)
    assert found == code and told in err and err.count("\n") == 1


def test_errors_of_the_functions_are_the_projects_own(tmp_path):
    with pytest.raises(DataError):
        list_images(str(tmp_path / "none"))
    with pytest.raises(ConfigError):
        list_images(str(tmp_path), [])


def test_scan_runs_without_mindspore(clean, tmp_path):
    # The processes that it starts find this one in place of the real one, too.
    (tmp_path / "mindspore.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mindcv", "scan", str(clean)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_scan_that_is_stopped_leaves_no_process_and_reports_as_they_were(tmp_path, how):
    large = encoded(Image.effect_noise((2000, 2000), 50).convert("RGB"), "JPEG")
    (place := tmp_path / "set/a").mkdir(parents=True)
    (place / "0.jpg").write_bytes(large)
    for number in range(1, 2000):
        os.link(place / "0.jpg", place / f"{number}.jpg")
    report = tmp_path / "r.csv"
    report.write_text("of an earlier scan", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "mindcv", "scan", "set", "--report", "r.csv", "--workers", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while len(children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # two workers and the tracker of multiprocessing
    time.sleep(0.5)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130 if how == signal.SIGINT else -how, "")
    assert how == signal.SIGKILL or err == "stopped by the user\n"
    assert report.read_text(encoding="utf-8") == "of an earlier scan"
    assert sorted(os.listdir(tmp_path)) == ["r.csv", "set"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)  # raises where the group has no process any more
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes are left")
