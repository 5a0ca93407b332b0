"""Packing from beginning to end, or from where an earlier run stopped."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mindspore
import numpy as np
import PIL

from ... import __version__
from ...data.samples.files import fingerprint_of
from ...data.samples.name_table import NameTable
from ...data.samples.packed_set import WORK, PackedSet, PackedSplit, write_packed_set
from ...errors import ConfigError, DataError
from ...process.cores import available_cores
from ...process.pool import write_shards
from .folder import held, reopen, sealed_before
from .shard import ShardResult, ShardTask, finished_shard, with_common_layout
from .source import SourceSplit, list_source
from .verify import check_hashes

BAD_IMAGES = "bad_images.csv"
_SHARD_BYTES = 512 << 20
_MOST_SHARDS = 256  # of a split by default, as all of them are open while it is read
_MOST_SHARDS_ASKED = 1000


def pack(
    source: str,
    out: str,
    splits: list[str] | None = None,
    cap: int | None = None,
    quality: int = 90,
    shards: int | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> PackedSet:
    """Pack an image folder; what an interrupted run finished, or is whole of a set, is kept.

    Args:
        source, splits: see `list_source`.
        out: folder of the packed dataset; new, empty, or of an interrupted run.
        cap, quality: see `capped`; cap None: the images' bytes as they are.
        shards: files of each split; None: as many as make 512 MB of source images each, 256
            at most.
        skip_bad: leave bad images out, see `check_to_the_end`; bad_images.csv lists them.
        workers: processes; None: one per core.
        show_progress: draw progress bars on stderr.
        tell: called with lines for the user.

    Raises:
        ConfigError: options out of range; `out` holds something else, was begun with other
            options, or another process packs into it.
        DataError: the source is no image folder, holds bad images, or changed since; `out` cannot
            be written.
    """
    _check_arguments(source, out, cap, quality, shards)
    found, fingerprint = list_source(source, splits)
    tasks = with_common_layout(
        [
            task
            for split in found
            for task in _tasks(split, str(Path(out).absolute()), cap, quality, shards, skip_bad)
        ]
    )
    options = {
        "cap": cap,
        "quality": cap and quality,
        "shards": {split.name: sum(task.split == split.name for task in tasks) for split in found},
    }
    plan = {"source": fingerprint, "options": options}
    root = Path(out)
    sealed = sealed_before(root, plan)
    problems = sealed.problems(root) if sealed else []
    if sealed and not problems:
        tell(f"{out} is packed already: nothing to do; --verify {out} checks it")
        return sealed
    with held(root, plan, was_sealed=sealed is not None):
        if sealed:
            tell(f"{'; '.join(problems[:5])}: packed anew")
            reopen(root, sealed, tasks)
        results = _all_shards(root, tasks, workers or len(available_cores()), show_progress, tell)
        return _seal(root, found, results, plan, skip_bad)


def _check_arguments(source, out, cap, quality, shards) -> None:
    in_range = (cap is None or cap >= 1) and 1 <= quality <= 100
    if not in_range or not (shards is None or 1 <= shards <= _MOST_SHARDS_ASKED):
        raise ConfigError(
            f"cap {cap}, quality {quality}, shards {shards}: expected at least 1, 1 … 100, and "
            f"1 … {_MOST_SHARDS_ASKED}"
        )
    inner, outer = os.path.realpath(out), os.path.realpath(source)
    if os.path.commonpath([inner, outer]) in (inner, outer):
        raise ConfigError(f"{out} and {source} lie one inside the other; choose another place")
    try:
        os.path.realpath(out).encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"{out!r} is not UTF-8, which MindSpore needs; choose another place"
        ) from None


def _tasks(split: SourceSplit, out, cap, quality, shards, skip_bad) -> list[ShardTask]:
    total = int(split.sizes.sum())
    wanted = shards or -(-total // max(_SHARD_BYTES, -(-total // _MOST_SHARDS)))
    count = min(max(wanted, 1), len(split.paths))
    cuts = np.linspace(0, len(split.paths), count + 1).astype(int)
    return [
        ShardTask(
            out,
            split.name,
            number,
            str(split.folder),
            split.paths[start:stop],
            split.labels[start:stop],
            split.sizes[start:stop],
            cap,
            quality,
            skip_bad,
        )
        for number, (start, stop) in enumerate(zip(cuts, cuts[1:]))
    ]


def _all_shards(
    root: Path,
    tasks: list[ShardTask],
    workers: int,
    show_progress: bool,
    tell: Callable[[str], None],
) -> list[ShardResult]:
    """Write the shards that are not there yet; return the results of all, in order."""
    kept = _kept(root, tasks, workers, show_progress)
    if kept:
        tell(f"{len(kept)} of {len(tasks)} shards were finished before and are whole: kept")
    left = [task for task in tasks if (task.split, task.number) not in kept]
    done = sum(len(task.paths) for task in tasks) - sum(len(task.paths) for task in left)
    results = kept | {
        (result.split, result.number): result
        for result in write_shards(left, workers, done, show_progress)
    }
    return [results[task.split, task.number] for task in tasks]


def _kept(root: Path, tasks: list[ShardTask], workers: int, show_progress: bool) -> dict:
    """Return the results of an earlier run whose files are still the same, by their hashes."""
    finished = [result for task in tasks if (result := finished_shard(task))]
    shards = [result.shard for result in finished if result.shard]
    problems = check_hashes(root, shards, workers, show_progress)
    return {
        (result.split, result.number): result
        for result in finished
        if result.shard is None or problems[result.shard.file] is None
    }


def _seal(
    root: Path, found: list[SourceSplit], results: list[ShardResult], plan: dict, skip_bad: bool
) -> PackedSet:
    bad = [entry for result in results for entry in result.bad]
    try:
        if bad:
            _write_bad_images(root / BAD_IMAGES, bad)
        if bad and not skip_bad:
            raise DataError(
                f"{len(bad)} images cannot be decoded: {_first(bad)}; all of them are in "
                f"{root / BAD_IMAGES}; repair or remove them and begin anew, or go on with "
                "--skip_bad, which leaves them out"
            )
        splits = {}
        for split in found:
            own = [result for result in results if result.split == split.name]
            splits[split.name] = _packed_split(split, own)
        packed = PackedSet(
            found[0].class_names,
            splits,
            plan["options"],
            plan["source"],
            {
                "mindcv": __version__,
                "mindspore": mindspore.__version__,
                "pillow": PIL.__version__,
            },
        )
        write_packed_set(root, packed)
        shutil.rmtree(root / WORK, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error.strerror}") from None
    return packed


def _packed_split(split: SourceSplit, results: list[ShardResult]) -> PackedSplit:
    bad = {name for result in results for name, _ in result.bad}
    good = [f"{split.name}/{path}" not in bad for path in split.paths]
    labels = split.labels[good]
    empty = np.setdiff1d(split.labels, labels)
    if len(empty):
        names = ", ".join(split.class_names[number] for number in empty[:5])
        raise DataError(f"{split.folder}: no image of these classes can be decoded: {names}")
    names = NameTable.of(os.fsencode(path) for path, is_good in zip(split.paths, good) if is_good)
    shards = tuple(result.shard for result in results if result.shard)
    return PackedSplit(
        sum(shard.images for shard in shards),
        len(bad),
        fingerprint_of(names, labels, split.class_names),  # the image folder's own
        shards,
    )


def _write_bad_images(path: Path, bad: list[tuple[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "error"))
        writer.writerows(bad)


def _first(bad: list[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in bad[:5])
