"""Pack an image folder, resuming where an earlier run stopped; verify a packed dataset."""

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import mindspore
import numpy as np
import PIL
from tqdm import tqdm

from ... import __version__
from ...data.samples.files import NameTable, fingerprint_of
from ...data.samples.packed_set import (
    FILE,
    WORK,
    PackedSet,
    PackedSplit,
    ShardFile,
    default_shards,
    is_sealed,
    read_packed_set,
    write_packed_set,
)
from ...errors import ConfigError, DataError
from ...names import plural
from ...process.cpu import available_cores, worker_pool
from ...process.files import writing
from .folders import SourceSplit, held, list_source, require_utf8, sealed_before
from .shard import (
    ShardResult,
    ShardTask,
    finished_shard,
    with_common_layout,
    write_record,
    write_shard,
)

BAD_IMAGES = "bad_images.csv"
_MOST_SHARDS = 1000
_REFRESH_SECONDS = 0.2  # of the progress bar


def pack(
    source: str,
    out: str,
    splits: list[str] | None = None,
    cap: int | None = None,
    quality: int = 90,
    shards: int | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    tell: Callable[[str], None] = print,
) -> PackedSet:
    """Pack an image folder, keeping the intact shards of an earlier run.

    Args:
        source, splits: see `list_source`.
        out: folder of the packed dataset: new, empty or from an earlier run.
        cap, quality: see `capped`; None: keep the bytes of the images.
        shards: files of each split; None: one for each 512 MB of source images, at most 256.
        skip_bad: skip bad images (see `check_to_the_end`) and list them in bad_images.csv.
        workers: processes; None: one per core.
        tell: called with messages for the user.

    Raises:
        ConfigError: an option is out of range, or `out` holds something else, was begun with other
            options, or is in use by another process.
        DataError: the source is not an image folder, holds bad images or has changed, or `out`
            cannot be written.
    """
    in_range = (cap is None or cap >= 1) and 1 <= quality <= 100
    if not in_range or not (shards is None or 1 <= shards <= _MOST_SHARDS):
        raise ConfigError(
            f"cap {cap}, quality {quality}, shards {shards}: expected at least 1, 1 … 100, and "
            f"1 … {_MOST_SHARDS}"
        )
    _check_place(source, out)
    found, fingerprint = list_source(source, splits)
    root, workers = Path(out), workers or len(available_cores())
    how = {"cap": cap, "quality": quality, "skip_bad": skip_bad}
    tasks = with_common_layout(
        [
            ShardTask(root.absolute(), images, number, **how)
            for split in found
            for number, images in enumerate(_cut(split, shards))
        ]
    )
    counts = {split.name: sum(task.split == split.name for task in tasks) for split in found}
    options = {"cap": cap, "quality": cap and quality, "shards": counts}
    plan = {"source": fingerprint, "options": options}
    sealed = sealed_before(root, plan)
    problems = sealed.problems(root) if sealed else []
    if sealed and not problems:
        tell(f"{out} is packed already: nothing to do; --verify {out} checks it")
        return sealed
    with held(root, plan, was_sealed=sealed is not None):
        if sealed:
            tell(f"{'; '.join(problems[:5])}: packing again")
            _reopen(root, sealed, tasks)
        results = _kept(root, tasks, workers)
        if results:
            tell(f"{len(results)} of {len(tasks)} shards were finished before and are whole: kept")
        left = [task for task in tasks if task.file not in results]
        total = sum(len(task.images) for task in tasks)
        done = total - sum(len(task.images) for task in left)
        with tqdm(total=total, initial=done, unit=" images", disable=None) as bar:
            results |= _write_shards(left, workers, bar)
        in_order = [results[task.file] for task in tasks]
        with writing(root, DataError):
            _report_bad_images(root, [bad for result in in_order for bad in result.bad], skip_bad)
            return _seal(root, found, in_order, plan)


def verify(out: str, workers: int | None = None) -> PackedSet:
    """Compare the hashes of all files of a packed dataset with its dataset.json.

    Args:
        workers: threads; None: one per core.

    Raises:
        DataError: `out` is not a packed dataset, is unfinished, or has missing or damaged files,
            all of which the message names.
    """
    root = Path(out)
    packed = read_packed_set(root)
    if packed is None:
        raise DataError(f"{out} is not a folder that `python -m mindcv pack` wrote")
    shards = [shard for split in packed.splits.values() for shard in split.shards]
    found = _check_hashes(root, shards, workers or len(available_cores()))
    problems = list(filter(None, found.values()))
    if not is_sealed(root):
        raise DataError(
            f"{root / FILE} holds no hash of itself: an older version packed it, so its "
            "class names cannot be verified; pack again"
        )
    if problems:
        raise DataError(
            f"{len(problems)} of {len(shards)} shards: {'; '.join(problems)}; copy these files "
            "again, or remove them and repeat the pack command"
        )
    return packed


def _check_place(source: str, out: str) -> None:
    inner, outer = os.path.realpath(out), os.path.realpath(source)
    if os.path.commonpath([inner, outer]) in (inner, outer):
        raise ConfigError(f"{out} and {source}: one contains the other; choose another place")
    require_utf8(inner, repr(out), "choose another place")


def _cut(split: SourceSplit, shards: int | None) -> Iterator[SourceSplit]:
    wanted = shards or default_shards(split.sizes.sum())
    cuts = np.linspace(0, len(split), min(max(wanted, 1), len(split)) + 1).astype(int)
    for start, stop in zip(cuts, cuts[1:]):
        yield split.part(start, stop)


def _reopen(root: Path, sealed: PackedSet, tasks: list[ShardTask]) -> None:
    """Turn a packed dataset back into an unfinished one with all its shards.

    The shards are verified later, as after any interruption. Shards with skipped images count as
    missing, since dataset.json does not name these images.
    """
    shards = {shard.file: shard for split in sealed.splits.values() for shard in split.shards}
    with writing(root, DataError):
        for task in tasks:
            shard = shards.get(task.file)
            if shard and shard.images == len(task.images):
                write_record(task, ShardResult(task.split, shard, []))
        (root / FILE).unlink()


def _kept(root: Path, tasks: list[ShardTask], workers: int) -> dict[str, ShardResult]:
    """Return, by file, the results of an earlier run whose files still have their hashes."""
    finished = {task.file: result for task in tasks if (result := finished_shard(task))}
    shards = [result.shard for result in finished.values() if result.shard]
    problems = _check_hashes(root, shards, workers)
    return {
        file: result
        for file, result in finished.items()
        if result.shard is None or problems[result.shard.file] is None
    }


def _check_hashes(root: Path, shards: list[ShardFile], workers: int) -> dict[str, str | None]:
    """Return, by file, the problem of each shard, or None."""
    problems = {}
    hidden = None if shards else True  # None: unless stderr is a terminal
    total = sum(shard.bytes for shard in shards)
    bar = tqdm(total=total, desc="checking", unit="B", unit_scale=True, disable=hidden)
    with bar, ThreadPoolExecutor(workers) as threads:
        found = threads.map(lambda shard: shard.problem(root, with_hash=True), shards)
        for shard, problem in zip(shards, found):
            problems[shard.file] = problem
            bar.update(shard.bytes)
    return problems


def _write_shards(tasks: list[ShardTask], workers: int, bar: tqdm) -> dict[str, ShardResult]:
    workers = min(workers, len(tasks))
    if workers <= 1:
        return {task.file: write_shard(task, bar.update) for task in tasks}
    context = get_context("spawn")
    count, stop = context.Value("q", bar.n), context.Event()
    results = {}
    try:
        with worker_pool(workers, _share, count, stop) as submit:
            files = {submit(_write_counted, task): task.file for task in tasks}
            pending = set(files)
            try:
                while pending:
                    finished, pending = wait(pending, _REFRESH_SECONDS, FIRST_COMPLETED)
                    bar.update(count.value - bar.n)
                    results |= {files[future]: future.result() for future in finished}
            except BaseException:
                # Python 3.10 waits forever if workers end with a large task in their pipe.
                stop.set()
                wait([future for future in files if not future.cancel()])
                raise
    except BrokenProcessPool:
        raise DataError(
            "a packing process was killed, perhaps for lack of memory; the same command goes on "
            "where it stopped, --workers with fewer processes"
        ) from None
    return results


class _Stopped(Exception):
    """Another shard failed, or the user stopped the command."""


def _share(count, stop) -> None:
    global _count, _stop
    _count, _stop = count, stop  # shared by all processes


def _write_counted(task: ShardTask) -> ShardResult:
    return write_shard(task, _count_image)


def _count_image() -> None:
    if _stop.is_set():
        raise _Stopped
    with _count.get_lock():
        _count.value += 1


def _report_bad_images(root: Path, bad: list[tuple[str, str]], skip_bad: bool) -> None:
    if not bad:
        return
    path = root / BAD_IMAGES
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("path", "error"), *bad])
    if not skip_bad:
        first = "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
        raise DataError(
            f"{plural(len(bad), 'image')} cannot be decoded: {first}; all of them are in {path}; "
            "repair or remove them and start over, or go on with --skip_bad, which leaves them out"
        )


def _seal(
    root: Path, found: list[SourceSplit], results: list[ShardResult], plan: dict
) -> PackedSet:
    made_by = {"mindcv": __version__, "mindspore": mindspore.__version__, "pillow": PIL.__version__}
    splits = {split.name: _packed_split(split, results) for split in found}
    packed = PackedSet(class_names=found[0].class_names, splits=splits, made_by=made_by, **plan)
    write_packed_set(root, packed)
    shutil.rmtree(root / WORK, ignore_errors=True)
    return packed


def _packed_split(split: SourceSplit, results: list[ShardResult]) -> PackedSplit:
    own = [result for result in results if result.split == split.name]
    bad = {name for result in own for name, _ in result.bad}
    good = [f"{split.name}/{path}" not in bad for path in split.paths]
    labels = split.labels[good]
    empty = np.setdiff1d(split.labels, labels)
    if len(empty):
        names = ", ".join(split.class_names[number] for number in empty[:5])
        raise DataError(f"{split.folder}: no image of these classes can be decoded: {names}")
    names = NameTable.of(os.fsencode(path) for path, is_good in zip(split.paths, good) if is_good)
    return PackedSplit(
        images=len(labels),
        skipped=len(bad),
        fingerprint=fingerprint_of(names, labels, split.class_names),  # equals the image folder's
        shards=tuple(result.shard for result in own if result.shard),
    )
