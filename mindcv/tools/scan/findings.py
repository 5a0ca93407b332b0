"""What the images of a dataset show together: sizes, classes, copies, leaks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .images import BAD, CONVERTED, ImageTable
from .listing import Listing

# Problem -> singular and plural.
PROBLEMS = {
    "bad": ("bad file", "bad files"),
    "unreadable": ("folder that cannot be read", "folders that cannot be read"),
    "beside": ("folder of images that is no split", "folders of images that are no splits"),
    "empty": ("empty class or split", "empty classes or splits"),
    "extra": ("class that is not in the training set", "classes that are not in the training set"),
    "leaks": ("image in several splits", "images in several splits"),
    "conflicts": ("image in several classes", "images in several classes"),
}


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of a split; counts and bytes include bad files."""

    name: str
    classes: dict[str, int]  # class -> number of images, in byte order of the names
    images: int
    bytes: int
    converted: int
    bad: int
    # Width and height of the images with these areas; None: no image can be decoded.
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    missing: list[str]  # classes that only the training set has
    extra: list[str]  # classes that the training set does not have

    @property
    def empty(self) -> list[str]:
        return [name for name, count in self.classes.items() if not count]


class Findings:
    """What a scan found; images are given by their numbers in the listing.

    Images have the same content if the hashes of their pixels are equal, or of their bytes if
    pixels were not hashed. Bad images are not compared.

    Attributes:
        bad: images that cannot be decoded.
        groups: images with the same content; each group in order.
        leaks, conflicts: groups in several splits; in several classes. A group may be both.
        copies: all other groups.
        odd: images by oddity.
        converted: number of images by the reason why training converts them.
        problems: number of findings that would spoil training or its metrics, by kind.
    """

    def __init__(self, listing: Listing, table: ImageTable):
        self.listing, self.table = listing, table
        self.splits = list(_summaries(listing, table))
        self.bad: list[int] = np.flatnonzero(_has_verdict(table, BAD)).tolist()
        self.groups = _groups(table)
        self.leaks, self.conflicts, self.copies = [], [], []
        for group in self.groups:
            folders = [listing.folder(image) for image in group]
            is_leak = len({folder.split for folder in folders}) > 1
            is_conflict = len({folder.name for folder in folders}) > 1
            if is_leak:
                self.leaks.append(group)
            if is_conflict:
                self.conflicts.append(group)
            if not is_leak and not is_conflict:
                self.copies.append(group)
        odd: dict[str, list[int]] = {}
        for image in np.flatnonzero(table.select(lambda kind: bool(kind.notes))).tolist():
            for note in table[image].notes:
                odd.setdefault(note, []).append(image)
        self.odd = dict(sorted(odd.items()))
        self.converted = Counter()
        for kind, count in zip(table.kinds, np.bincount(table.columns["kind"]).tolist()):
            if kind.verdict == CONVERTED:
                self.converted[kind.reason] += count
        counts = {
            "bad": len(self.bad),
            "unreadable": len(listing.unreadable),
            "beside": len(listing.beside),
            "empty": sum(len(split.empty) or not split.classes for split in self.splits),
            "extra": sum(len(split.extra) for split in self.splits),
            "leaks": len(self.leaks),
            "conflicts": len(self.conflicts),
        }
        self.problems = {kind: count for kind, count in counts.items() if count}


def _has_verdict(table: ImageTable, verdict: str) -> np.ndarray:
    return table.select(lambda kind: kind.verdict == verdict)


def _groups(table: ImageTable) -> list[list[int]]:
    """Return the images that share a hash, sorted by the first of each group."""
    digests = table.columns["pixels" if table.with_pixels else "sha256"]
    usable = np.flatnonzero(~_has_verdict(table, BAD))
    order = usable[np.lexsort(digests[usable].T)]  # stable: images stay in order
    is_new = (digests[order[1:]] != digests[order[:-1]]).any(1)
    groups = np.split(order, np.flatnonzero(is_new) + 1) if (~is_new).any() else []
    return sorted(group.tolist() for group in groups if len(group) > 1)


def _summaries(listing: Listing, table: ImageTable) -> Iterator[SplitSummary]:
    is_bad, is_converted = _has_verdict(table, BAD), _has_verdict(table, CONVERTED)
    in_training = {folder.name for folder in listing.classes_of(listing.splits[0])}
    end = 0  # the images of a split are contiguous
    for name in listing.splits:
        classes = {folder.name: len(folder.images) for folder in listing.classes_of(name)}
        here = slice(end, end := end + sum(classes.values()))
        columns = table.columns[here]
        usable = columns[~is_bad[here]]
        by_area = np.argsort(usable["width"] * usable["height"], kind="stable")
        picked = usable[by_area[[0, len(by_area) // 2, -1]]] if len(usable) else []
        sizes = [(int(image["width"]), int(image["height"])) for image in picked] or [None] * 3
        yield SplitSummary(
            name,
            classes,
            images=len(columns),
            bytes=int(columns["bytes"].sum()),
            converted=int(is_converted[here].sum()),
            bad=int(is_bad[here].sum()),
            smallest=sizes[0],
            median=sizes[1],
            largest=sizes[2],
            missing=sorted(in_training - set(classes)),
            extra=sorted(set(classes) - in_training),
        )
