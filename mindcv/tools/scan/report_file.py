"""The report of a scan as a file: a table as CSV, or everything as JSON."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ...process.foreign_text import table_cell
from .findings import Findings
from .places import Places

COLUMNS = (
    "path", "split", "class", "bytes", "width", "height", "mode", "format", "sha256", "verdict",
    "reason", "duplicate_of", "notes",
)  # fmt: skip
_FOREIGN = ("path", "split", "class", "duplicate_of")  # names of files and folders


def write_csv(path: Path, findings: Findings) -> None:
    """Write one line an image. Names that are no UTF-8 keep their bytes."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, _columns(findings), lineterminator="\n")
        writer.writeheader()
        for row in _rows(findings):
            cells = row | {"notes": "; ".join(row["notes"])}
            foreign = {name: table_cell(cells[name]) for name in _FOREIGN}
            writer.writerow(cells | foreign)


def write_json(path: Path, findings: Findings) -> None:
    """Write one object; its entry `files` is a list with one line an image.

    Names that are no UTF-8 are written as Python has them, with a lone surrogate for each byte:
    `os.fsencode` gives the bytes back.
    """
    places = Places(findings.listing)
    listing = findings.listing
    head = {
        "root": os.path.abspath(listing.root),
        "problems": findings.problems(),
        "splits": [asdict(split) | {"empty": split.empty} for split in findings.splits],
        "bad": {places.path(at): findings.table[at].reason for at in findings.bad},
        "unreadable": dict(listing.unreadable),
        "beside": listing.beside,
        "leaks": [[places.path(at) for at in group] for group in findings.leaks],
        "conflicts": [[places.path(at) for at in group] for group in findings.conflicts],
        "copies": [[places.path(at) for at in group] for group in findings.copies],
        "compared": "pixels" if findings.table.with_pixels else "bytes",
        "converted": dict(findings.converted),
        "odd": {note: [places.path(at) for at in ats] for note, ats in findings.odd.items()},
        "left_out": {
            kind: {"count": count, "first": listing.named[kind]}
            for kind, count in listing.left_out.items()
        },
    }
    with open(path, "w", encoding="ascii") as file:
        text = json.dumps(head, indent=1)
        file.write(f'{text[:-2]},\n "files": [')
        for number, row in enumerate(_rows(findings)):
            file.write(f"{',' if number else ''}\n  {json.dumps(row)}")
        file.write("\n ]\n}\n")


def _columns(findings: Findings) -> tuple[str, ...]:
    return (*COLUMNS, "pixels_sha256") if findings.table.with_pixels else COLUMNS


def _rows(findings: Findings) -> Iterator[dict]:
    places = Places(findings.listing)
    first = {at: group[0] for group in findings.groups for at in group[1:]}
    for index, image in enumerate(findings.table):
        folder = places.folder(index)
        row = {
            "path": places.path(index),
            "split": folder.split,
            "class": folder.name,
            "bytes": image.bytes,
            "width": image.width,
            "height": image.height,
            "mode": image.mode,
            "format": image.format,
            "sha256": image.sha256.hex(),
            "verdict": image.verdict,
            "reason": image.reason,
            "duplicate_of": places.path(first[index]) if index in first else "",
            "notes": image.notes,
        }
        if findings.table.with_pixels:
            row["pixels_sha256"] = image.pixels.hex()
        yield row
