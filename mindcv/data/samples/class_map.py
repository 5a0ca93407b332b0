"""What a run was trained on, for its users: classes.json."""

import json
from pathlib import Path

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
