"""`python -m mindcv scan`: check the images of a dataset before training, and report on them."""

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError
from ...process.files import printable, replacing, writing
from ...process.tables import aligned, write_csv
from ..arguments import at_least, check_output, file_path
from .findings import PROBLEMS, Findings, SplitSummary
from .images import scan
from .listing import list_images

COLUMNS = (
    "path", "split", "class", "bytes", "width", "height", "mode", "format", "sha256", "verdict",
    "reason", "duplicate_of", "notes",
)  # fmt: skip
_HEAD = (
    "split", "classes", "images", "converted", "bad", "bytes", "smallest", "median", "largest",
    "smallest class", "largest class",
)  # fmt: skip
_MOST_LINES = 20
_MOST_NAMED = 5


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "Reads, hashes and decodes every image. Ends with 0 if it finds no problems, with 4 for "
        f"{', '.join(several for _, several in PROBLEMS.values())}."
    )
    parser.add_argument(
        "folder",
        type=file_path,
        metavar="DIR",
        help="<DIR>/<split>/<class>/<image>, or <DIR>/<class>/<image>",
    )
    parser.add_argument(
        "--splits",
        metavar="NAMES",
        help="names of the split folders, the training set first: train,val (default: train, val, "
        "valid, validation and test, as far as they are there)",
    )
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="compare decoded pixels instead of bytes: finds copies in another lossless format, "
        "not those that lost something in between",
    )
    parser.add_argument(
        "--report",
        action="append",
        type=file_path,
        default=[],
        metavar="FILE",
        help=".csv: one line an image; .json: everything; may be given for each",
    )
    parser.add_argument(
        "--allow",
        type=lambda text: text.split(","),
        default=[],
        metavar="KINDS",
        help=f"end with 0 in spite of these: {','.join(PROBLEMS)}",
    )
    parser.add_argument("--workers", type=at_least(1), help="processes (default: one per core)")


def run(arguments: Namespace) -> None:
    from tqdm import tqdm

    unknown = [kind for kind in arguments.allow if kind not in PROBLEMS]
    if unknown:
        raise ConfigError(
            f"allow: {unknown[0]!r} is unknown; expected some of {', '.join(PROBLEMS)}"
        )
    for path in arguments.report:
        check_output("report", path, (".json", ".csv"), force=True)
    splits = arguments.splits.split(",") if arguments.splits is not None else None
    listing = list_images(arguments.folder, splits)
    with tqdm(total=len(listing), unit=" images", disable=None) as bar:
        table = scan(listing, arguments.workers, arguments.pixels, bar.update)
    findings = Findings(listing, table)
    problems = findings.problems
    serious = {kind: count for kind, count in problems.items() if kind not in arguments.allow}
    lines = list(report_lines(findings))
    if not serious:
        lines += ["", f"allowed: {summary(problems)}" if problems else "no problems found"]
    print("\n".join(lines), flush=True)
    for path in map(Path, arguments.report):
        if path.suffix == ".json":
            write_json(path, findings)
        else:  # a row for each image
            rows = (row | {"notes": "; ".join(row["notes"])} for row in _rows(findings))
            write_csv(path, chain([_columns(findings)], (row.values() for row in rows)))
    if serious:
        raise DataError(f"{arguments.folder}: {summary(serious)}")


def summary(problems: dict[str, int]) -> str:
    return ", ".join(f"{count} {PROBLEMS[kind][count > 1]}" for kind, count in problems.items())


def report_lines(findings: Findings) -> Iterator[str]:
    yield from aligned([_HEAD, *(_row(one, findings.listing.root) for one in findings.splits)])
    for name, lines in _sections(findings):
        if lines:
            yield from ("", f"{name}:", *(f"  {line}" for line in lines))


def _row(split: SplitSummary, root: str) -> tuple[str, ...]:
    counts = sorted((count, name) for name, count in split.classes.items())
    ends = [f"{printable(name)}: {count}" for count, name in (counts[:1] + counts[-1:])]
    sizes = (split.smallest, split.median, split.largest)
    return (
        printable(split.name or root),
        f"{len(split.classes):,}",
        f"{split.images:,}",
        f"{split.converted:,}",
        f"{split.bad:,}",
        _bytes(split.bytes),
        *("{}x{}".format(*size) if size else "-" for size in sizes),
        *(ends or ("-", "-")),
    )


def _bytes(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _sections(findings: Findings) -> Iterator[tuple[str, list[str]]]:
    listing, table = findings.listing, findings.table

    def path(image: int) -> str:
        return printable(listing.path(image))

    def group(images: list[int]) -> str:
        return " = ".join(_first(images, _MOST_NAMED, path))

    yield "classes", list(_class_lines(findings.splits))
    left_out = sorted(listing.left_out.items())
    yield "left out", [f"{kind} ({n}): {_some(listing.named[kind], n)}" for kind, n in left_out]
    unreadable = [f"{printable(folder)}: {reason}" for folder, reason in listing.unreadable]
    yield "folders that cannot be read", _first(unreadable, _MOST_LINES)
    beside = "folders of images that are no split (--splits train,val names those that are)"
    yield beside, _first(listing.beside, _MOST_LINES, printable)
    reasons = [f"{path(image)}: {printable(table[image].reason)}" for image in findings.bad]
    yield "bad files", _first(reasons, _MOST_LINES)
    yield "in several splits", _first(findings.leaks, _MOST_LINES, group)
    yield "in several classes", _first(findings.conflicts, _MOST_LINES, group)
    yield "copies within a class", _first(findings.copies, _MOST_LINES, group)
    converted = findings.converted.most_common()
    yield "converted to 8-bit RGB when read", [f"{n} {printable(why)}" for why, n in converted]
    odd = findings.odd.items()
    yield "odd", [f"{note} ({len(at)}): {_some(at, show=path)}" for note, at in odd]


def _class_lines(splits: list[SplitSummary]) -> Iterator[str]:
    first = printable(splits[0].name)
    for split in splits:
        name = printable(split.name)
        where = f"of {name} " if name else ""
        if not split.classes:
            yield f"{name} holds no class folders"
        if split.empty:
            yield f"{len(split.empty)} {where}without an image: {_some(split.empty)}"
        if split.missing and split.classes:
            yield f"{len(split.missing)} of {first} not in {name}: {_some(split.missing)}"
        if split.extra:
            yield f"{len(split.extra)} {where}not in {first}: {_some(split.extra)}"


def _some(things: Sequence, count: int | None = None, show: Callable = printable) -> str:
    """Return the first few of `count` things in one line."""
    shown = ", ".join(map(show, things[:_MOST_NAMED]))
    return f"{shown}, …" if (count or len(things)) > _MOST_NAMED else shown


def _first(things: Sequence, most: int, show: Callable[[Any], str] = str) -> list[str]:
    """Return lines for the first `most` things, and how many more there are."""
    lines = [show(thing) for thing in things[:most]]
    return lines + ([f"… and {len(things) - most} more"] if len(things) > most else [])


def write_json(path: Path, findings: Findings) -> None:
    """Write an object whose entry `files` is a list with a line for each image.

    Names that are not UTF-8 contain Python's surrogate escapes; `os.fsencode` restores the bytes.
    """
    listing = findings.listing

    def paths(images: list[int]) -> list[str]:
        return [listing.path(image) for image in images]

    head = {
        "root": os.path.abspath(listing.root),
        "problems": findings.problems,
        "splits": [asdict(split) | {"empty": split.empty} for split in findings.splits],
        "bad": {listing.path(image): findings.table[image].reason for image in findings.bad},
        "unreadable": dict(listing.unreadable),
        "beside": listing.beside,
        "leaks": list(map(paths, findings.leaks)),
        "conflicts": list(map(paths, findings.conflicts)),
        "copies": list(map(paths, findings.copies)),
        "compared": "pixels" if findings.table.with_pixels else "bytes",
        "converted": dict(findings.converted),
        "odd": {note: paths(images) for note, images in findings.odd.items()},
        "left_out": {
            kind: {"count": count, "first": listing.named[kind]}
            for kind, count in listing.left_out.items()
        },
    }
    with writing(path, ConfigError), replacing(path) as unfinished:
        with open(unfinished, "w", encoding="ascii") as file:
            text = json.dumps(head, indent=1)
            file.write(f'{text[:-2]},\n "files": [')
            for number, row in enumerate(_rows(findings)):
                file.write(f"{',' if number else ''}\n  {json.dumps(row)}")
            file.write("\n ]\n}\n")


def _rows(findings: Findings) -> Iterator[dict]:
    listing = findings.listing
    first = {image: group[0] for group in findings.groups for image in group[1:]}
    for number, (path, image) in enumerate(zip(listing.paths(), findings.table)):
        folder = listing.folder(number)
        row = image._asdict() | {
            "path": path,
            "split": folder.split,
            "class": folder.name,
            "sha256": image.sha256.hex(),
            "duplicate_of": listing.path(first[number]) if number in first else "",
            "pixels_sha256": image.pixels.hex(),
        }
        yield {name: row[name] for name in _columns(findings)}


def _columns(findings: Findings) -> tuple[str, ...]:
    return (*COLUMNS, "pixels_sha256") if findings.table.with_pixels else COLUMNS
