"""Time to list a large image folder, first and again, and the memory of the list.

python benchmarks/indexing.py [--files 200000] [--classes 1000] [--folder DIR]

A synthetic tree of empty files with names as long as ImageNet's is made below DIR, or a temporary
folder, and removed at the end.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

from mindcv.data.rows import Rows
from mindcv.data.samples.folder import FolderSamples
from mindcv.data.samples.index_cache import _RACY_NS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="indexing-", dir=arguments.folder))
    try:
        measure(work, arguments.files, arguments.classes, arguments.passes)
    finally:
        shutil.rmtree(work)


def measure(work: Path, files: int, classes: int, passes: int) -> None:
    os.environ["MINDCV_CACHE"] = str(work / "cache")
    make_tree(work / "train", files, classes)
    time.sleep(1.1 * _RACY_NS / 1e9)  # a tree just made is not remembered
    scans, recalls = [], []
    for _ in range(passes):
        shutil.rmtree(work / "cache", ignore_errors=True)
        scans.append(seconds(lambda: FolderSamples(work / "train")))
        recalls.append(seconds(lambda: FolderSamples(work / "train")))
    print(f"{files} files in {classes} folders, medians of {passes} passes")
    for what, times in (("scan", scans), ("from the cache", recalls)):
        median = statistics.median(times)
        spread = f"{min(times):.3f} to {max(times):.3f}"
        print(f"{what:15} {median:8.3f} s ({spread}) {files / median:12,.0f} files/s")
    cached = sum(path.stat().st_size for path in (work / "cache" / "indexes").iterdir())
    for what in ("from the cache", "scan"):
        held, peak = memory(work / "train")
        print(f"memory a sample, {what}: {held / files:.0f} bytes held, {peak / files:.0f} at most")
        shutil.rmtree(work / "cache")
    print(f"size of the cache: {cached / files:.0f} bytes a sample")


def make_tree(folder: Path, files: int, classes: int) -> None:
    for label in range(classes):
        place = folder / f"n{label:08d}"
        place.mkdir(parents=True)
        for number in range(label, files, classes):
            os.close(os.open(place / f"n{label:08d}_{number:08d}.JPEG", os.O_CREAT | os.O_WRONLY))


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def memory(folder: Path) -> tuple[int, int]:
    """Return the bytes that samples and the order of an epoch hold, and at most while made."""
    tracemalloc.start()
    rows = Rows(FolderSamples(folder), 42, shuffle=True)
    order = rows._order(0), rows._order(0)  # what a pass holds: the order, and what was read
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(order[0]) == len(rows)
    return held, peak


if __name__ == "__main__":
    main()
