"""Is a packed dataset still what it was?"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..data.packed_set import PackedSet, read_packed_set
from ..errors import DataError


def verify(out: str, workers: int | None = None) -> PackedSet:
    """Compare the hashes of all files with those of dataset.json.

    Args:
        out: folder of the packed dataset.
        workers: threads; None: one per core.

    Raises:
        DataError: it is no packed dataset, unfinished, or files are missing or damaged; the
            message names them all.
    """
    root = Path(out)
    packed = read_packed_set(root)
    if packed is None:
        raise DataError(f"{out} is no folder that `python -m mindcv pack` wrote")
    shards = [shard for split in packed.splits.values() for shard in split.shards]
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as threads:
        found = threads.map(lambda shard: shard.problem(root, with_hash=True), shards)
        problems = [problem for problem in found if problem]
    if problems:
        raise DataError(f"{len(problems)} of {len(shards)} shards: {'; '.join(problems)}")
    return packed
