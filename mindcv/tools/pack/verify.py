"""Is a packed dataset still what it was?"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ...data.samples.packed_set import FILE, PackedSet, ShardFile, is_sealed, read_packed_set
from ...errors import DataError
from ...process.cores import available_cores


def verify(out: str, workers: int | None = None, show_progress: bool = False) -> PackedSet:
    """Compare the hashes of all files with those of dataset.json, and its own.

    Args:
        out: folder of the packed dataset.
        workers: threads; None: one per core.
        show_progress: draw a progress bar on stderr.

    Raises:
        DataError: it is no packed dataset, unfinished, or files are missing or damaged; the
            message names them all.
    """
    root = Path(out)
    packed = read_packed_set(root)
    if packed is None:
        raise DataError(f"{out} is no folder that `python -m mindcv pack` wrote")
    shards = [shard for split in packed.splits.values() for shard in split.shards]
    found = check_hashes(root, shards, workers or len(available_cores()), show_progress)
    problems = [problem for problem in found.values() if problem]
    if not is_sealed(root):
        raise DataError(
            f"{root / FILE} holds no hash of itself: an older version packed it, and nobody can "
            "tell whether its class names are what they were; pack again"
        )
    if problems:
        raise DataError(
            f"{len(problems)} of {len(shards)} shards: {'; '.join(problems)}; copy these files "
            "anew, or remove them and pack again"
        )
    return packed


def check_hashes(
    root: Path, shards: list[ShardFile], workers: int, show_progress: bool
) -> dict[str, str | None]:
    """Return, by file, what is wrong with each shard, None where nothing is; see `verify`."""
    problems = {}
    bar = tqdm(
        total=sum(shard.bytes for shard in shards),
        desc="checking",
        unit="B",
        unit_scale=True,
        disable=not (show_progress and shards),
        file=sys.stderr,
    )
    with bar, ThreadPoolExecutor(workers) as threads:
        found = threads.map(lambda shard: shard.problem(root, with_hash=True), shards)
        for shard, problem in zip(shards, found):
            problems[shard.file] = problem
            bar.update(shard.bytes)
    return problems
