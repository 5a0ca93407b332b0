"""What a run was trained on: classes.json, and the files that a resumed run compares."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...process.files import replacing
from .protocol import Samples


def write_class_map(path: Path, samples: Samples) -> None:
    """Write classes (name to index), number of images and fingerprint of a training set.

    Raises:
        OSError: the file cannot be written.
    """
    names = samples.class_names
    content = {
        "num_classes": int(samples.num_classes),
        "images": len(samples),
        "fingerprint": samples.fingerprint(),
        "classes": names and {name: index for index, name in enumerate(names)},
    }
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1), encoding="ascii")


MOST_FILES = 65_536  # a network disk answers a few thousand per second
_THREADS = 16


def describe_files(samples: Samples) -> dict[str, list[str]]:
    """Return hashes of the files' names, sizes and modification times, one per class.

    Of more than `MOST_FILES` images, only an evenly spread sample counts. The result is empty if
    the images are not individual files.
    """
    if not hasattr(samples, "path"):
        return {}
    looked_at = np.arange(0, len(samples), -(-len(samples) // MOST_FILES))
    parts = np.array_split(looked_at, _THREADS)
    with ThreadPoolExecutor(_THREADS) as threads:
        found = sum(threads.map(lambda part: _look(samples, part), parts), [])
    hashes = {
        what: [hashlib.sha256() for _ in range(samples.num_classes)]
        for what in ("names", "sizes", "times")
    }
    for label, *values in zip(samples.labels[looked_at].tolist(), *zip(*found)):
        for of_classes, value in zip(hashes.values(), values):
            of_classes[label].update(value + b"\0")
    return {what: [one.hexdigest()[:12] for one in each] for what, each in hashes.items()}


def _look(samples: Samples, indices: np.ndarray) -> list[tuple[bytes, bytes, bytes]]:
    found = []
    for index in indices.tolist():
        path = samples.path(index)
        try:
            state = os.stat(path)
            size, time = state.st_size, state.st_mtime_ns
        except OSError:
            size = time = -1
        found.append((os.path.basename(path), b"%d" % size, b"%d" % time))
    return found
