"""One run in a folder at a time."""

import fcntl
import logging
import os
import socket
import time
from pathlib import Path

from ..errors import ConfigError

NAME = ".lock"

_logger = logging.getLogger(__name__)


class FolderLock:
    """Hold a run folder until the process ends, however it ends.

    The lock is the operating system's (`fcntl.lockf`), so a process that is killed leaves none
    behind; the file's text only tells who holds it. Child processes do not inherit it.

    Args:
        folder: exists.

    Raises:
        ConfigError: another process, named in the message, holds the folder.
    """

    def __init__(self, folder: Path):
        path = folder / NAME
        try:
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"ckpt_save_dir {folder} cannot be written: {error.strerror}"
            ) from None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise ConfigError(
                f"ckpt_save_dir {folder} is in use by {holder}; wait for it, stop it, or name "
                "another folder"
            ) from None
        except OSError as error:
            # Some file systems of clusters have no locks.
            _logger.warning(
                "%s cannot be locked (%s): take care that no second run writes there",
                folder,
                error.strerror,
            )
        self._file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}, since {started}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have the folder."""
        self._file.close()
