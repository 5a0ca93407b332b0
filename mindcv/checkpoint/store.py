"""The checkpoints of a run folder: complete and verified, or not there.

A save survives a kill at any moment:

1. all files are written into `.saving-<pid>/`, hashed on the way, and flushed to disk;
2. the manifest with sizes and hashes joins them: from now on the save can be completed;
3. the files move into the folder, the manifest last. Its name there is the seal.

A removal first renames the manifest to `<name>.pruned`, then removes the files, then the manifest.
`recover` completes or cleans up what a killed process left in between.

The folder may come from somebody else: a manifest lists files of its own checkpoint only (see
`read_manifest`), and no link in the folder is followed.
"""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import WeightsError
from ..process.files import is_real_folder
from .manifest import PRUNED, STATE, Manifest, position_of, read_manifest, seal

BEST = "_best"  # follows the model in the name of the best weights
_SAVING = ".saving-"

_logger = logging.getLogger(__name__)


def _is_checkpoint(name: str) -> bool:
    return position_of(name) is not None or name.endswith(BEST)


class CheckpointStore:
    """The checkpoints in a folder, where only one process may write (see `FolderLock`).

    Methods raise WeightsError, naming the file, for a damaged checkpoint or a failed change.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of all checkpoints, newest first, whether intact or not.

        Another program's `notes-2024_11.json` is not one of them.
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
        """Return whether a .json is a manifest, by the weights beside it or by its content."""
        if f"{name}.ckpt" in files or f"{name}{STATE}" in files:
            return True
        try:
            return bool(read_manifest(self.folder / f"{name}.json"))
        except WeightsError:
            return False

    def unsealed(self) -> list[Path]:
        """Return weight files that are named like a checkpoint but have no state beside them.

        Older versions wrote such files; no run can resume from them.
        """
        known = set(self.names())
        paths = sorted(self.folder.glob("*.ckpt"))
        return [path for path in paths if position_of(path.stem) and path.stem not in known]

    def verify(self, name: str) -> Manifest:
        """Return the manifest of a checkpoint after checking its files."""
        manifest = read_manifest(self.folder / f"{name}.json")
        manifest.check_files()
        return manifest

    def newest(self) -> tuple[Manifest | None, list[str]]:
        """Return the newest checkpoint that verifies, and the problems of newer ones.

        It is (None, []) if the folder has no checkpoint.
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
        """Write a checkpoint; if that fails, the folder is unchanged.

        Args:
            name: without suffix; an existing checkpoint of this name is replaced as a whole.
            writers: file name -> function that writes its content to a stream.
            record: JSON values for the manifest.
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
        """Remove a checkpoint, its seal first."""
        path = self.folder / f"{name}.json"
        try:
            self._remove_files(path.rename(path.with_suffix(PRUNED)))
        except OSError as error:
            raise WeightsError(f"checkpoint {path} cannot be removed: {error.strerror}") from None

    def set_aside(self, name: str) -> Path:
        """Move a damaged checkpoint to `damaged-<n>/`: its name is free and nothing is lost."""
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
        """Complete or remove what killed processes left; return lines to log.

        Call it with the folder locked: a save in progress would look the same.
        """
        lines = []
        try:
            for saving in sorted(self.folder.glob(f"{_SAVING}*")):
                if not is_real_folder(saving):
                    raise OSError(errno.ENOTDIR, "it is not a folder", str(saving))
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
        """Finish a save that got as far as its manifest, if its files are intact."""
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
        try:
            for name in read_manifest(pruned).files:
                (self.folder / name).unlink(missing_ok=True)
        except WeightsError as error:
            _logger.warning("%s; the files of this name are left where they are", error)
        pruned.unlink()


class _HashedFile:
    """Counts and hashes what is written; it cannot seek."""

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
    """Write a file and flush it to disk; return the size and SHA-256 of what it should hold."""
    with path.open("wb") as file:
        hashed = _HashedFile(file)
        writer(hashed)
        file.flush()
        os.fsync(file.fileno())
    return hashed.size, hashed.digest.hexdigest()


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
