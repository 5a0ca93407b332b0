"""One process that writes into a folder at a time."""

import contextlib
import fcntl
import logging
import os
import socket
import time
from pathlib import Path

from ..errors import ConfigError

NAME = ".lock"

_logger = logging.getLogger(__name__)


def open_run_folder(path: str) -> Path:
    """Create the run folder, and hold it until the process ends.

    Raises:
        ConfigError: it cannot be written, or another run holds it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"ckpt_save_dir {folder}: it, or a part of it, is a file; name a folder"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"ckpt_save_dir {folder} cannot be written: {error.strerror}; name another folder"
        ) from None
    FolderLock(folder)
    return folder


class FolderLock:
    """Hold a folder, that of a run for example, until the process ends, however it ends.

    The lock is the operating system's (`fcntl.lockf`), so a process that is killed leaves none
    behind; the file's text only tells who holds it. Child processes do not inherit it.

    Args:
        folder: exists.
        called: what the messages call it; None: ckpt_save_dir and its path.

    Raises:
        ConfigError: another process, named in the message, holds the folder; or it cannot be
            written.
    """

    def __init__(self, folder: Path, called: str | None = None):
        called = called or f"ckpt_save_dir {folder}"
        try:
            # No Python file, whose end would unlock it.
            self._handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigError(
                f"{called} cannot be written: {error.strerror}; name another folder"
            ) from None
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(self._handle, 1000).decode(errors="replace").strip()
            os.close(self._handle)
            raise ConfigError(
                f"{called} is in use by {holder or 'another process'}; wait for it, "
                "stop it, or name another folder"
            ) from None
        except OSError as error:
            # Some file systems of clusters have no locks.
            _logger.warning(
                "%s cannot be locked (%s): take care that no second run writes there",
                called,
                error.strerror,
            )
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {started}\n"
        with contextlib.suppress(OSError):  # a full disk: what needs the room will tell
            os.ftruncate(self._handle, 0)
            os.write(self._handle, holder.encode())

    def release(self) -> None:
        """Let others have the folder."""
        os.close(self._handle)
