"""The report of a scan as text."""

from collections.abc import Callable, Iterator, Sequence

from ...process.foreign_text import printable
from .findings import Findings, SplitSummary
from .listing import Listing
from .places import Places

_MOST_BAD = 20
_MOST_NAMED = 5

# Problem -> what one, and what several are called.
_PROBLEMS = {
    "bad": ("bad file", "bad files"),
    "unreadable": ("folder that cannot be read", "folders that cannot be read"),
    "beside": ("folder of images that is no split", "folders of images that are no splits"),
    "empty": ("empty class or split", "empty classes or splits"),
    "extra": ("class that training lacks", "classes that training lacks"),
    "leaks": ("image in several splits", "images in several splits"),
    "conflicts": ("image in several classes", "images in several classes"),
}
PROBLEMS = tuple(_PROBLEMS)


def report_lines(findings: Findings) -> Iterator[str]:
    """Yield the lines of the report, for a terminal."""
    places = Places(findings.listing)
    yield from _table(findings)
    for name, lines in (
        ("classes", list(_class_lines(findings))),
        ("left out", list(_left_out(findings.listing))),
        ("folders that cannot be read", _unreadable(findings)),
        (
            "folders of images that are no split (--splits train,val names those that are)",
            _first(findings.listing.beside, _MOST_BAD, printable),
        ),
        ("bad files", _bad_files(findings, places)),
        ("in several splits", _groups(findings.leaks, places, findings)),
        ("in several classes", _groups(findings.conflicts, places, findings)),
        ("copies within a class", _groups(findings.copies, places, findings)),
        ("converted to 8-bit RGB when read", _converted(findings)),
        ("odd", _odd(findings, places)),
    ):
        if lines:
            yield ""
            yield f"{name}:"
            yield from (f"  {line}" for line in lines)


def summary(problems: dict[str, int]) -> str:
    """Return the problems in one line."""
    return ", ".join(f"{count} {_PROBLEMS[kind][count > 1]}" for kind, count in problems.items())


def _table(findings: Findings) -> Iterator[str]:
    head = ("split", "classes", "images", "converted", "bad", "bytes", "smallest", "median")
    head += ("largest", "smallest class", "largest class")
    rows = [head, *(_row(split, findings.listing.root) for split in findings.splits)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        cells[0] = row[0].ljust(widths[0])
        yield "  ".join(cells).rstrip()


def _row(split: SplitSummary, root: str) -> tuple[str, ...]:
    counts = sorted((count, name) for name, count in split.classes.items())
    ends = [f"{printable(name)}: {count}" for count, name in (counts[:1] + counts[-1:])]
    return (
        printable(split.name or root),
        f"{len(split.classes):,}",
        f"{split.images:,}",
        f"{split.converted:,}",
        f"{split.bad:,}",
        _bytes(split.bytes),
        *("{}x{}".format(*size) if size else "-" for size in (split.smallest, split.median)),
        "{}x{}".format(*split.largest) if split.largest else "-",
        *(ends or ("-", "-")),
    )


def _bytes(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _class_lines(findings: Findings) -> Iterator[str]:
    first = findings.splits[0].name
    for split in findings.splits:
        where = f"of {printable(split.name)} " if split.name else ""
        if not split.classes:
            yield f"{printable(split.name)} holds no class folders"
        if split.empty:
            yield f"{len(split.empty)} {where}without an image: {_some(split.empty)}"
        if split.missing and split.classes:
            yield f"{len(split.missing)} of {printable(first)} not in {printable(split.name)}: " + (
                _some(split.missing)
            )
        if split.extra:
            yield f"{len(split.extra)} {where}not in {printable(first)}: {_some(split.extra)}"


def _left_out(listing: Listing) -> Iterator[str]:
    for kind, count in sorted(listing.left_out.items()):
        yield f"{kind} ({count}): {_some(listing.named[kind], count)}"


def _unreadable(findings: Findings) -> list[str]:
    lines = [f"{printable(path)}: {reason}" for path, reason in findings.listing.unreadable]
    return _first(lines, _MOST_BAD)


def _bad_files(findings: Findings, places: Places) -> list[str]:
    return _first(
        findings.bad,
        _MOST_BAD,
        lambda at: f"{printable(places.path(at))}: {printable(findings.table[at].reason)}",
    )


def _groups(groups: list[list[int]], places: Places, findings: Findings) -> list[str]:
    return _first(
        groups,
        _MOST_BAD,
        lambda group: " = ".join(_first(group, _MOST_NAMED, lambda at: printable(places.path(at)))),
    )


def _converted(findings: Findings) -> list[str]:
    return [f"{count} {printable(reason)}" for reason, count in findings.converted.most_common()]


def _odd(findings: Findings, places: Places) -> list[str]:
    return [
        f"{note} ({len(at)}): {_some([places.path(index) for index in at[:_MOST_NAMED]], len(at))}"
        for note, at in findings.odd.items()
    ]


def _some(names: Sequence[str], count: int | None = None) -> str:
    count = len(names) if count is None else count
    shown = ", ".join(map(printable, names[:_MOST_NAMED]))
    return f"{shown}, …" if count > _MOST_NAMED else shown


def _first(things: Sequence, most: int, tell: Callable = str) -> list[str]:
    lines = [tell(thing) for thing in things[:most]]
    return lines + ([f"… and {len(things) - most} more"] if len(things) > most else [])
