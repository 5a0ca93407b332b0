"""The images below files and folders that somebody names, with or without classes."""

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError
from .folder import IMAGE_SUFFIXES, images_below


def find_images(places: Sequence[str]) -> list[str]:
    """Return the given files, and the images below the given folders, each path once.

    Folders are searched as those of a dataset are (see `walk`), including links to folders;
    the plots in a run folder are skipped. A file given by name may have any suffix and is not
    checked here.

    Raises:
        DataError: none of them exists, or a folder holds no image or cannot be read.
    """
    found = {}
    if not any(map(os.path.lexists, places)):  # nothing needs to be downloaded and compiled
        raise DataError(f"no file or folder {', '.join(map(repr, places[:5]))}")
    for place in places:
        inside = _search(place) if os.path.isdir(place) else [place]
        if not inside:
            raise DataError(
                f"folder {place!r} holds no image ({', '.join(IMAGE_SUFFIXES)}), or it is a run "
                "folder, whose plots are not classified"
            )
        for path in inside:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _search(folder: str) -> list[str]:
    """Return the sorted images below a folder, a folder's own before its subfolders'."""
    found = [os.fsdecode(path) for path in images_below(Path(folder), ".")]
    paths = [os.path.join(folder, os.path.relpath(path, ".")) for path in found]
    plots = {place for place in set(map(os.path.dirname, paths)) if _is_run_folder(place)}
    return sorted((path for path in paths if os.path.dirname(path) not in plots), key=_sort_key)


def _is_run_folder(place: str) -> bool:
    return all(os.path.isfile(os.path.join(place, name)) for name in ("config.yaml", "metrics.csv"))


def _sort_key(path: str) -> list[tuple[bool, str]]:
    *folders, name = path.split(os.sep)
    return [*((True, folder) for folder in folders), (False, name)]
