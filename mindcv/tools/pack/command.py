"""`python -m mindcv pack`: an image folder as a few large MindRecord files."""

import sys
from argparse import ArgumentParser, Namespace

from ...errors import ConfigError
from ...names import plural
from ..arguments import at_least, file_path, refuse_idle

_PACKING = ("splits", "cap", "quality", "shards", "skip_bad")  # options


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = (
        "Read it with `--dataset mindrecord --data_dir OUT`, or with MindSpore's own MindDataset. "
        "After an interruption the same command goes on where it stopped."
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=file_path,
        metavar="SRC",
        help="image folder: train/ and val/, or class folders",
    )
    parser.add_argument(
        "out", nargs="?", type=file_path, metavar="OUT", help="folder to write, new or unfinished"
    )
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="folders of SRC to pack")
    parser.add_argument(
        "--cap",
        type=at_least(1),
        metavar="PIXELS",
        help="resize larger images to this shorter side, as JPEG (default: the files' own bytes)",
    )
    parser.add_argument("--quality", type=int, help="of those JPEGs, 1 to 100 (default 90)")
    parser.add_argument(
        "--shards", type=at_least(1), help="files of a split (default: one for each 512 MB)"
    )
    parser.add_argument(
        "--skip_bad",
        action="store_true",
        default=None,
        help="leave out images that cannot be decoded, listed in OUT/bad_images.csv",
    )
    parser.add_argument("--workers", type=at_least(1), help="processes (default: one per core)")
    parser.add_argument(
        "--verify",
        type=file_path,
        metavar="OUT",
        help="check the hashes of a packed dataset, and do nothing else",
    )


def run(arguments: Namespace) -> None:
    if arguments.verify and arguments.source:
        raise ConfigError("command line: --verify takes the packed folder, and no SRC")
    if not arguments.verify and not arguments.out:
        raise ConfigError("command line: give SRC and OUT, or --verify OUT")
    if arguments.verify:
        refuse_idle(arguments, _PACKING, "is for packing; --verify only compares hashes")
    elif not arguments.cap:
        refuse_idle(arguments, ("quality",), "is of the images that --cap PIXELS resizes")
    from .dataset import pack, verify

    out = arguments.verify or arguments.out
    if arguments.verify:
        packed = verify(out, arguments.workers)
    else:
        given = {name: getattr(arguments, name) for name in (*_PACKING, "workers")}
        options = {name: value for name, value in given.items() if value is not None}
        try:
            packed = pack(arguments.source, out, **options)
        except KeyboardInterrupt:
            print("finished shards are kept; the same command goes on", file=sys.stderr)
            raise
    for name, split in packed.splits.items():
        size = sum(shard.bytes + shard.index_bytes for shard in split.shards)
        skipped = f", {plural(split.skipped, 'bad image')} left out" if split.skipped else ""
        print(
            f"{out}/{name}: {plural(split.images, 'image')} of "
            f"{plural(len(packed.class_names), 'class')} in {plural(len(split.shards), 'shard')}, "
            f"{size / 2**20:.1f} MB{skipped}"
        )
    if arguments.verify:
        print("all files are intact")
