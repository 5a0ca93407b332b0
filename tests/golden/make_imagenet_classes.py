"""Write mindcv/hub/imagenet_classes.txt: the 1,000 names of ImageNet-1k's classes, in its order.

    python tests/golden/make_imagenet_classes.py

The names are torchvision's (torchvision/models/_meta.py, BSD-3-Clause), which the metadata of its
weights carry. timm's files, made independently, tell the synset of each class and WordNet's words
for it: each name must be one of these words, or is printed. Needs torchvision and timm; imports
neither torch nor their networks.
"""

import ast
import importlib.util
import sys
from pathlib import Path

TARGET = Path(__file__).parents[2] / "mindcv/hub/imagenet_classes.txt"

HEADER = (
    "# The classes of ImageNet-1k in the order of the logits, one a line. From torchvision:",
    "# BSD-3-Clause, Copyright (c) Soumith Chintala 2016. By tests/golden/make_imagenet_classes.",
)


def package(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin).parent


def torchvisions() -> list[str]:
    source = (package("torchvision") / "models/_meta.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "_IMAGENET_CATEGORIES":
            return ast.literal_eval(node.value)
    raise LookupError("torchvision/models/_meta.py has no _IMAGENET_CATEGORIES")


def timms() -> list[set[str]]:
    """Return WordNet's words for each class."""
    folder = package("timm") / "data/_info"
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split("\t", 1) for line in lines)
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    return [{word.strip().lower() for word in words[synset].split(",")} for synset in synsets]


def main() -> None:
    names, known = torchvisions(), timms()
    assert len(names) == len(known) == 1000
    others = [(i, name, known[i]) for i, name in enumerate(names) if name.lower() not in known[i]]
    print("\n".join(map(str, others)), file=sys.stderr)
    TARGET.write_text("".join(f"{line}\n" for line in (*HEADER, *names)), encoding="utf-8")


if __name__ == "__main__":
    main()
