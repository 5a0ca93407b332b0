"""Bad images are counted once each, reported in the log and listed in a file."""

import csv
import os
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from mindcv.data.bad_images import BadImages
from mindcv.errors import DataError


def test_bad_images_are_noted_once_and_counted(tmp_path, log_lines):
    bad = BadImages(100, 0.08, tmp_path / "new/bad_images.csv")
    assert not (tmp_path / "new").exists()
    for index in range(7):
        bad.add(index, f"photo, {index}.jpg", "torn")
        bad.add(index, f"photo, {index}.jpg", "torn")
    assert list(bad.reasons.items()) == [(index, "torn") for index in range(7)]
    assert len(log_lines) == 6  # five by name, and a word that no more will come
    bad.add(50, "eighth", "torn")
    with pytest.raises(DataError, match=r"9 of 100 .*photo, 0.jpg \(torn\), .* 4 more; .*scan"):
        bad.add(51, "ninth", "torn")
    with open(bad.file, encoding="utf-8", newline="") as table:
        rows = list(csv.reader(table))
    assert rows[0] == ["index", "path", "error", "count"]
    assert rows[1] == ["0", "photo, 0.jpg", "torn", "1"] and rows[9][1:] == ["ninth", "torn", "9"]


def test_without_a_file_all_are_told(log_lines):
    bad = BadImages(1000, 1.0)
    for index in range(502):
        bad.add(index, f"{index}.jpg", "torn")
    assert log_lines[499] == "bad image 499.jpg: torn"
    (last,) = log_lines[500:]
    assert "501 images are bad" in last and "`python -m mindcv scan`" in last


def test_a_list_that_cannot_be_read_ends_no_run(tmp_path, log_lines):
    (tmp_path / "bad_images.csv").mkdir()
    BadImages(100, 0.08, tmp_path / "bad_images.csv").add(0, "photo.jpg", "torn")
    assert "bad_images.csv cannot be read: Is a directory" in log_lines[0]


def test_a_repaired_image_of_an_earlier_run_does_not_count(tmp_path):
    file = tmp_path / "bad_images.csv"
    BadImages(100, 0.01, file).add(3, "three", "torn")
    resumed = BadImages(100, 0.01, file)
    resumed.add(4, "four", "torn")  # else it would be the second one, and too many
    with pytest.raises(DataError):
        resumed.add(3, "three", "torn")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3


NOTE_SOME = """
import sys
from pathlib import Path
from mindcv.data.bad_images import BadImages
bad = BadImages(10_000, 1.0, Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for index in range(int(sys.argv[2]), int(sys.argv[2]) + 200):
    bad.add(index, f"picture \\n{index}.jpg", "torn")
"""


def test_several_processes_append_whole_rows(tmp_path):
    file = tmp_path / "bad_images.csv"
    BadImages(10_000, 1.0, file).add(9999, "first", "torn")
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    words = [sys.executable, "-c", NOTE_SOME, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    others = [
        subprocess.Popen([*words, str(first)], text=True, env=environment, **pipes)
        for first in (0, 200, 400)
    ]
    assert [process.stdout.readline() for process in others] == ["ready\n"] * 3
    for process in others:
        process.stdin.write("\n"), process.stdin.flush()
    for process in others:
        process.communicate(timeout=60)
    with open(file, encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert sorted(int(row["index"]) for row in rows) == [*range(600), 9999]
    # Each counts the others' too, but for rows that are written at the same moment: of 601 the
    # last three may be.
    assert max(int(row["count"]) for row in rows) >= 599


def test_threads_may_note_at_once(tmp_path):
    bad = BadImages(1000, 1.0, tmp_path / "bad_images.csv")
    work = [
        threading.Thread(target=lambda: [bad.add(k, f"{k}.jpg", "torn") for k in range(100)])
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(bad.file.read_text(encoding="utf-8").splitlines()) == 101
