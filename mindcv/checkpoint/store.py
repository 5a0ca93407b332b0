"""The checkpoints of a run folder: complete and verified, or not there.

Saving, each step surviving a kill at any moment:

1. all files are written into `.saving-<pid>/`, hashed on their way, and flushed to the disk;
2. the manifest with sizes and hashes joins them there: from now on the save can be completed;
3. the files move into the folder, the manifest last. Its name there is the seal.

Removing begins with the manifest: it is renamed to `<name>.pruned`, then the files go, then it.
`recover` completes or clears away what a killed process left between these steps.

The folder may come from somebody else. A manifest names files of its own checkpoint only (see
`read_manifest`), and no link in the folder is followed.
"""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError
from ..process.files import is_real_folder
from .manifest import PRUNED, STATE, Manifest, read_manifest, seal
from .position import position_of

BEST = "_best"  # ends the name of the best weights, behind the model's
_SAVING = ".saving-"

_logger = logging.getLogger(__name__)


def _is_checkpoint(name: str) -> bool:
    return position_of(name) is not None or name.endswith(BEST)


class CheckpointStore:
    """The checkpoints in one folder.

    Args:
        folder: exists; one process at a time writes there (see `FolderLock`).
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all checkpoints, newest first, whether they are intact or not.

        Another program's `notes-2024_11.json` is none.
        """
        found = {}
        files = {path.name for path in self.folder.iterdir()}
        for file in files:
            name = file.removesuffix(".json").removesuffix(STATE)
            place = position_of(name) if name != file else None
            if place and (file != f"{name}.json" or self._is_ours(name, files)):
                found[name] = place
        return sorted(found, key=found.get, reverse=True)

    def _is_ours(self, name: str, files: Container[str]) -> bool:
        """Tell whether a .json is a manifest: by the weights beside it, or by its content."""
        if f"{name}.ckpt" in files or f"{name}{STATE}" in files:
            return True
        try:
            return bool(read_manifest(self.folder / f"{name}.json"))
        except WeightsError:
            return False

    def unsealed(self) -> list[Path]:
        """Return files that look like a checkpoint and have no state beside them.

        Older versions wrote such; they hold weights, but no run can go on from them.
        """
        known = set(self.names())
        paths = sorted(self.folder.glob("*.ckpt"))
        return [path for path in paths if position_of(path.stem) and path.stem not in known]

    def verify(self, name: str) -> Manifest:
        """Return the manifest of a checkpoint whose files are as they were written.

        Raises:
            WeightsError: they are not, or the manifest is not; the message names the file.
        """
        manifest = read_manifest(self.folder / f"{name}.json")
        manifest.check_files()
        return manifest

    def newest(self) -> tuple[Manifest | None, list[str]]:
        """Return the newest checkpoint that verifies, and what is wrong with newer ones.

        None without problems: the folder has no checkpoint.
        """
        problems = []
        for name in self.names():
            try:
                return self.verify(name), problems
            except WeightsError as error:
                problems.append(str(error))
        return None, problems

    def save(
        self,
        name: str,
        writers: Mapping[str, Callable[[BinaryIO], None]],
        record: Mapping[str, Any],
    ) -> Manifest:
        """Write a checkpoint.

        Args:
            name: of the manifest, without suffix; one that is there already is replaced as a whole.
            writers: file name -> function that writes its content to a stream.
            record: JSON values to keep in the manifest.

        Raises:
            WeightsError: it cannot be written; nothing in the folder was changed.
        """
        saving = self.folder / f"{_SAVING}{os.getpid()}"
        try:
            shutil.rmtree(saving, ignore_errors=True)
            saving.mkdir()
            files = {file: _write(saving / file, writer) for file, writer in writers.items()}
            content = seal(files, record)
            _write(saving / f"{name}.json", lambda stream: stream.write(content))
            _flush_folder(saving)
            self._move(saving, name, files)
            shutil.rmtree(saving, ignore_errors=True)
            return read_manifest(self.folder / f"{name}.json")
        except (OSError, ValueError) as error:
            shutil.rmtree(saving, ignore_errors=True)
            if isinstance(error, WeightsError):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise WeightsError(
                f"checkpoint {self.folder / name}.ckpt cannot be written: {reason}; older ones "
                "are untouched. Make room, or name another ckpt_save_dir"
            ) from None

    def remove(self, name: str) -> None:
        """Remove a checkpoint, its seal first.

        Raises:
            WeightsError: a file cannot be removed.
        """
        path = self.folder / f"{name}.json"
        try:
            self._remove_files(path.rename(path.with_suffix(PRUNED)))
        except OSError as error:
            raise WeightsError(f"checkpoint {path} cannot be removed: {error.strerror}") from None

    def set_aside(self, name: str) -> Path:
        """Rename a damaged checkpoint's files, so that its name is free and nothing is lost.

        Raises:
            WeightsError: they cannot be renamed.
        """
        number = 1
        while os.path.lexists(target := self.folder / f"damaged-{number}"):
            number += 1
        try:
            target.mkdir()
            for suffix in (".json", ".ckpt", STATE):
                path = self.folder / f"{name}{suffix}"
                if os.path.lexists(path):
                    path.rename(target / path.name)
        except OSError as error:
            raise WeightsError(
                f"the damaged checkpoint {self.folder / name} cannot be moved to {target}: "
                f"{error.strerror}; make the folder writable, or move its files away"
            ) from None
        return target

    def recover(self) -> list[str]:
        """Complete or clear away what killed processes left; return lines that tell of it.

        Call it with the folder locked: what a living process is writing would look the same.

        Raises:
            WeightsError: it can be neither.
        """
        lines = []
        try:
            for saving in sorted(self.folder.glob(f"{_SAVING}*")):
                if not is_real_folder(saving):
                    raise OSError(errno.ENOTDIR, "it is no folder", str(saving))
                for path in sorted(saving.glob("*.json")):
                    lines.append(self._complete(saving, path))
                shutil.rmtree(saving)
            for path in sorted(self.folder.glob(f"*{PRUNED}")):
                if _is_checkpoint(path.stem):
                    self._remove_files(path)
        except OSError as error:
            raise WeightsError(
                f"{error.filename}, left by a killed run, cannot be put in place or removed: "
                f"{error.strerror}; remove it, or make its folder writable"
            ) from None
        return lines

    def _complete(self, saving: Path, path: Path) -> str:
        """Finish a save that had got as far as its manifest, if its files are whole."""
        begin = f"{path.stem} was being saved when a run was killed"
        if not _is_checkpoint(path.stem):
            return f"{path}, which no run writes, is removed"
        try:
            manifest = read_manifest(path)
        except WeightsError:
            return f"{begin}; what there was of it is removed"
        try:
            manifest.check_files(elsewhere=self.folder)
        except WeightsError as error:
            if not os.path.lexists(self.folder / path.name):
                for name in manifest.files:
                    (self.folder / name).unlink(missing_ok=True)
            return f"{begin}; it is removed: {error}"
        self._move(saving, path.stem, manifest.files)
        return f"{begin}; it is whole and now in place"

    def _move(self, saving: Path, name: str, files: Mapping[str, tuple]) -> None:
        for file in files:
            if os.path.lexists(saving / file):
                os.replace(saving / file, self.folder / file)
        _flush_folder(self.folder)
        os.replace(saving / f"{name}.json", self.folder / f"{name}.json")
        _flush_folder(self.folder)

    def _remove_files(self, pruned: Path) -> None:
        for name in _files_of(pruned):
            (self.folder / name).unlink(missing_ok=True)
        pruned.unlink()


def _files_of(pruned: Path) -> Iterator[str]:
    """Yield the files to remove with a manifest, unless it is damaged: then they stay."""
    try:
        yield from read_manifest(pruned).files
    except WeightsError as error:
        _logger.warning("%s; the files of this name are left where they are", error)


class _HashedFile:
    """A file that counts and hashes what is written; it does not seek."""

    def __init__(self, file: BinaryIO):
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def write(self, content) -> int:
        self._file.write(content)
        self.digest.update(content)
        size = memoryview(content).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        self._file.flush()


def _write(path: Path, writer: Callable[[BinaryIO], None]) -> tuple[int, str]:
    """Write a file through to the disk; return its size and SHA-256 as they were meant."""
    with path.open("wb") as file:
        hashed = _HashedFile(file)
        writer(hashed)
        file.flush()
        os.fsync(file.fileno())
    return hashed.size, hashed.digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Bring new names of a folder through to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
