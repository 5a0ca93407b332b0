"""Files that commands write: checked before the work, complete or not there after it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError


def check_output(
    option: str, path: str, suffixes: Sequence[str], force: bool, inputs: Sequence[str] = ()
) -> None:
    """Refuse an output that could not be written in the end.

    Args:
        option: its name on the command line.
        suffixes: those it may end in; empty: any.
        force: an existing file may be replaced.
        inputs: files that may not.

    Raises:
        ConfigError: another suffix, no such folder, a folder of that name, the file exists, or it
            is an input.
    """
    place = Path(path)
    if os.path.realpath(path) in map(os.path.realpath, inputs):
        raise ConfigError(f"{option} {path!r} is an input file; choose another name")
    if suffixes and not (path.endswith(tuple(suffixes)) and place.stem):
        raise ConfigError(f"{option} {path!r}: expected a name ending in {' or '.join(suffixes)}")
    if not place.parent.is_dir():
        raise ConfigError(f"{option} {path!r}: there is no folder {str(place.parent)!r}")
    if place.is_dir():
        raise ConfigError(f"{option} {path!r} is a folder; give the name of a file")
    if place.exists() and not force:
        raise ConfigError(f"{option} {path!r} exists already; choose another name or add --force")
    if not os.access(place.parent, os.W_OK):
        raise ConfigError(f"{option} {path!r}: the folder {str(place.parent)!r} is not writable")


@contextmanager
def appearing_when_complete(*paths: str) -> Iterator[list[Path]]:
    """Give stand-ins to write to, in a folder beside; they take their places if the body ends well.

    Raises:
        ConfigError: a file cannot be written; those of the same names are untouched.
    """
    unfinished = Path(paths[0]).parent / f".unfinished-{os.getpid()}"
    stand_ins = [unfinished / Path(path).name for path in paths]
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process of the same number
        unfinished.mkdir()
        rights = unfinished.stat().st_mode & 0o666  # as umask has it for a new file
        yield stand_ins
        for stand_in, path in zip(stand_ins, paths):
            stand_in.chmod(rights)  # MindSpore leaves its files readable for their owner alone
            os.replace(stand_in, path)
    except OSError as error:
        raise ConfigError(f"{paths[0]} cannot be written: {error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
