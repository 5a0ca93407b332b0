"""A lock that lets only one process at a time write into a folder."""

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, FolderInUse
from ..process.files import open_regular, remove_unfinished, writing

NAME = ".lock"
# Written by way of a temporary file, which a killed run leaves.
_REPLACED = ("classes.json", "config.yaml", "metrics.csv")

_logger = logging.getLogger(__name__)


def open_run_folder(path: str) -> Path:
    """Create the run folder, and lock it until the process ends.

    Raises:
        ConfigError: it cannot be written, or another run uses it.
    """
    folder = Path(path)
    with writing(f"ckpt_save_dir {folder}", ConfigError, "; name another folder"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(
                f"ckpt_save_dir {folder}: it, or a part of it, is a file; name a folder"
            ) from None
    FolderLock(folder)
    remove_unfinished(folder, _REPLACED)
    return folder


class FolderLock:
    """Locks an existing folder until the process ends, however it ends.

    It takes two locks of the operating system, so that a killed process leaves none behind: one on
    the file `.lock`, whose text names the holder, and one on the folder itself, which survives the
    removal of that file. Cluster file systems may support only the first. Programs that the process
    starts inherit neither. `called` is the folder's name in messages (default: ckpt_save_dir and
    its path).

    Raises:
        FolderInUse: another process, named in the message, holds the folder.
        ConfigError: it cannot be written.
    """

    def __init__(self, folder: Path, called: str | None = None):
        called = called or f"ckpt_save_dir {folder}"
        self._handles: list[int] = []
        try:
            self._handles.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            # Not a Python file object: closing it would unlock the file.
            self._handles.append(open_regular(folder / NAME, os.O_RDWR | os.O_CREAT))
        except OSError as error:
            self.release()
            raise ConfigError(
                f"{called} cannot be written: {error.filename}: {error.strerror}; name another "
                "folder"
            ) from None
        itself, file = self._handles
        with contextlib.suppress(OSError):
            self._take(fcntl.flock, itself, called)
        try:
            self._take(fcntl.lockf, file, called)
        except OSError as error:
            # Some cluster file systems have no locks.
            _logger.warning(
                "%s cannot be locked (%s): take care that no second run writes there",
                called,
                error.strerror,
            )
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {started}\n"
        with contextlib.suppress(OSError):  # a full disk: later writes report it
            os.ftruncate(file, 0)
            os.write(file, holder.encode())

    def release(self) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def _take(self, lock: Callable[[int, int], None], handle: int, called: str) -> None:
        """Take one of the two locks; OSError if the file system does not support it."""
        try:
            lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(self._handles[-1], 1000).decode(errors="replace").strip()
            self.release()
            raise FolderInUse(
                f"{called} is in use by {holder or 'another process'}; wait for it, "
                "stop it, or name another folder"
            ) from None
