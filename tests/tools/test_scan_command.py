"""`scan` of whole datasets: copies, leaks, classes, splits, and how it ends."""

import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import call
from conftest import ROOT, wait_for_end_of_group
from image_files import encoded, jpeg, picture, write_files
from PIL import Image

from mindcv.data.samples.folder import index_images
from mindcv.errors import ConfigError, DataError
from mindcv.tools.scan import Findings, images, list_images, listing, scan
from mindcv.tools.scan.command import report_lines

FAST = ("--workers", "1")


@pytest.fixture
def clean(tmp_path) -> Path:
    """Two classes in train and val, nothing wrong with them."""
    root = tmp_path / "clean"
    for number, place in enumerate(("train/a", "train/b", "val/a", "val/b")):
        write_files(root / place, x=jpeg(2 * number), y=jpeg(2 * number + 1))
    return root


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
    assert out.endswith("\nno problems found\n") and out.count("\n") == 5
    assert val[0].strip() == "val"


PROBLEMS = {
    "bad": "1 bad file",
    "empty": "1 empty class or split",
    "extra": "1 class that is not in the training set",
    "beside": "1 folder of images that is no split",
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
        write_files(root / "train/c", x=jpeg(20))
    elif problem == "extra":
        write_files(root / "val/c", x=jpeg(20))
    elif problem == "beside":
        write_files(root / "training/c", x=jpeg(20))
        (root / "annotations").mkdir()
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
        "beside": f"  {clean}/training",
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
    deep = write_files(clean / "train/a/in/ner", deep=jpeg(9))
    (deep / "deep.jpg").rename(deep / "UPPER.JPeG")
    for name in (".hidden.jpg", "notes.txt", "none"):
        (deep / name).write_bytes(b"x")
    write_files(deep / ".cache", no=jpeg(1))
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


def test_folders_that_link_to_each_other_are_scanned_as_training_lists_them(clean):
    """Ten of them have a million ways through each other."""
    letters = "abcdefghij"
    for number, letter in enumerate(letters):
        write_files(clean / "train/a" / letter, x=jpeg(number))
        for other in letters.replace(letter, ""):
            (clean / "train/a" / letter / f"to_{other}").symlink_to(f"../{other}")
    found = list_images(str(clean))
    listed = [path for path in found.paths() if "/train/" in path]
    trained = index_images(clean / "train").names
    assert listed == [os.path.join(clean, "train", os.fsdecode(name)) for name in trained]
    assert len(listed) == 4 + len(letters)
    assert found.left_out["links to a folder that is read already"] == 90


def test_a_folder_of_classes_is_one_split_even_if_a_class_is_called_test(capsys, tmp_path):
    write_files(tmp_path / "bench", x=jpeg(1))
    write_files(tmp_path / "test", x=jpeg(2))
    assert list_images(str(tmp_path)).splits == ("",)
    code, out, _ = call(capsys, "scan", tmp_path, *FAST)
    assert code == 0 and out.splitlines()[1].startswith(str(tmp_path))
    write_files(tmp_path / "test/inner", x=jpeg(2))
    found = list_images(str(tmp_path))
    assert found.splits == ("test",) and len(found) == 1
    assert len(list_images(str(tmp_path), ["bench", "test"])) == 1


def test_the_first_split_named_is_the_training_set(capsys, clean):
    (clean / "train").rename(clean / "learn")
    write_files(clean / "learn/c", x=jpeg(30))
    code, out, _ = call(capsys, "scan", clean, *FAST, "--splits", "learn,val")
    assert code == 0 and "  1 of learn not in val: c" in out.splitlines()
    code, out, _ = call(capsys, "scan", clean, *FAST, "--splits", "val,learn")
    assert code == 4 and "  1 of learn not in val: c" in out.splitlines()
    code, out, _ = call(capsys, "scan", clean, *FAST, "--splits", "val")
    assert code == 0 and f"folders that are no split (1): {clean}/learn" in out


def test_a_folder_that_cannot_be_read_is_a_problem(clean, monkeypatch):
    real = os.scandir

    def scandir(path):
        if os.fsdecode(path).endswith(("train/b", "val")):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", scandir)
    found = list_images(str(clean))
    findings = Findings(found, scan(found, workers=1))
    assert findings.problems == {"unreadable": 2, "empty": 2}
    text = "\n".join(report_lines(findings))
    assert f"  {clean}/train/b: Permission denied" in text
    assert f"  {clean}/val: Permission denied" in text


def test_a_file_that_vanishes_is_bad(clean):
    found = list_images(str(clean))
    (clean / "train/a/y.jpg").unlink()
    table = scan(found, workers=1)
    assert [image.verdict for image in table].count("bad") == 1
    assert table[1].reason == "No such file or directory"


FATAL = """
import os, signal
from mindcv.tools.scan import Image

def examine(paths, with_pixels):
    if any(path.endswith("fatal.jpg") for path in paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Image(len(path)) for path in paths]
"""


def test_a_file_that_kills_its_process_is_found_and_the_others_are_not_lost(tmp_path, monkeypatch):
    (tmp_path / "kills_processes.py").write_text(FATAL, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import kills_processes

    monkeypatch.setattr(images, "_examine_chunk", kills_processes.examine)
    place = tmp_path / "set/a"
    write_files(place, **{f"{number:03d}": b"" for number in range(100)}, **{"040 fatal": b""})
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
        (Path.mkdir, ["--workers", "0"], 2, "'0' is not a whole number of at least 1"),
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
    wait_for_end_of_group(process.pid)
