"""Checkpoints that are complete and verified, or not there. Nothing here imports mindspore."""

from .choose import choose_checkpoint
from .keep import Kept, superfluous
from .lock import FolderLock, open_run_folder
from .manifest import STATE, Manifest, read_manifest
from .record import check_record
from .store import CheckpointStore, Place, place_of
from .writer import BackgroundWriter

__all__ = [
    "STATE",
    "BackgroundWriter",
    "CheckpointStore",
    "FolderLock",
    "Kept",
    "Manifest",
    "Place",
    "check_record",
    "choose_checkpoint",
    "open_run_folder",
    "place_of",
    "read_manifest",
    "superfluous",
]
