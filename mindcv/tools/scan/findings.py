"""What the images of a dataset tell together: sizes, classes, copies, leaks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .listing import Listing
from .table import BAD, CONVERTED, ImageTable


@dataclass(frozen=True)
class SplitSummary:
    """A split in figures.

    Attributes:
        classes: images of each class, in byte order of the names.
        images, bytes: of all files, bad ones too.
        converted, bad: numbers of images with that verdict.
        smallest, median, largest: width and height of the images in the order of their area; None
            where not one can be decoded.
        missing, extra: classes that only the training set, only this split has.
    """

    name: str
    classes: dict[str, int]
    images: int
    bytes: int
    converted: int
    bad: int
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    missing: list[str]
    extra: list[str]

    @property
    def empty(self) -> list[str]:
        return [name for name, count in self.classes.items() if not count]


@dataclass(frozen=True)
class Findings:
    """What is to be told of a dataset. Images are told by their places in the listing's order.

    Attributes:
        bad: images that nothing decodes.
        groups: images of the same content; each group in order.
        leaks, conflicts, copies: the groups that lie in several splits; that lie in several
            classes; all others. A group may be both a leak and a conflict.
        odd: images by what is odd about them.
        converted: numbers of images by the reason for which training converts them.
    """

    listing: Listing
    table: ImageTable
    splits: list[SplitSummary]
    bad: list[int]
    groups: list[list[int]]
    leaks: list[list[int]]
    conflicts: list[list[int]]
    copies: list[list[int]]
    odd: dict[str, list[int]]
    converted: Counter

    def problems(self) -> dict[str, int]:
        """Return how often there is what spoils a training or its figures; empty if nothing is."""
        counts = {
            "bad": len(self.bad),
            "unreadable": len(self.listing.unreadable),
            "beside": len(self.listing.beside),
            "empty": sum(len(split.empty) or not split.classes for split in self.splits),
            "extra": sum(len(split.extra) for split in self.splits),
            "leaks": len(self.leaks),
            "conflicts": len(self.conflicts),
        }
        return {kind: count for kind, count in counts.items() if count}


def find(listing: Listing, table: ImageTable) -> Findings:
    """Sum up what was found of each image.

    Images have the same content where their pixels have the same hash, if pixels were hashed; else
    where their bytes have. Bad images are not compared.
    """
    place = np.repeat(
        np.arange(len(listing.classes)), [len(folder.images) for folder in listing.classes]
    )
    is_bad = np.array([verdict == BAD for verdict in table.words("verdict")], bool)
    groups = list(_groups(table.digests("pixels" if table.with_pixels else "sha256"), is_bad))
    leaks, conflicts, copies = [], [], []
    for group in groups:
        folders = [listing.classes[place[index]] for index in group]
        is_leak = len({folder.split for folder in folders}) > 1
        is_conflict = len({folder.name for folder in folders}) > 1
        if is_leak:
            leaks.append(group)
        if is_conflict:
            conflicts.append(group)
        if not is_leak and not is_conflict:
            copies.append(group)
    odd: dict[str, list[int]] = {}
    for index, notes in enumerate(table.words("notes")):
        for note in notes:
            odd.setdefault(note, []).append(index)
    reasons = zip(table.words("verdict"), table.words("reason"))
    return Findings(
        listing,
        table,
        splits=list(_summaries(listing, table, place, is_bad)),
        bad=np.flatnonzero(is_bad).tolist(),
        groups=groups,
        leaks=leaks,
        conflicts=conflicts,
        copies=copies,
        odd=dict(sorted(odd.items())),
        converted=Counter(reason for verdict, reason in reasons if verdict == CONVERTED),
    )


def _groups(digests: np.ndarray, is_bad: np.ndarray) -> Iterator[list[int]]:
    """Yield the places that share a hash, by their first place."""
    usable = np.flatnonzero(~is_bad)
    order = usable[np.lexsort(digests[usable].T)]  # stable: places stay in order
    is_new = (digests[order[1:]] != digests[order[:-1]]).any(1)
    groups = np.split(order, np.flatnonzero(is_new) + 1) if (~is_new).any() else []
    yield from sorted(group.tolist() for group in groups if len(group) > 1)


def _summaries(
    listing: Listing, table: ImageTable, place: np.ndarray, is_bad: np.ndarray
) -> Iterator[SplitSummary]:
    split_of = np.array([listing.splits.index(folder.split) for folder in listing.classes], int)
    width, height = table.numbers("width"), table.numbers("height")
    is_converted = np.array([verdict == CONVERTED for verdict in table.words("verdict")], bool)
    in_training = {folder.name for folder in listing.classes_of(listing.splits[0])}
    for number, name in enumerate(listing.splits):
        classes = {folder.name: len(folder.images) for folder in listing.classes_of(name)}
        here = split_of[place] == number
        usable = np.flatnonzero(here & ~is_bad)
        by_area = usable[np.argsort(width[usable] * height[usable], kind="stable")]
        smallest, median, largest = (
            (int(width[at]), int(height[at])) if at is not None else None
            for at in (by_area[[0, len(by_area) // 2, -1]] if len(by_area) else (None,) * 3)
        )
        yield SplitSummary(
            name,
            classes,
            images=int(here.sum()),
            bytes=int(table.numbers("bytes")[here].sum()),
            converted=int((here & is_converted).sum()),
            bad=int((here & is_bad).sum()),
            smallest=smallest,
            median=median,
            largest=largest,
            missing=sorted(in_training - set(classes)),
            extra=sorted(set(classes) - in_training),
        )
