"""Weight files: reading those of any library, naming schemes, what travels with the weights."""

from .metadata import Metadata, Preprocessing

__all__ = ["Metadata", "Preprocessing"]
