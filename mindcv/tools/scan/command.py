"""`python -m mindcv scan`: check the images of a dataset before training."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import ConfigError, DataError
from ...process.files import replacing, writing
from ..arguments import at_least, check_output, file_path


def add_arguments(parser: ArgumentParser) -> None:
    from .findings import PROBLEMS

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

    from . import Findings, list_images, scan
    from .findings import PROBLEMS
    from .report import report_lines, summary, write_csv, write_json

    unknown = [kind for kind in arguments.allow if kind not in PROBLEMS]
    if unknown:
        raise ConfigError(
            f"allow: {unknown[0]!r} is unknown; expected some of {', '.join(PROBLEMS)}"
        )
    for path in arguments.report:
        check_output("report", path, (".json", ".csv"), force=True)
    splits = arguments.splits.split(",") if arguments.splits is not None else None
    listing = list_images(arguments.folder, splits)
    shown = sys.stderr.isatty()
    with tqdm(total=len(listing), unit=" images", disable=not shown, file=sys.stderr) as bar:
        table = scan(listing, arguments.workers, arguments.pixels, bar.update)
    findings = Findings(listing, table)
    problems = findings.problems
    serious = {kind: count for kind, count in problems.items() if kind not in arguments.allow}
    lines = list(report_lines(findings))
    if not serious:
        lines += ["", f"allowed: {summary(problems)}" if problems else "no problems found"]
    print("\n".join(lines), flush=True)
    for path in arguments.report:
        with writing(path, ConfigError), replacing(Path(path)) as stand_in:
            (write_json if path.endswith(".json") else write_csv)(stand_in, findings)
    if serious:
        raise DataError(f"{arguments.folder}: {summary(serious)}")
