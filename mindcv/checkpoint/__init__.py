"""Checkpoints are complete and verified, or not there. Nothing here imports mindspore."""

from .choose import choose_checkpoint
from .lock import FolderLock, open_run_folder
from .manifest import STATE, Manifest, Position, check_record, position_of, read_manifest
from .store import CheckpointStore
from .writer import BackgroundWriter, CheckpointWriter, Kept, superfluous

__all__ = [
    "STATE",
    "BackgroundWriter",
    "CheckpointStore",
    "CheckpointWriter",
    "FolderLock",
    "Kept",
    "Manifest",
    "Position",
    "check_record",
    "choose_checkpoint",
    "open_run_folder",
    "position_of",
    "read_manifest",
    "superfluous",
]
